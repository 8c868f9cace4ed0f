// What is recognised, as it happens: on this server, by whomever.
import { $, cover, el, sureness, titleOf } from "./dom.js";
import { t } from "./texts.js";

let source;

export async function open() {
  close();
  const response = await fetch("v1/log?limit=100").catch(() => null);
  const entries = response?.ok ? (await response.json()).entries : [];
  $("entries").replaceChildren(...entries.map(row));
  $("live").textContent = t(entries.length ? "live" : "empty_log");
  source = new EventSource("v1/log/stream");
  source.addEventListener("recognised", ({ data }) => {
    $("entries").prepend(row(JSON.parse(data)));
    $("live").textContent = t("live");
    while ($("entries").children.length > 500) $("entries").lastChild.remove();
  });
  source.onerror = () => { $("live").textContent = t("broken"); };
  source.onopen = () => { $("live").textContent = t($("entries").children.length ? "live" : "empty_log"); };
}

export function close() { source?.close(); source = undefined; }

function row({ time, match }) {
  const when = new Date(time).toLocaleString(document.documentElement.lang, { dateStyle: "short", timeStyle: "medium" });
  return el("li", {}, cover(), el("div", {}, titleOf(match), el("small", {}, [match.artist, sureness(match.confidence)].filter(Boolean).join(" · "))), el("small", {}, when));
}
