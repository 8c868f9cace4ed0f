// The card of a recognised track, and the browser's history.
import { $, clock, cover, el, locale, problemOf, sureness, titleOf } from "./dom.js";
import { keep, kept } from "./storage.js";
import { t } from "./texts.js";

let ticking;

export async function trackOf(match) { // the library's entry of a match, which has no id
  const response = await fetch(`v1/tracks?path=${encodeURIComponent(match.path)}`).catch(() => null);
  return response?.ok ? (await response.json()).tracks[0] : undefined;
}

// `since`: Date.now() at the moment of match.offset; undefined for files.
export function showResult(match, { since, snippet } = {}) {
  const link = snippet && URL.createObjectURL(snippet);
  const draw = (track) => {
    const place = since === undefined ? atPlace(match) : runningPlace(match, track, since);
    const speed = Math.abs(match.rate - 1) < 0.002 ? null : el("p", { className: "soft" },
      t(match.rate > 1 ? "faster" : "slower", { percent: Math.abs(100 * (match.rate - 1)).toFixed(1) }));
    const again = match.repeats.length ? el("p", { className: "soft" },
      t("again", { times: match.repeats.map(clock).join(", ") })) : null;
    return el("article", { className: "card" }, cover(track, 96), el("div", {},
      el("h2", {}, titleOf(match)), el("p", {}, match.artist || ""), el("p", { className: "soft" }, track?.album || ""),
      place, el("p", {}, sureness(match.confidence)), speed, again), link ? why(link, snippet) : null);
  };
  let card = draw();
  $("result").replaceChildren(card);
  $("result").hidden = false;
  $("state").textContent = t("recognised", { title: titleOf(match) });
  remember(match);
  trackOf(match).then((track) => { // the answer is shown before the cover is loaded
    if (!track || !card.isConnected) return;
    const open = card.querySelector("details")?.open;
    const next = draw(track);
    if (open) next.querySelector("details").open = true;
    card.replaceWith(next);
    card = next;
    remember(match, track);
  });
}

export function clearResult() {
  clearInterval(ticking);
  for (const id of ["result", "error", "candidates", "timeline"]) $(id).hidden = true;
}

function atPlace(match) { return el("p", { className: "soft" }, t("at", { time: clock(match.offset) })); }

function runningPlace(match, track, since) { // the current place in the track while it keeps playing
  const time = el("span"), bar = track ? el("progress", { max: track.duration, "aria-label": t("now") }) : null;
  const show = () => {
    const now = match.offset + match.rate * (Date.now() - since) / 1000;
    const ended = track && now > track.duration;
    time.textContent = clock(ended ? track.duration : now);
    if (bar) bar.value = Math.min(now, track.duration);
    if (ended) clearInterval(ticking);
  };
  clearInterval(ticking);
  ticking = setInterval(show, 250);
  show();
  const of = track ? ` ${t("of", { time: clock(track.duration) })}` : "";
  return el("div", {}, el("p", { className: "place" }, `${t("now")} `, time, of), bar);
}

function why(link, snippet) {
  const picture = el("p"), button = el("button", { type: "button", className: "plain" }, t("draw"));
  button.addEventListener("click", async () => {
    button.disabled = true;
    picture.textContent = t("drawing");
    const response = await fetch("v1/explain", { method: "POST", body: snippet }).catch(() => null);
    button.disabled = false;
    if (!response?.ok) { picture.textContent = response ? await problemOf(response) : t("no_server"); return; }
    const image = el("img", { className: "evidence", alt: t("drawn"), src: URL.createObjectURL(await response.blob()) });
    picture.replaceChildren(el("a", { href: image.src, target: "_blank" }, image));
    button.remove();
  });
  return el("details", {}, el("summary", {}, t("why")), el("p", {}, t("why_text")), button, picture,
    el("p", {}, t("why_there"), " ", el("a", { href: link, download: "snippet.wav" }, t("save"))),
    el("pre", { tabIndex: 0 }, "fingerprint explain snippet.wav"));
}

const stored = () => { try { return JSON.parse(kept("history")) ?? []; } catch { return []; } };

function remember(match, track) {
  const { path, title, artist, confidence } = match, earlier = stored();
  if (track && earlier[0]?.path === path) Object.assign(earlier[0], { id: track.id });
  else earlier.unshift({ path, title, artist, confidence, id: track?.id, time: Date.now() });
  keep("history", JSON.stringify(earlier.slice(0, 50)));
  showHistory();
}

export function showHistory() {
  const entries = stored();
  $("history-section").hidden = !entries.length;
  $("history").replaceChildren(...entries.map((one) => el("li", {}, cover(one, 48),
    el("div", {}, titleOf(one), el("small", {}, one.artist || "")),
    el("small", {}, new Date(one.time).toLocaleString(locale(), { dateStyle: "short", timeStyle: "short" })))));
}

export function forgetHistory() { keep("history", null); showHistory(); }
