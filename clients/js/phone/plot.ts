import type { Sample } from "../src/index.js";

const SECONDS = 5;
const LARGEST_M_S2 = 30;
const GRAVITY_M_S2 = 9.8;

/** The acceleration of the last five seconds: a line for each axis. */
export class Plot {
  readonly #canvas: HTMLCanvasElement;
  #samples: Sample[] = [];
  #isDrawn = true;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    const redraw = () => this.#draw();
    new ResizeObserver(redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  clear(): void {
    this.#samples = [];
    this.#draw();
  }

  add(sample: Sample): void {
    this.#samples.push(sample);
    while (this.#samples[0]!.timeSeconds < sample.timeSeconds - SECONDS) this.#samples.shift();
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#isDrawn = true;
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    const context = canvas.getContext("2d")!;
    context.scale(devicePixelRatio, devicePixelRatio);
    const colours = getComputedStyle(canvas);
    const y = (value: number) => (height / 2) * (1 - value / LARGEST_M_S2);
    context.strokeStyle = colours.getPropertyValue("--line");
    for (const level of [-2 * GRAVITY_M_S2, -GRAVITY_M_S2, 0, GRAVITY_M_S2, 2 * GRAVITY_M_S2]) {
      context.beginPath();
      context.moveTo(0, y(level));
      context.lineTo(width, y(level));
      context.stroke();
    }
    const end = this.#samples.at(-1)?.timeSeconds ?? 0;
    const start = Math.max(0, end - SECONDS);
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    ["--x", "--y", "--z"].forEach((colour, axis) => {
      context.strokeStyle = colours.getPropertyValue(colour);
      context.beginPath();
      for (const { timeSeconds, acceleration } of this.#samples) {
        context.lineTo(((timeSeconds - start) / SECONDS) * width, y(acceleration[axis]!));
      }
      context.stroke();
    });
  }
}
