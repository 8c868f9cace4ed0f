// The button: from a press to an answer.
import { $, el, sureness, titleOf } from "./dom.js";
import { Microphone, pcm, wav } from "./microphone.js";
import { query, ready } from "./prints-here.js";
import { Picture } from "./picture.js";
import { clearResult, showResult } from "./result.js";
import { t } from "./texts.js";

const microphone = new Microphone(), picture = new Picture();
const QUIET = -62; // dB of full scale
const LOOKS = [2.4, 3.5, 5, 7, 10, 15, 20, 25]; // s of sound at which fingerprints are looked up
let running;

export const wantsBefore = () => localStorage.getItem("before") === "yes";

export async function toggle() {
  if (running) { running.stop(); return; }
  clearResult();
  const own = running = new Attempt();
  show(true);
  try { await own.run(); } catch (error) { fail(error); } finally {
    running = undefined;
    show(false);
    picture.stop();
    if (!wantsBefore()) await microphone.close();
  }
}

export async function setBefore(on) {
  localStorage.setItem("before", on ? "yes" : "no");
  if (on) await microphone.open().catch(fail);
  else if (!running) await microphone.close();
}

export async function resumeBefore() { // without asking: only where the page may listen already
  if (!wantsBefore()) return;
  const state = await navigator.permissions?.query({ name: "microphone" }).catch(() => null);
  if (state?.state === "granted") await microphone.open().catch(() => {});
}

function show(on) {
  $("view-listen").classList.toggle("listening", on);
  $("button").setAttribute("aria-pressed", on);
  $("button-text").textContent = t(on ? "stop" : "press");
}

function fail(error) {
  const key = { NotAllowedError: "no_microphone", NotFoundError: "no_microphone", SecurityError: "insecure", busy: "busy" };
  $("state").textContent = "";
  $("error").textContent = t(key[error.name] ?? key[error.message] ?? "no_server");
  $("error").hidden = false;
}

class Attempt {
  constructor() { this.heard = []; }

  async run() {
    $("state").textContent = t("opening");
    await microphone.open();
    if (this.stopped) return;
    picture.start(microphone.analyser);
    $("state").textContent = t("hearing");
    const card = await Promise.race([ready(), new Promise((resolve) => setTimeout(resolve, 1500))]);
    if (this.stopped) return;
    await (card ? this.byPrints(card) : this.bySound());
  }

  stop() {
    this.stopped = true;
    $("state").textContent = t("stopped");
    this.end?.();
  }

  // Everything from the ring on, and then as it comes.
  begin(take) {
    const past = wantsBefore() ? microphone.past() : new Float32Array(0);
    this.origin = (microphone.latest ?? performance.now()) - 1000 * past.length / microphone.rate;
    const listener = (block) => { this.heard.push(block); take(block); };
    if (past.length) listener(past);
    microphone.listeners.add(listener);
    return () => microphone.listeners.delete(listener);
  }

  bySound() {
    return new Promise((resolve, reject) => {
      const base = new URL(`v1/listen?rate=${microphone.rate}&partial=true`, location.href);
      base.protocol = base.protocol.replace("http", "ws");
      const socket = new WebSocket(base);
      socket.binaryType = "arraybuffer";
      let leave = () => {}, done = false;
      const end = () => { done = true; leave(); socket.close(); };
      const finish = (error) => {
        if (done) return;
        end();
        if (error) reject(error); else resolve();
      };
      this.end = () => finish();
      socket.onopen = () => { leave = this.begin((block) => socket.send(pcm(block))); };
      socket.onmessage = async ({ data }) => {
        const event = JSON.parse(data);
        if (event.event === "partial") this.partial(event.candidates);
        else if (event.event === "unknown") { this.unknown(event.at); finish(); }
        else if (event.event === "error") finish(new Error(event.status === 429 ? "busy" : event.detail));
        else if (event.event === "heard") { end(); await this.recognised(event.match, event.at); resolve(); }
      };
      socket.onclose = () => finish(this.stopped ? undefined : new Error("closed"));
    });
  }

  // The last ten seconds at growing lengths, as fingerprints that are computed here.
  async byPrints(card) {
    let stop;
    const stopped = new Promise((resolve) => { stop = resolve; });
    this.end = () => stop();
    let news = () => {};
    const leave = this.begin(() => news());
    try {
      for (const [number, length] of LOOKS.entries()) {
        while (this.seconds() < length && !this.stopped) await Promise.race([new Promise((resolve) => { news = resolve; }), stopped]);
        if (this.stopped) return;
        if (LOOKS[number + 1] <= this.seconds()) continue; // a later look sees this sound too
        const at = this.seconds(), samples = this.last(10);
        const matches = await this.looked(samples, card, at >= 5);
        if (this.stopped) return;
        if (matches[0]?.confidence >= card.min_confidence) {
          const lasted = samples.length / microphone.rate;
          await this.recognised({ ...matches[0], offset: matches[0].offset + matches[0].rate * lasted, repeats: [] }, at);
          return;
        }
        this.partial(matches);
      }
      this.unknown(this.seconds());
    } finally { leave(); }
  }

  async looked(samples, card, thorough) {
    let speeds = [1];
    for (let round = 0; round < 3; round++) {
      const body = await query(samples.slice(), microphone.rate, speeds);
      const response = await fetch(`v1/identify?top=3&min_confidence=0&speeds=${thorough ? "in-doubt" : "as-it-is"}`, {
        method: "POST", body, headers: { "Content-Type": "application/vnd.fingerprint.query" },
      });
      if (response.status === 429 || response.status === 422) return []; // the next look sees this sound too
      if (!response.ok) throw new Error("no_server");
      const found = await response.json();
      if (found.status !== "doubtful") return found.matches;
      speeds = [...speeds, ...found.speeds].slice(0, 16);
    }
    return [];
  }

  seconds() { return this.heard.reduce((sum, one) => sum + one.length, 0) / microphone.rate; }

  last(seconds) {
    const all = new Float32Array(this.heard.reduce((sum, one) => sum + one.length, 0));
    this.heard.reduce((place, one) => { all.set(one, place); return place + one.length; }, 0);
    return all.slice(-Math.round(seconds * microphone.rate));
  }

  partial(candidates) {
    const [best] = candidates;
    const shown = candidates.filter((one) => one.confidence >= 0.05).slice(0, 3);
    $("state").textContent = shown.length ? t("maybe") : t(picture.decibels < QUIET ? "quiet" : "hearing");
    $("candidates").hidden = !shown.length || !best;
    $("candidates").replaceChildren(...shown.map((one) => el("li", {}, `${titleOf(one)}, ${sureness(one.confidence)}`)));
  }

  unknown(at) {
    $("candidates").hidden = true;
    $("state").textContent = t("unknown", { seconds: Math.round(at) });
  }

  async recognised(match, at) {
    $("candidates").hidden = true;
    const snippet = wav(this.last(10), microphone.rate);
    await showResult(match, { since: this.origin + 1000 * at, snippet });
  }
}
