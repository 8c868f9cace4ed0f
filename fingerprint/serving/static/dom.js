// DOM helpers. Text from tags and from the server is inserted as text, never as markup.
import { t } from "./texts.js";

export const $ = (id) => document.getElementById(id);

export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

// The browser's own variety of the page's language, for numbers and times.
export function locale() {
  const language = document.documentElement.lang;
  return navigator.languages.find((one) => one.split("-")[0] === language) ?? language;
}

export function about(...words) { return words.filter(Boolean).join("\u00a0· "); }

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const pad = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

export function titleOf(track) {
  return track.title || track.path?.split(/[/\\]/).pop() || t("untitled");
}

// The confidence from which the server gives an answer; undefined until it is loaded.
let threshold, loading;

export function loadThreshold() { // once; after a failure the next call tries again
  loading ??= fetch("v1/model").then(async (response) => {
    if (!response.ok) throw new Error(`${response.status}`);
    threshold = (await response.json()).min_confidence;
  }).catch(() => { loading = undefined; });
  return loading;
}

export function sureness(confidence) {
  const words = confidence >= (threshold ?? 1) ? 4 : confidence >= 0.9 ? 3 : confidence >= 0.5 ? 2 : 1;
  const percent = Math.min(99.9, 100 * confidence).toLocaleString(locale(), { maximumFractionDigits: 1 });
  return t("sureness", { words: t(`sure_${words}`), percent });
}

let covers = Promise.resolve(); // loaded one at a time: a browser has few connections, and queries need them

export function cover(track, size) {
  const place = el("div", { className: "cover", "aria-hidden": "true" }, "♪");
  if (!track?.id) return place;
  const watch = new IntersectionObserver(([seen]) => {
    if (!seen.isIntersecting) return;
    watch.disconnect();
    covers = covers.then(() => new Promise((resolve) => {
      if (!place.isConnected) { resolve(); return; }
      const image = el("img", { alt: "", width: size, height: size });
      image.addEventListener("load", () => { place.append(image); resolve(); });
      image.addEventListener("error", resolve);
      image.src = `v1/tracks/${track.id}/cover`;
    }));
  });
  watch.observe(place);
  return place;
}

// A file's name for a query string: its last 150 characters, without halves of characters, which cannot be encoded.
export const shortened = (name) => [...name.replace(/\p{Surrogate}/gu, "\ufffd")].slice(-150).join("");

export async function problemOf(response) {
  try {
    const { type, detail, hint } = await response.json();
    const key = `problem_${type.split(":").pop().replaceAll("-", "_")}`;
    const text = t(key, { detail });
    return text === key ? `${detail}. ${hint}` : text;
  } catch { return `${response.status}`; }
}
