"""The page in a headless Chromium, whose microphone is a degraded recording.

apt-get install chromium && pip install playwright
python -m fingerprint.lab onnxruntime-web        # for fingerprints computed in the browser
python -m pytest tests/test_serving_page.py      # AXE=.../axe.min.js checks accessibility, too
"""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from conftest import make_song

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
pytest.importorskip("playwright.sync_api", reason="needs playwright")

from playwright.sync_api import sync_playwright
from serving_world import TOKEN, Line, Running, cli_server

from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.serving import wire
from fingerprint.serving.page import STATIC
from fingerprint.serving.problems import KINDS
from fingerprint.types import Clip, Outline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
HAS_RUNTIME = (STATIC / "ort" / "ort-wasm-simd-threaded.wasm").is_file()
needs_runtime = pytest.mark.skipif(
    not HAS_RUNTIME,
    reason="needs ONNX Runtime for browsers: python -m fingerprint.lab onnxruntime-web",
)
NAME = "song4"


@pytest.fixture(scope="module")
def server(music_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page") / "library"
    command = [sys.executable, "-m", "fingerprint", "index", str(music_folder)]
    subprocess.run(
        [*command, "--library", str(folder), "--jobs", "1"], check=True, capture_output=True
    )
    with cli_server(folder) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Its microphone hears song 4 with noise 15 dB below it, over and over."""
    file = tmp_path_factory.mktemp("microphone") / "heard.wav"
    song = make_song(4, 20, 22_050)[5 * 22_050 : 17 * 22_050]
    noise = np.random.default_rng(1).standard_normal(len(song))
    loud = float(np.sqrt(np.mean(song**2))) * 10 ** (-15 / 20)
    soundfile.write(file, 0.5 * (song + loud * noise), 22_050, subtype="PCM_16")
    with sync_playwright() as made:
        found = made.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={file}",
            ],
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    """A phone's page, in which nothing may go wrong unseen."""
    context = browser.new_context(
        viewport={"width": 360, "height": 740},
        locale="en-GB",
        bypass_csp=bool(os.environ.get("AXE")),
    )
    found, errors = context.new_page(), []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on(
        "console",
        lambda said: errors.append(said.text) if "Content Security" in said.text else None,
    )
    yield found
    context.close()
    assert errors == []


def open_(page: Any, server: Running | Line, query: str = "") -> None:
    page.goto(f"{server.url}{'' if query.startswith('/') else '/'}{query}")
    page.wait_for_selector("#state:not(:empty)", state="attached")


def pressed(page: Any) -> float:
    """Seconds from the press to the right title on the page."""
    begin = monotonic()
    page.click("#button")
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    seconds = monotonic() - begin
    assert NAME in page.inner_text("#result h2")
    print(f"the right title {seconds:.1f} s after the press")  # noqa: T201 - shown by pytest -rP
    return seconds


def accessible(page: Any) -> None:
    """No violation that axe finds, where it is at hand; and nothing wider than the screen."""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if file := os.environ.get("AXE"):
        page.evaluate(Path(file).read_text())
        found = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def wait_for_text(page: Any, selector: str, words: str) -> None:
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector).textContent.includes(words)",
        arg=[selector, words],
        timeout=60_000,
    )


def requests_of(page: Any) -> list[str]:
    """What the page asks for, from now on: method and path; and its WebSockets."""
    found: list[str] = []
    page.on("request", lambda one: found.append(f"{one.method} {one.url.split('?')[0]}"))
    page.on("websocket", lambda one: found.append(f"WS {one.url.split('?')[0]}"))
    return found


def test_the_page_names_music_by_sending_audio(page: Any, server: Running) -> None:
    asked = requests_of(page)
    open_(page, server, "?prints=off")
    accessible(page)
    pressed(page)
    assert any(one.startswith("WS ") and one.endswith("/v1/listen") for one in asked)
    accessible(page)
    assert "song4" in page.inner_text("#history")
    for view, row in (("library", "#tracks li"), ("log", "#entries li")):
        page.click(f"nav a[href='#{view}']")
        page.wait_for_selector(row)
        accessible(page)
    page.click("nav a[href='#library']")
    page.fill("#q", "song2")
    page.wait_for_function("() => document.querySelectorAll('#tracks li').length === 1")


