// Draws the microphone's level and a running spectrogram.
import { $ } from "./dom.js";

const STEP = 4; // pixels a frame

export class Picture {
  start(analyser) {
    this.stop();
    const canvas = $("spectrogram"), context = canvas.getContext("2d");
    const bins = new Uint8Array(analyser.frequencyBinCount);
    const wave = new Float32Array(analyser.fftSize);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
    context.clearRect(0, 0, canvas.width, canvas.height);
    const draw = () => {
      analyser.getFloatTimeDomainData(wave);
      let power = 0;
      for (const value of wave) power += value * value;
      this.decibels = 10 * Math.log10(power / wave.length + 1e-12);
      $("level").style.transform = `scaleX(${Math.max(0, Math.min(1, (this.decibels + 70) / 60))})`;
      if (!still) {
        analyser.getByteFrequencyData(bins);
        context.globalCompositeOperation = "copy";
        context.drawImage(canvas, -STEP, 0);
        context.globalCompositeOperation = "source-over";
        context.fillStyle = colour;
        const rows = 64, highest = Math.round(bins.length * 0.25);
        for (let row = 0; row < rows; row++) {
          const value = bins[Math.round((row / rows) ** 1.5 * highest)] / 255;
          context.globalAlpha = value * value;
          context.fillRect(canvas.width - STEP, canvas.height * (1 - (row + 1) / rows), STEP, canvas.height / rows);
        }
        context.globalAlpha = 1;
      }
      this.frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop() { cancelAnimationFrame(this.frame); }
}
