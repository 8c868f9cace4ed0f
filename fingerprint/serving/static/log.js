// The live log: everything that the server recognises, for any client.
import { $, about, cover, el, loadThreshold, locale, problemOf, sureness, titleOf } from "./dom.js";
import { t } from "./texts.js";

const AGAIN = 5000; // ms after which a refused stream is opened again
let source, again;

// Each new connection first reloads the list, so it is complete after a restart, sleep or loss of network.
export function open() {
  close();
  const own = source = new EventSource("v1/log/stream");
  const shown = new Set();
  own.onopen = async () => {
    const [response] = await Promise.all([fetch("v1/log?limit=100").catch(() => null), loadThreshold()]);
    if (own !== source) return;
    if (!response?.ok) { $("live").textContent = response ? await problemOf(response) : t("broken"); return; }
    const { entries } = await response.json();
    if (own !== source) return;
    shown.clear();
    for (const { id } of entries) shown.add(id);
    $("entries").replaceChildren(...entries.map(row));
    $("live").textContent = t(entries.length ? "live" : "empty_log");
  };
  own.addEventListener("recognised", ({ data }) => {
    const entry = JSON.parse(data);
    if (shown.has(entry.id)) return;
    shown.add(entry.id);
    $("entries").prepend(row(entry));
    $("live").textContent = t("live");
    while ($("entries").children.length > 500) $("entries").lastChild.remove();
  });
  own.onerror = () => {
    if (own !== source) return;
    $("live").textContent = t("broken");
    if (own.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN); // refused: the browser does not reconnect by itself
  };
}

export function close() {
  clearTimeout(again);
  source?.close();
  source = undefined;
}

function row({ time, match }) {
  const when = new Date(time).toLocaleString(locale(), { dateStyle: "short", timeStyle: "medium" });
  return el("li", {}, cover(), el("div", {}, titleOf(match), el("small", {}, about(match.artist, sureness(match.confidence)))), el("small", {}, when));
}
