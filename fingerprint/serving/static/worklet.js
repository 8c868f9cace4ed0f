// AudioWorklet: passes the microphone's samples to the page, 2,048 at a time.
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(2048);
    this.filled = 0;
  }
  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    for (let from = 0; from < channel.length;) {
      const count = Math.min(channel.length - from, this.block.length - this.filled);
      this.block.set(channel.subarray(from, from + count), this.filled);
      this.filled += count;
      from += count;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(2048);
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("tap", Tap);