def test_a_browser_without_web_assembly_sends_sound(page: Any, server: Running) -> None:
    page.add_init_script("delete globalThis.WebAssembly")
    asked = requests_of(page)
    open_(page, server)
    pressed(page)
    assert any(one.startswith("WS ") for one in asked)
    page.click(".options summary")
    assert "is sent to this server" in page.inner_text("#where")


@needs_runtime
def test_the_page_names_music_without_sending_audio(page: Any, server: Running) -> None:
    open_(page, server)
    assert page.evaluate("import('/prints-here.js').then((one) => one.ready())")
    asked = requests_of(page)
    pressed(page)
    assert not any(one.startswith("WS ") for one in asked)
    assert f"POST {server.url}/v1/identify" in asked
    page.click(".options summary")
    assert "stays on this device" in page.inner_text("#where")


RAISED = 2 ** (1 / 12)
COMPUTED = """async ([text, rate, raised]) => {
    const here = await import('/prints-here.js');
    await here.ready();
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const query = await here.query(new Float32Array(bytes.buffer), rate, [1, raised]);
    let out = '';
    for (const byte of new Uint8Array(query)) out += String.fromCharCode(byte);
    return btoa(out);
}"""


@needs_runtime
@pytest.mark.parametrize(("rate", "least"), [(8_000, 0.999), (48_000, 0.99)])
def test_fingerprints_of_the_browser_are_those_of_python(
    page: Any, server: Running, rate: int, least: float
) -> None:
    """Of the same samples; another resampler alone makes less of it, for the model has 8 bits."""
    open_(page, server)
    sound = soxr.resample(make_song(5, 6, 22_050), 22_050, rate).astype(np.float32)
    sent = base64.b64encode(sound.tobytes()).decode()
    answer = page.evaluate(COMPUTED, [sent, rate, RAISED])
    model = Fingerprinter.default("cpu")
    model_id, found = wire.decode(base64.b64decode(answer), model.sample_rate, model.dim)
    assert model_id == model.id
    clip = Clip(soxr.resample(sound, rate, 8_000, quality="HQ"), 8_000)
    assert _lowest_cosine(found, wire.outline(clip, model)) >= least
    assert _lowest_cosine(found.at_speed(RAISED), wire.outline(clip, model, RAISED)) >= 0.99
    here = wire.outline(clip, model)
    assert np.abs(found.heights - here.heights).mean() < 0.03
    assert np.mean(found.peaks == here.peaks) > 0.9


def _lowest_cosine(one: Outline, other: Outline) -> float:
    assert one.rows.hop == pytest.approx(other.rows.hop)
    return float(np.sum(one.rows.vectors * other.rows.vectors, axis=1).min())


@pytest.mark.parametrize("query", ["?prints=off", pytest.param("", marks=needs_runtime)])
def test_the_seconds_before_the_press_are_used_and_stay_in_the_page_until_then(
    page: Any, server: Running, query: str
) -> None:
    open_(page, server, query)
    page.evaluate("import('/prints-here.js').then((one) => one.ready())")
    asked, pieces, queries = requests_of(page), list[int](), list[float]()
    page.on("websocket", lambda one: one.on("framesent", lambda sent: pieces.append(len(sent))))
    page.on("request", lambda one: queries.extend(_seconds_in(one)))
    page.click(".options summary")
    page.check("#before")
    page.wait_for_timeout(7_000)  # of sound
    assert asked == []
    pressed(page)
    rate = page.evaluate("new AudioContext().sampleRate")
    assert pieces.count(2 * rate) >= 5 if query else queries[0] >= 5


def _seconds_in(request: Any) -> list[float]:
    """The length of a query that the browser has computed: of its first view (`wire`)."""
    if request.headers.get("content-type") != wire.MEDIA_TYPE:
        return []
    return np.frombuffer(request.post_data_buffer[48:56], "<f8").tolist()


def test_a_file_is_named_and_a_long_one_becomes_a_timeline(
    page: Any, server: Running, music_folder: Path, tmp_path: Path
) -> None:
    open_(page, server, "?prints=off")
    page.set_input_files("#file", str(music_folder / "song1.flac"))
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    assert "song1" in page.inner_text("#result h2")
    mix = tmp_path / "mix.wav"
    parts = [make_song(number, 20, 22_050) for number in (0, 3, 2)]
    soundfile.write(mix, np.concatenate(parts), 22_050)
    page.set_input_files("#file", str(mix))
    page.wait_for_selector("#timeline:not([hidden]) li", timeout=60_000)
    page.wait_for_function("() => document.querySelector('#state').textContent.includes('found')")
    listed = page.inner_text("#timeline")
    assert all(f"song{number}" in listed for number in (0, 3, 2))


