// A worker that computes a query in the format of fingerprint/serving/wire.py, in the same
// steps as Python: resample, embed with ONNX Runtime, whitened spectrogram, spectral peaks.
const RATE = 8000, SIZE = 512, HOP = 128, FIRST_BIN = 2, BINS = 248; // audio/peaks.py
const MEAN_FRAMES = 15, MEAN_BINS = 7, PEAK_FRAMES = 3, PEAK_BINS = 4, LEAST = 0.5, BLOCK = 16, KEPT = 16;
const HIGHEST = 6, EMPTY = 0xffff, CROSSINGS = 64;
let about, sessions, ort;

// Windowed-sinc resampling; `ratio` output samples for one of input.
export function resampled(input, ratio) {
  if (ratio === 1) return input;
  const out = new Float32Array(Math.round(input.length * ratio));
  const cutoff = 0.956 * Math.min(1, ratio), reach = CROSSINGS / cutoff;
  const table = new Float64Array(CROSSINGS * 512 + 2); // half of the kernel, 512 points per zero crossing
  for (let i = 0; i < table.length; i++) {
    const x = i / 512, w = Math.min(1, x / CROSSINGS);
    const window = bessel(10 * Math.sqrt(1 - w * w)) / bessel(10);
    table[i] = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window * cutoff;
  }
  for (let n = 0; n < out.length; n++) {
    const centre = n / ratio;
    const from = Math.max(0, Math.ceil(centre - reach)), to = Math.min(input.length - 1, Math.floor(centre + reach));
    let sum = 0;
    for (let k = from; k <= to; k++) {
      const place = Math.abs(k - centre) * cutoff * 512, low = place | 0;
      sum += input[k] * (table[low] + (place - low) * (table[low + 1] - table[low]));
    }
    out[n] = sum;
  }
  return out;
}

function bessel(x) { // I0
  let sum = 1, term = 1;
  for (let k = 1; k < 40; k++) { term *= (x / (2 * k)) ** 2; sum += term; }
  return sum;
}

// Log power of windows of SIZE samples, HOP apart: a Float32Array of BINS for each frame.
function logPower(samples) {
  const window = Float64Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / SIZE));
  const rows = [];
  for (let at = 0; at + SIZE <= samples.length; at += HOP) {
    const re = new Float64Array(SIZE), im = new Float64Array(SIZE);
    for (let i = 0; i < SIZE; i++) re[i] = samples[at + i] * window[i];
    transform(re, im);
    rows.push(Float32Array.from({ length: BINS }, (_, i) => {
      const bin = i + FIRST_BIN;
      return Math.log(re[bin] * re[bin] + im[bin] * im[bin] + 1e-9);
    }));
  }
  return rows;
}

function transform(re, im) { // FFT in place
  const size = re.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const half = length / 2;
    for (let k = 0; k < half; k++) {
      const c = Math.cos(-2 * Math.PI * k / length), s = Math.sin(-2 * Math.PI * k / length);
      for (let i = k; i < size; i += length) {
        const j = i + half, x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
        re[j] = re[i] - x; im[j] = im[i] - y; re[i] += x; im[i] += y;
      }
    }
  }
}

const clamp = (value, high) => Math.max(0, Math.min(high, value));

// Whitening: frames `first` to `last` minus their local mean; the edges are padded with the end frames.
function whitened(levels, first, last) {
  const wide = levels.map((row) => { // sums over neighbouring bins
    const sums = new Float64Array(BINS);
    for (let bin = 0; bin < BINS; bin++) for (let d = -MEAN_BINS; d <= MEAN_BINS; d++) sums[bin] += row[clamp(bin + d, BINS - 1)];
    return sums;
  });
  const area = (2 * MEAN_FRAMES + 1) * (2 * MEAN_BINS + 1), rows = [];
  for (let frame = first; frame < last; frame++) {
    const row = Float32Array.from(levels[clamp(frame, levels.length - 1)]);
    for (let d = -MEAN_FRAMES; d <= MEAN_FRAMES; d++) {
      const near = wide[clamp(frame + d, levels.length - 1)];
      for (let bin = 0; bin < BINS; bin++) row[bin] -= near[bin] / area;
    }
    rows.push(row);
  }
  return rows;
}

function peaksOf(levels) { // codes (blocks, KEPT): the strongest local maxima of each block
  const around = whitened(levels, -PEAK_FRAMES, levels.length + PEAK_FRAMES);
  const blocks = Math.ceil(levels.length / BLOCK), codes = new Uint16Array(blocks * KEPT).fill(EMPTY);
  for (let block = 0; block < blocks; block++) {
    const found = [];
    for (let frame = block * BLOCK; frame < Math.min(levels.length, (block + 1) * BLOCK); frame++) {
      const row = around[frame + PEAK_FRAMES];
      for (let bin = 0; bin < BINS; bin++) if (row[bin] > LEAST && isTop(around, frame, bin)) found.push([row[bin], frame % BLOCK * 256 + bin]);
    }
    found.sort((a, b) => b[0] - a[0]);
    found.slice(0, KEPT).map(([, code]) => code).sort((a, b) => a - b).forEach((code, i) => { codes[block * KEPT + i] = code; });
  }
  return codes;
}

