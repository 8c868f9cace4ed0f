// The microphone, with a ring buffer of its last seconds, which is sent only after a press of the button.
const KEPT = 10; // s
const GAP = 1000; // ms without audio (a laptop that slept) after which the ring buffer is discarded

export class Microphone {
  constructor() { this.listeners = new Set(); }

  open() {
    this.opened ??= this.start().catch(async (error) => { await this.close(); throw error; });
    return this.opened;
  }

  async resume() { // a phone may have suspended it
    await this.open();
    await this.context.resume();
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "SecurityError");
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
    });
    for (const track of this.stream.getTracks()) track.onended = () => this.close(); // unplugged, or no longer allowed
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("worklet.js");
    await this.context.resume();
    this.rate = this.context.sampleRate;
    this.ring = new Float32Array(Math.round(KEPT * this.rate));
    this.total = 0; // samples so far
    const source = this.context.createMediaStreamSource(this.stream);
    const tap = new AudioWorkletNode(this.context, "tap", { numberOfOutputs: 0 });
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.analyser.smoothingTimeConstant = 0.3;
    source.connect(tap);
    source.connect(this.analyser);
    tap.port.onmessage = ({ data }) => this.take(data);
  }

  take(block) {
    if (this.stale) this.total = 0;
    const at = this.total % this.ring.length;
    const first = Math.min(block.length, this.ring.length - at);
    this.ring.set(block.subarray(0, first), at);
    this.ring.set(block.subarray(first), 0);
    this.total += block.length;
    this.latest = Date.now(); // performance.now() stands still in some browsers while a laptop sleeps
    for (const listener of this.listeners) listener(block);
  }

  get stale() { return Date.now() - (this.latest ?? 0) > GAP; }

  past() { // the ring buffer, oldest first
    const size = this.stale ? 0 : Math.min(this.total, this.ring.length);
    const end = this.total % this.ring.length;
    const all = new Float32Array(size);
    if (size < this.ring.length) { all.set(this.ring.subarray(0, size)); return all; }
    all.set(this.ring.subarray(end));
    all.set(this.ring.subarray(0, end), this.ring.length - end);
    return all;
  }

  async close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    const { context } = this;
    this.opened = this.stream = this.context = undefined;
    await context?.close();
  }
}
export function pcm(samples) { // Float32 to 16-bit samples
  const out = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) out[i] = Math.max(-1, Math.min(1, samples[i])) * 32767;
  return out;
}

export function wav(samples, rate) { // a 16-bit WAV file
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); head.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  text(36, "data"); head.setUint32(40, 2 * samples.length, true);
  return new Blob([head, pcm(samples)], { type: "audio/wav" });
}
