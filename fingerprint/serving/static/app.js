// Entry point of the page: connects the parts below.
import { $, el, loadThreshold } from "./dom.js";
import * as files from "./files.js";
import * as library from "./library.js";
import { resumeBefore, setBefore, stop, toggle, wantsBefore } from "./listen.js";
import * as log from "./log.js";
import { ready } from "./prints-here.js";
import { forgetHistory, showHistory } from "./result.js";
import { keep } from "./storage.js";
import { LANGUAGES, preferred, speak, t } from "./texts.js";

const VIEWS = ["listen", "library", "log"];
let shown;

function route() {
  const view = VIEWS.find((one) => location.hash === `#${one}`) ?? shown ?? "listen";
  if (view === shown) return;
  for (const one of VIEWS) $(`view-${one}`).hidden = one !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (shown) $("main").focus();
  shown = view;
  if (view === "library") library.search(); else library.clear();
  if (view === "log") log.open(); else log.close();
}

function texts() {
  speak(preferred());
  document.title = "fingerprint";
  $("language").value = document.documentElement.lang;
  $("where").textContent = t("sends_sound");
  $("where-files").textContent = t("sends_files");
  ready().then((card) => {
    $("where").textContent = t(card ? "sends_prints" : "sends_sound");
    $("where-files").textContent = t(card ? "sends_long_files" : "sends_files");
  });
  $("state").textContent = t("idle");
  showHistory();
}

function wire() {
  $("language").append(...Object.entries(LANGUAGES).map(([value, name]) => el("option", { value }, name)));
  $("language").addEventListener("change", () => {
    keep("language", $("language").value);
    texts();
    if (shown === "library") library.search();
    if (shown === "log") log.open();
  });
  $("button").addEventListener("click", () => { files.leave(); toggle(); });
  $("before").checked = wantsBefore();
  $("before").addEventListener("change", () => setBefore($("before").checked));
  $("file").addEventListener("change", () => { take($("file").files); $("file").value = ""; });
  $("forget").addEventListener("click", forgetHistory);
  $("token-form").addEventListener("submit", (event) => event.preventDefault());
  let pause;
  $("q").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => library.search(), 200); });
  $("search").addEventListener("submit", (event) => { event.preventDefault(); library.search(); });
  $("more").addEventListener("click", () => library.search(true));
  $("upload").addEventListener("change", async () => { await library.upload([...$("upload").files]); $("upload").value = ""; });
  for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.toggle("over", over); });
  }
  addEventListener("drop", (event) => { if (event.dataTransfer?.files[0]) { location.hash = "#listen"; take(event.dataTransfer.files); } });
  addEventListener("storage", showHistory); // another tab has added to the history
  addEventListener("hashchange", route);
}

async function take(several) {
  const chosen = [...several];
  if (!chosen.length) return;
  stop();
  await files.take(chosen[0]);
  if (chosen.length > 1) $("state").textContent += ` ${t("only_first", { name: chosen[0].name })}`;
}

async function takeShared() { // a file from a phone's share sheet, stored by the service worker
  if (!new URLSearchParams(location.search).has("shared")) return;
  const kept = await caches.open("shared"), answer = await kept.match("shared");
  if (!answer) return;
  await kept.delete("shared");
  const name = decodeURIComponent(answer.headers.get("x-name") ?? "shared");
  history.replaceState(null, "", location.pathname);
  await take([new File([await answer.blob()], name)]);
}

wire();
loadThreshold();
texts();
route();
resumeBefore();
navigator.serviceWorker?.register("sw.js").catch(() => {}); // not available with a self-signed certificate
takeShared();