DROP = """async ([bytes, name]) => {
    const files = new DataTransfer();
    files.items.add(new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], name));
    const dropped = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
    document.body.dispatchEvent(dropped);
}"""


def test_a_file_is_dropped_whatever_its_name(
    page: Any, server: Running, music_folder: Path
) -> None:
    """Where a long name is cut, no half of a character may be left."""
    open_(page, server, "?prints=off#library")
    content = base64.b64encode((music_folder / "song1.flac").read_bytes()).decode()
    page.evaluate(DROP, [content, f"{'🎵' * 100}.flac"])
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    assert "song1" in page.inner_text("#result h2")


def test_texts_are_in_every_language_and_titles_are_never_markup(
    page: Any, server: Running
) -> None:
    open_(page, server)
    page.select_option("#language", "de")
    assert page.inner_text("h1 >> nth=0") == "Was läuft gerade?"
    missing = page.evaluate(
        """async () => {
            const text = await (await fetch('/texts.js')).text();
            const [, en, de] = text.match(/en: \\{([^]*?)\\n  \\},\\n  de: \\{([^]*?)\\n  \\},/);
            const keys = (part) => [...part.matchAll(/(\\w+): "/g)].map(([, key]) => key).sort();
            return [keys(en), keys(de)];
        }"""
    )
    assert missing[0] == missing[1]
    never = {"invalid-request", "bad-request", "method-not-allowed", "not-a-body"}
    never |= {"head-too-large", "wrong-host", "cross-origin"}  # of the server's own page
    problems = {f"problem_{kind.replace('-', '_')}" for kind in KINDS.keys() - never}
    assert problems <= set(missing[0])
    shown = page.evaluate(
        """async () => {
            const { el } = await import('/dom.js');
            return el('p', {}, '<img src=x onerror=alert(1)>').innerHTML;
        }"""
    )
    assert shown.startswith("&lt;img")


def test_the_page_sends_no_requests_to_other_hosts(page: Any, server: Running) -> None:
    asked = requests_of(page)
    open_(page, server)
    page.goto(f"{server.url}/docs")
    page.wait_for_selector("article")
    accessible(page)
    assert all(one.split()[1].startswith((server.url, "blob:")) for one in asked)


def test_the_button_works_by_keyboard(page: Any, server: Running) -> None:
    open_(page, server, "?prints=off")
    page.focus("#button")
    page.keyboard.press("Enter")
    assert page.get_attribute("#button", "aria-pressed") == "true"
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    assert page.get_attribute("#button", "aria-pressed") == "false"


@pytest.mark.parametrize("query", ["?prints=off", pytest.param("", marks=needs_runtime)])
def test_connection_lost_while_listening_costs_no_answer(
    page: Any, server: Running, query: str
) -> None:
    """As on a train. What was heard meanwhile is looked up when the connection is back."""
    with Line(server) as line:
        open_(page, line, query)
        page.evaluate("import('./prints-here.js').then((one) => one.ready())")
        page.click("#button")
        wait_for_text(page, "#state", "Listening")
        line.cut()
        wait_for_text(page, "#state", "No connection")
        line.mend()
        page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
        assert NAME in page.inner_text("#result h2")


def test_the_log_is_whole_again_after_the_connection_broke(
    page: Any, server: Running, music_folder: Path
) -> None:
    song1 = (music_folder / "song1.flac").read_bytes()
    server.ask("POST", "/v1/identify?min_confidence=0", song1)
    with Line(server) as line:
        open_(page, line, "#log")
        page.wait_for_selector("#entries li")
        before = page.locator("#entries li").count()
        line.cut()
        wait_for_text(page, "#live", "trying again")
        server.ask("POST", "/v1/identify?min_confidence=0", song1)
        line.mend()
        wait_for_text(page, "#live", "Live")
        server.ask("POST", "/v1/identify?min_confidence=0", song1)
        page.wait_for_function(
            "(count) => document.querySelectorAll('#entries li').length === count",
            arg=before + 2,
            timeout=60_000,
        )


