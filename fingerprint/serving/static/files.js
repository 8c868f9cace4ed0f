// Files: a snippet is identified, a long recording is scanned into a timeline.
import { $, clock, el, problemOf, shortened, titleOf } from "./dom.js";
import { identify, ready } from "./prints-here.js";
import { clearResult, showResult } from "./result.js";
import { t } from "./texts.js";

const SNIPPET = 45; // s; longer files are scanned
const QUERY = 30; // s of a snippet that are used if its fingerprint is computed here
const SMALL = 1 << 20; // bytes; used if the browser cannot tell the file's duration
let reading;

export function leave() { reading?.abort(); }

export async function take(file) {
  leave();
  const own = reading = new AbortController();
  clearResult();
  $("state").textContent = t("reading", { name: file.name });
  try {
    const seconds = await lengthOf(file);
    if (own.signal.aborted) return;
    const long = seconds === undefined ? file.size > SMALL : seconds > SNIPPET;
    await (long ? timeline(file, seconds, own.signal) : snippet(file, own.signal));
  } catch (error) {
    if (own.signal.aborted) return;
    $("state").textContent = "";
    $("error").textContent = error.response ? await problemOf(error.response) : error.shown ?? t("no_server");
    $("error").hidden = false;
  }
}

async function post(path, file, signal) {
  const response = await fetch(`${path}?name=${encodeURIComponent(shortened(file.name))}`, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" }, signal,
  });
  if (!response.ok) throw Object.assign(new Error(), { response });
  return response;
}

async function snippet(file, signal) {
  const matches = await computed(file) ?? (await (await post("v1/identify", file, signal)).json()).matches;
  if (signal.aborted) return;
  if (matches.length) showResult(matches[0], { snippet: file });
  else $("state").textContent = t("no_match", { name: file.name });
}

// Identify by a fingerprint computed here; undefined if the browser cannot compute it or decode the file.
async function computed(file) {
  const card = await ready();
  if (!card) return undefined;
  let sound;
  try { sound = await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(await file.arrayBuffer()); } catch { return undefined; }
  const { sampleRate: rate, numberOfChannels: channels } = sound, most = QUERY * rate;
  const from = Math.max(0, Math.floor((sound.length - most) / 2));
  const samples = new Float32Array(Math.min(sound.length, most));
  for (let channel = 0; channel < channels; channel++) {
    const data = sound.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) samples[i] += data[from + i] / channels;
  }
  const found = await identify(samples, rate, { patience: 30_000 }) ?? [];
  return found.filter((one) => one.confidence >= card.min_confidence)
    .map((one) => ({ ...one, offset: one.offset - one.rate * from / rate }));
}

async function timeline(file, seconds, signal) {
  const response = await post("v1/scan", file, signal);
  const spans = [], reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    if (signal.aborted) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const record of lines.map((line) => JSON.parse(line))) {
      if (record.error) throw Object.assign(new Error(), { shown: record.error });
      if (record.end !== undefined) spans.push(record);
    }
    draw(spans, seconds ?? spans.at(-1)?.end);
    $("state").textContent = t("scanning", { name: file.name, count: known(spans) });
  }
  draw(spans, seconds ?? spans.at(-1)?.end);
  $("state").textContent = t("scanned", { name: file.name, count: known(spans) });
}

const known = (spans) => spans.filter((one) => one.match).length;

function draw(spans, seconds) {
  const bar = el("div", { className: "bar" });
  bar.setAttribute("aria-hidden", "true");
  const list = el("ol");
  spans.forEach((span, number) => {
    const name = span.match ? [span.match.artist, titleOf(span.match)].filter(Boolean).join(" - ") : t("unknown_span");
    list.append(el("li", { id: `span-${number}`, className: span.match ? "" : "soft" }, el("span", {}, clock(span.start)), el("span", {}, name)));
    if (!span.match) return;
    const piece = el("a", { href: `#span-${number}`, title: name, tabIndex: -1 });
    piece.style.left = `${100 * span.start / seconds}%`;
    piece.style.width = `${100 * (span.end - span.start) / seconds}%`;
    piece.addEventListener("click", (event) => { event.preventDefault(); $(`span-${number}`).scrollIntoView({ block: "center" }); });
    bar.append(piece);
  });
  $("timeline").replaceChildren(bar, list);
  $("timeline").hidden = false;
}

function lengthOf(file) { // s; undefined if the browser cannot tell
  return new Promise((resolve) => {
    const audio = new Audio();
    const finish = (value) => { URL.revokeObjectURL(audio.src); resolve(Number.isFinite(value) ? value : undefined); };
    audio.preload = "metadata";
    audio.onloadedmetadata = () => finish(audio.duration);
    audio.onerror = () => finish(undefined);
    setTimeout(() => finish(undefined), 3000);
    audio.src = URL.createObjectURL(file);
  });
}
