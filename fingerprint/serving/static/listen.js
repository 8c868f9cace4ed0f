// The listen button: record, query, show the answer.
import { $, el, problemOf, sureness, titleOf } from "./dom.js";
import { Microphone, pcm, wav } from "./microphone.js";
import { identify, ready } from "./prints-here.js";
import { Picture } from "./picture.js";
import { clearResult, showResult } from "./result.js";
import { keep, kept } from "./storage.js";
import { t } from "./texts.js";

const microphone = new Microphone(), picture = new Picture();
const QUIET = -62; // dB of full scale
const LOOKS = [2.4, 3.5, 5, 7, 10, 15, 20, 25]; // s of audio at which a fingerprint is computed and searched
const LONGEST = 30; // s of audio after which an absent server is given up
const MUTE = 5000; // ms without audio after which the microphone is given up
let running;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const wantsBefore = () => kept("before") === "yes";

export async function toggle() {
  if (running) { running.stop(); return; }
  clearResult();
  const own = running = new Attempt();
  show(true);
  try { await own.run(); } catch (error) { await fail(error); } finally {
    running = undefined;
    show(false);
    picture.stop();
    if (!wantsBefore()) await microphone.close();
  }
}

export function stop() { running?.stop(); }

export async function setBefore(on) {
  keep("before", on ? "yes" : "no");
  if (on) await microphone.open().catch(fail);
  else if (!running) await microphone.close();
}

export async function resumeBefore() { // without a prompt: only if the page has the permission already
  if (!wantsBefore()) return;
  const state = await navigator.permissions?.query({ name: "microphone" }).catch(() => null);
  if (state?.state === "granted") await microphone.open().catch(() => {});
}

function show(on) {
  $("view-listen").classList.toggle("listening", on);
  $("button").setAttribute("aria-pressed", on);
  $("button-text").textContent = t(on ? "stop" : "press");
}

async function fail(error) {
  const key = { NotAllowedError: "no_microphone", NotFoundError: "no_microphone", NotReadableError: "no_microphone", SecurityError: "insecure", mute: "mute" };
  const text = error.response ? await problemOf(error.response) : t(key[error.name] ?? key[error.message] ?? "no_server");
  $("state").textContent = "";
  $("candidates").hidden = true;
  $("error").textContent = text;
  $("error").hidden = false;
}

class Attempt {
  constructor() {
    this.heard = []; // blocks of audio, beginning with the ring buffer
    this.over = false;
    this.ended = new Promise((resolve, reject) => {
      this.end = () => { this.over = true; resolve(); };
      this.break = (error) => { this.over = true; reject(error); };
    });
    this.ended.catch(() => {}); // handled where it is awaited
  }

  async run() {
    $("state").textContent = t("opening");
    await microphone.resume();
    if (this.over) return;
    picture.start(microphone.analyser);
    $("state").textContent = t("hearing");
    const card = await Promise.race([ready(), sleep(1500)]);
    if (this.over) return;
    const leave = this.begin();
    try { await Promise.race([this.ended, card ? this.byPrints(card) : this.bySound()]); } finally { this.end(); leave(); }
  }

  stop() {
    this.end();
    $("candidates").hidden = true;
    $("state").textContent = t("stopped");
  }

  // Send the ring buffer, then live audio.
  begin() {
    const past = wantsBefore() ? microphone.past() : new Float32Array(0);
    const begun = Date.now();
    this.origin = (past.length ? microphone.latest : begun) - 1000 * past.length / microphone.rate;
    for (let at = 0; at < past.length; at += microphone.rate) this.heard.push(past.subarray(at, at + microphone.rate));
    const listener = (block) => { this.heard.push(block); this.take?.(block); };
    microphone.listeners.add(listener);
    const watch = setInterval(() => {
      if (Date.now() - Math.max(begun, microphone.latest ?? 0) > MUTE) this.break(new Error("mute"));
    }, 1000);
    return () => { clearInterval(watch); microphone.listeners.delete(listener); };
  }

