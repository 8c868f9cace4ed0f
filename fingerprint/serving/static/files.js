// A file: a snippet is named, a long recording becomes a timeline.
import { $, clock, el, problemOf, titleOf } from "./dom.js";
import { clearResult, showResult } from "./result.js";
import { t } from "./texts.js";

const SNIPPET = 45; // s; what lasts longer is scanned
const SMALL = 1 << 20; // bytes, where the browser cannot tell how long it lasts

export async function take(file) {
  clearResult();
  $("state").textContent = t("reading", { name: file.name });
  try {
    const seconds = await lengthOf(file);
    const long = seconds === undefined ? file.size > SMALL : seconds > SNIPPET;
    await (long ? timeline(file, seconds) : snippet(file));
  } catch (error) {
    $("state").textContent = "";
    $("error").textContent = error.shown ?? t("no_server");
    $("error").hidden = false;
  }
}

async function post(path, file) {
  const response = await fetch(`${path}?name=${encodeURIComponent(file.name.slice(-150))}`, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
  });
  if (!response.ok) throw Object.assign(new Error(), { shown: await problemOf(response) });
  return response;
}

async function snippet(file) {
  const { matches } = await (await post("v1/identify", file)).json();
  if (matches.length) await showResult(matches[0], { snippet: file });
  else $("state").textContent = t("no_match", { name: file.name });
}

async function timeline(file, seconds) {
  const response = await post("v1/scan", file);
  const spans = [], reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
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

function lengthOf(file) { // s; undefined where the browser cannot tell
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
