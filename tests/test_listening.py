"""Streams that are real: an HTTP server on the loopback, a pipe of raw samples."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import soundfile
from library_world import RATE, song, stocked

from fingerprint.errors import AudioError
from fingerprint.library.library import Library
from fingerprint.listening import Event, PcmFormat, listen, network, raw_samples, reconnecting
from fingerprint.listening.listener import first_answer
from fingerprint.types import Clip, Floats

LENGTH = 40.0  # s of the songs in the library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with stocked(tmp_path_factory.mktemp("library"), range(6), seconds=LENGTH) as opened:
        yield opened


def blocks(samples: Floats, size: int = RATE // 2) -> Iterator[Clip]:
    for begin in range(0, len(samples), size):
        yield Clip(samples[begin : begin + size], RATE)


@pytest.fixture
def server() -> Iterator["Radio"]:
    radio = Radio()
    thread = threading.Thread(target=radio.serve_forever, daemon=True)
    thread.start()
    yield radio
    radio.shutdown()
    radio.server_close()
    thread.join()


class Radio(HTTPServer):
    """Each request gets the next of `programmes`, as Ogg Vorbis; when there is none, 404.

    `live`: it does not say beforehand where a programme ends.
    """

    live = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Studio)
        self.programmes: list[Floats] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/live.ogg"


class Studio(BaseHTTPRequestHandler):
    server: Radio

    def do_GET(self) -> None:
        if not self.server.programmes:
            self.send_error(404)
            return
        file = io.BytesIO()
        soundfile.write(file, self.server.programmes.pop(0), RATE, format="OGG", subtype="VORBIS")
        self.send_response(200)
        self.send_header("Content-Type", "audio/ogg")
        if not self.server.live:
            self.send_header("Content-Length", str(len(file.getvalue())))
        self.end_headers()
        self.wfile.write(file.getvalue())

    def log_message(self, *_: object) -> None:
        pass


def test_a_network_stream_is_decoded_from_first_to_last(server: Radio) -> None:
    pytest.importorskip("av")
    server.programmes, server.live = [song(1, 5.0)], False
    heard = np.concatenate([clip.samples for clip in network(server.url, RATE)])
    assert len(heard) == pytest.approx(5 * RATE, abs=RATE // 10)
    assert np.corrcoef(heard[: 4 * RATE], song(1, 5.0)[: 4 * RATE])[0, 1] > 0.9


def test_a_stream_that_breaks_off_is_opened_again_with_growing_pauses(
    server: Radio, library: Library
) -> None:
    pytest.importorskip("av")
    server.programmes = [song(1, 20.0), song(2, 20.0)]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    clips = reconnecting(lambda: network(server.url, RATE), sleep=sleep)
    events: list[Event] = []

    def hear() -> None:
        events.extend(listen(clips, library))  # what came before the interruption stays

    with pytest.raises(KeyboardInterrupt):
        hear()
    assert pauses == [1, 2, 4, 8]
    heard = [e.heard.track.path.stem for e in events if e.heard]
    assert heard == ["0001", "0002"]
    played = [e.span for e in events if e.span]
    assert [span.match.track.path.stem for span in played if span.match] == ["0001", "0002"]
    assert played[1].start == pytest.approx(20, abs=1.5)
    assert [e.kind for e in events].count("lost") >= 2


def test_an_address_that_is_wrong_from_the_start_is_an_error(server: Radio) -> None:
    pytest.importorskip("av")
    with pytest.raises(AudioError, match="cannot read http"):
        next(reconnecting(lambda: network(server.url, RATE), sleep=lambda _: None))


@pytest.mark.parametrize("encoding", ["s16le", "s32le", "f32le"])
@pytest.mark.parametrize("channels", [1, 2])
def test_raw_samples_are_unchanged_by_the_pipe(encoding: str, channels: int) -> None:
    rate = 22_050
    wave = (0.5 * np.sin(np.arange(3 * rate) * 0.1)).astype(np.float32)
    if encoding == "f32le":
        data = np.repeat(wave[:, None], channels, axis=1).astype("<f4")
    else:
        kind = np.dtype("<i2" if encoding == "s16le" else "<i4")
        full = np.iinfo(kind).max
        data = np.repeat((wave * float(full)).astype(kind)[:, None], channels, axis=1)
    form = PcmFormat(rate, channels, encoding)  # type: ignore[arg-type]
    stream = io.BytesIO(data.tobytes() + b"\x01")  # and a torn sample
    clips = list(raw_samples(stream, form, rate))
    assert {clip.sample_rate for clip in clips} == {rate}
    np.testing.assert_allclose(np.concatenate([c.samples for c in clips]), wave, atol=1e-4)


def test_the_first_answer_comes_within_seconds(library: Library) -> None:
    match, seconds = first_answer(blocks(song(3, LENGTH)[8 * RATE :]), library)
    assert match is not None
    assert match.track.path.stem == "0003"
    assert seconds <= 5
    assert match.offset == pytest.approx(8 + seconds, abs=0.3)


def test_listening_stops_after_the_patience(library: Library) -> None:
    match, seconds = first_answer(blocks(song(77, 30.0)), library, patience=6)
    assert match is None
    assert seconds == pytest.approx(6, abs=0.5)
    assert first_answer(iter(()), library) == (None, 0.0)