  // If the connection breaks, all audio is sent again over a new one.
  async bySound() {
    for (let pause = 500; ; pause *= 2) {
      const event = await this.asked();
      if (this.over) return;
      if (event?.event === "heard") { this.recognised(event.match, event.at); return; }
      if (event?.event === "unknown") { this.unknown(event.at); return; }
      const refusal = event && Object.assign(new Error(), { response: new Response(JSON.stringify(event)) });
      if (event && event.status !== 429) throw refusal;
      if (this.seconds() > LONGEST) throw refusal ?? new Error("no_server");
      $("state").textContent = t(event ? "busy" : "lost");
      await sleep(pause);
      if (this.over) return;
    }
  }

  // The last event of a connection; undefined if it breaks before.
  asked() {
    const base = new URL(`v1/listen?rate=${microphone.rate}&partial=true`, location.href);
    base.protocol = base.protocol.replace("http", "ws");
    const socket = new WebSocket(base);
    let left = 0, stuck = 0, watch;
    return new Promise((resolve) => {
      socket.onopen = () => {
        for (const block of this.heard) socket.send(pcm(block));
        this.take = (block) => socket.send(pcm(block));
      };
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.event === "partial") this.partial(event.candidates); else resolve(event);
      };
      socket.onclose = () => resolve();
      watch = setInterval(() => { // data is no longer sent (no network, say), although the socket has not closed
        const now = socket.bufferedAmount;
        stuck = socket.readyState !== WebSocket.OPEN || (now && now >= left) ? stuck + 1 : 0;
        left = now;
        if (stuck >= 5) resolve();
      }, 1000);
      this.ended.then(resolve, resolve);
    }).finally(() => { clearInterval(watch); this.take = undefined; socket.close(); });
  }

  // Search with fingerprints computed here, of the last seconds, up to ten, at growing lengths.
  async byPrints(card) {
    let failure;
    for (const [number, length] of LOOKS.entries()) {
      while (this.seconds() < length && !this.over) await sleep(50);
      if (this.over) return;
      if (LOOKS[number + 1] <= this.seconds()) continue; // a later search includes this audio
      const at = this.seconds(), samples = this.last(10);
      let matches = [];
      failure = undefined;
      try { matches = await identify(samples, microphone.rate, { thorough: at >= 5 }) ?? []; } catch (error) { failure = error; }
      if (this.over) return;
      if (failure?.response && ![429, 502, 503, 504].includes(failure.response.status)) throw failure;
      if (matches[0]?.confidence >= card.min_confidence) {
        const lasted = samples.length / microphone.rate;
        this.recognised({ ...matches[0], offset: matches[0].offset + matches[0].rate * lasted, repeats: [] }, at);
        return;
      }
      if (failure) $("state").textContent = t(failure.response ? "busy" : "lost"); else this.partial(matches);
    }
    if (failure) throw failure;
    this.unknown(this.seconds());
  }

  seconds() { return this.heard.reduce((sum, one) => sum + one.length, 0) / microphone.rate; }

  last(seconds) {
    const all = new Float32Array(this.heard.reduce((sum, one) => sum + one.length, 0));
    this.heard.reduce((place, one) => { all.set(one, place); return place + one.length; }, 0);
    return all.slice(-Math.round(seconds * microphone.rate));
  }

  partial(candidates) {
    const shown = candidates.filter((one) => one.confidence >= 0.05).slice(0, 3);
    $("state").textContent = shown.length ? t("maybe") : t(picture.decibels < QUIET ? "quiet" : "hearing");
    $("candidates").hidden = !shown.length;
    $("candidates").replaceChildren(...shown.map((one) => el("li", {}, `${titleOf(one)}, ${sureness(one.confidence)}`)));
  }

  unknown(at) {
    $("candidates").hidden = true;
    $("state").textContent = t("unknown", { seconds: Math.round(at) });
  }

  recognised(match, at) {
    $("candidates").hidden = true;
    showResult(match, { since: this.origin + 1000 * at, snippet: wav(this.last(10), microphone.rate) });
  }
}