def test_the_page_works_behind_a_proxy_with_a_prefix(page: Any, server: Running) -> None:
    with Line(server, prefix="/music") as line:
        open_(page, line, "/?prints=off")
        pressed(page)
        for view, row in (("library", "#tracks li"), ("log", "#entries li")):
            page.click(f"nav a[href='#{view}']")
            page.wait_for_selector(row)
        page.click("footer a")
        page.wait_for_selector("article")
        page.click(".brand a")
        page.wait_for_selector("#button")


def test_the_page_works_without_local_storage(page: Any, server: Running) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', "
        "{ get() { throw new DOMException('blocked', 'SecurityError'); } });"
    )
    open_(page, server, "?prints=off")
    pressed(page)
    page.select_option("#language", "de")


def test_a_microphone_that_gives_no_sound_is_given_up(page: Any, server: Running) -> None:
    page.add_init_script(
        """window.AudioWorkletNode = class extends AudioWorkletNode {
            get port() { return {}; }
        };"""
    )
    open_(page, server, "?prints=off")
    page.click("#button")
    wait_for_text(page, "#error", "gives no sound")
    assert page.get_attribute("#button", "aria-pressed") == "false"


@needs_runtime
def test_a_short_file_is_fingerprinted_in_the_browser(
    page: Any, server: Running, music_folder: Path
) -> None:
    open_(page, server)
    kinds: list[str] = []
    page.on("request", lambda one: kinds.append(one.headers.get("content-type", "")))
    page.set_input_files("#file", str(music_folder / "song1.flac"))
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    assert "song1" in page.inner_text("#result h2")
    assert wire.MEDIA_TYPE in kinds
    assert "application/octet-stream" not in kinds
    assert "computed here, too" in page.inner_text("#where-files")


def test_the_page_draws_the_evidence_of_an_answer(
    page: Any, server: Running, music_folder: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs fingerprint[explain]")
    open_(page, server, "?prints=off")
    page.set_input_files("#file", str(music_folder / "song1.flac"))
    page.click("#result summary")
    page.click("#result details button")
    page.wait_for_selector("#result .evidence", timeout=60_000)
    assert page.evaluate("document.querySelector('.evidence').decode().then(() => true)")
    accessible(page)


def test_a_clip_from_the_share_sheet_is_named(
    page: Any, server: Running, music_folder: Path
) -> None:
    open_(page, server, "?prints=off")
    page.evaluate("navigator.serviceWorker.ready.then(() => {})")
    page.reload()
    page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    page.evaluate(
        """() => {
            document.body.innerHTML = '<form action="share" method="post" '
                + 'enctype="multipart/form-data"><input type="file" name="recording">'
                + '<button>share</button></form>';
        }"""
    )
    page.set_input_files("input", str(music_folder / "song2.ogg"))
    page.click("button")
    page.wait_for_selector("#result:not([hidden]) h2", timeout=60_000)
    assert "song2" in page.inner_text("#result h2")


def test_music_is_added_and_removed_on_the_page(
    page: Any, music_folder: Path, tmp_path: Path
) -> None:
    folder, token = tmp_path / "library", tmp_path / "token"
    token.write_text(TOKEN)
    command = [sys.executable, "-m", "fingerprint", "index", str(music_folder / "song0.wav")]
    subprocess.run([*command, "--library", str(folder)], check=True, capture_output=True)
    page.on("dialog", lambda dialog: dialog.accept())
    with cli_server(folder, "--token-file", str(token)) as running:
        open_(page, running, "#library")
        page.wait_for_selector("#tracks li")
        assert not page.is_visible("#tracks button")
        page.click("#change summary")
        assert page.is_visible("#tracks button")
        page.set_input_files("#upload", str(music_folder / "song1.flac"))
        wait_for_text(page, "#uploads", "needs the token")
        page.fill("#token", TOKEN)
        page.set_input_files("#upload", [music_folder / "song1.flac", music_folder / "song0.wav"])
        wait_for_text(page, "#uploads", "song1.flac: added")
        wait_for_text(page, "#uploads", "song0.wav: in the library already")
        page.wait_for_function("() => document.querySelectorAll('#tracks li').length === 2")
        accessible(page)
        page.click("#tracks li:nth-child(2) button")
        wait_for_text(page, "#found", "song1.flac is removed")
        page.wait_for_function("() => document.querySelectorAll('#tracks li').length === 1")
