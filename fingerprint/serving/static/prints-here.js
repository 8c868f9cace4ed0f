// The page's interface to the worker prints.js. Without WebAssembly or model, `ready` is false.
let worker, waiting = new Map(), number = 0;

function ask(message, transfer = []) {
  worker ??= start();
  return new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    worker.postMessage({ id: number, ...message }, transfer);
  });
}

function start() {
  const made = new Worker("prints.js", { type: "module" });
  made.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error)); else resolve(data);
  };
  made.onerror = () => { for (const { reject } of waiting.values()) reject(new Error("worker")); waiting.clear(); };
  return made;
}

// A module with one SIMD instruction; WebAssembly.validate shows whether SIMD is supported.
const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

let answer;
export function ready() { // the model's card, or undefined
  answer ??= (async () => {
    const off = new URLSearchParams(location.search).get("prints") === "off";
    if (off || typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) return undefined;
    if (!(await fetch("ort/ort.wasm.min.mjs", { method: "HEAD" })).ok) return undefined;
    return (await ask({})).about;
  })().catch(() => undefined);
  return answer;
}

function renewed() { // the server has changed its model
  worker?.terminate();
  worker = answer = undefined;
  return ready();
}

export async function query(samples, rate, speeds = [1]) {
  return (await ask({ samples, rate, speeds }, [samples.buffer])).query;
}

// Matches of a query computed here; null if it has to be repeated with more audio.
export async function identify(samples, rate, { thorough = true, top = 3, patience = 10_000 } = {}) {
  let speeds = [1];
  for (let round = 0; round < 4; round++) {
    const body = await query(samples.slice(), rate, speeds);
    const response = await fetch(`v1/identify?top=${top}&min_confidence=0&speeds=${thorough ? "in-doubt" : "as-it-is"}`, {
      method: "POST", body, headers: { "Content-Type": "application/vnd.fingerprint.query" }, signal: AbortSignal.timeout(patience),
    });
    if (response.status === 409 && (await renewed())) { speeds = [1]; continue; }
    if (response.status === 422) return null; // too quiet or too short yet
    if (!response.ok) throw Object.assign(new Error("no_answer"), { response });
    const found = await response.json();
    if (found.status !== "doubtful") return found.matches;
    speeds = [...speeds, ...found.speeds].slice(0, 16);
  }
  return null;
}