function isTop(around, frame, bin) {
  const value = around[frame + PEAK_FRAMES][bin];
  for (let f = frame; f <= frame + 2 * PEAK_FRAMES; f++) {
    for (let b = Math.max(0, bin - PEAK_BINS); b <= Math.min(BINS - 1, bin + PEAK_BINS); b++) if (around[f][b] > value) return false;
  }
  return true;
}

// Patches the default of the input `step` (the row distance), which a web session cannot override.
function withStep(file, step) {
  const patched = new Uint8Array(file.slice(0));
  const mark = [0x10, 7, 0x42, 4, ...new TextEncoder().encode("step"), 0x4a, 8];
  const at = patched.findIndex((_, i) => mark.every((byte, k) => patched[i + k] === byte));
  if (at < 0) throw new Error("not a model of this version");
  patched[at + mark.length] = step;
  return patched;
}

async function embedded(samples, isQuery) {
  const step = isQuery ? about.query_step : about.step; // frames
  const feeds = { waveform: new ort.Tensor("float32", samples, [1, samples.length]) };
  const { embeddings, lengths } = await sessions[isQuery ? 0 : 1].run(feeds);
  const [, count, dim] = embeddings.dims, vectors = embeddings.data;
  const energy = new Float64Array(samples.length + 1);
  for (let i = 0; i < samples.length; i++) energy[i + 1] = energy[i] + samples[i] * samples[i];
  for (let row = 0; row < count; row++) { // silent windows get zero rows, which match nothing
    const from = Math.min(samples.length, row * step * about.frame_hop), to = Math.min(samples.length, from + about.window_samples);
    if (energy[to] - energy[from] < about.silence ** 2 * Math.max(1, to - from)) vectors.fill(0, row * dim, (row + 1) * dim);
  }
  return { vectors, clear: lengths.data, count, dim, hop: step * about.frame_hop / RATE };
}

async function view(sound, speed) {
  const samples = resampled(sound, speed), query = speed === 1;
  const rows = await embedded(samples, query), levels = logPower(samples);
  const heights = whitened(levels, 0, levels.length), peaks = query ? peaksOf(levels) : new Uint16Array(0);
  const head = new DataView(new ArrayBuffer(56));
  [speed, samples.length / RATE, rows.hop, 0].forEach((value, i) => head.setFloat64(8 * i, value, true));
  [rows.count, rows.dim, levels.length, BINS, peaks.length / KEPT, KEPT].forEach((value, i) => head.setUint32(32 + 4 * i, value, true));
  const bytes = new Uint8Array(levels.length * BINS);
  heights.forEach((row, frame) => row.forEach((value, bin) => { bytes[frame * BINS + bin] = Math.round(Math.max(0, Math.min(HIGHEST, value)) * 255 / HIGHEST); }));
  return { rows, parts: [head, halves(rows.vectors), halves(rows.clear), bytes, peaks] };
}

function halves(values) { // float16, rounded to nearest
  const single = new Float32Array(1), bits = new Uint32Array(single.buffer);
  return Uint16Array.from(values, (value) => {
    single[0] = value;
    const sign = bits[0] >>> 16 & 0x8000, exponent = (bits[0] >>> 23 & 0xff) - 112, fraction = bits[0] & 0x7fffff;
    if (exponent >= 31) return sign | 0x7bff;
    if (exponent <= 0) return exponent < -10 ? sign : sign | ((fraction | 0x800000) + (1 << 12 - exponent + 1)) >> 14 - exponent;
    return sign | (exponent << 10) + (fraction + 0x1000 >> 13);
  });
}

async function start() {
  ort = await import(new URL("ort/ort.wasm.min.mjs", self.location.href).href);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("ort/", self.location.href).href;
  ort.env.logLevel = "error";
  about = await (await fetch("v1/model")).json();
  const answer = await fetch("v1/model/onnx");
  if (!answer.ok) throw new Error("no model for browsers");
  const file = await answer.arrayBuffer();
  sessions = [];
  for (const step of [about.query_step, about.step]) {
    sessions.push(await ort.InferenceSession.create(withStep(file, step), { executionProviders: ["wasm"], logSeverityLevel: 3 }));
  }
}

// In: {id, samples, rate, speeds}; out: {id, query} or {id, error}. Without samples: a readiness check.
let ready;
self.onmessage = async ({ data: { id, samples, rate, speeds } }) => {
  try {
    await (ready ??= start());
    if (!samples) { self.postMessage({ id, about }); return; }
    const sound = resampled(samples, RATE / rate);
    const views = [];
    for (const speed of speeds) views.push(await view(sound, speed));
    const head = new DataView(new ArrayBuffer(40));
    new TextEncoder().encode("FPQY").forEach((byte, i) => head.setUint8(i, byte));
    head.setUint16(4, 1, true);
    head.setUint16(6, views.length, true);
    about.model_id.match(/../g).forEach((byte, i) => head.setUint8(8 + i, parseInt(byte, 16)));
    const query = await new Blob([head, ...views.flatMap((one) => one.parts)]).arrayBuffer();
    self.postMessage({ id, query }, [query]);
  } catch (error) { self.postMessage({ id, error: String(error) }); }
};
