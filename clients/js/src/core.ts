import type { Doubt, Mended } from "./api.js";
import { Problem } from "./problem.js";
import type { Axes } from "./recording.js";

/** A recording as a JSON document of the service: see `docs/api.md`. */
export interface WalkDocument {
  time_seconds?: number[];
  rate_hz?: number;
  acceleration: Axes[];
  acceleration_unit?: "m/s^2" | "g";
  acceleration_scale?: number;
  acceleration_at_rest?: "up" | "down";
  angular_rate?: Axes[];
  angular_rate_unit?: "rad/s" | "deg/s";
  angular_rate_scale?: number;
}

/** What a device needs to verify its user, besides the model. The service's answer to a download. */
export interface DeviceTemplate {
  model: string;
  user: string;
  templates: { windows: number; scale: number; values: number[] }[];
  strangers: { mean: number; deviation: number };
  thresholds: { single: number[]; session: number[]; users: number };
  valid_days: number;
}

/** A walk that the model read. */
export interface WalkRead {
  windows: number;
  windows_refused: { type: string; detail: string; windows: number }[];
  mended: Mended[];
}

/** A decision about the walk that was read last. */
export interface WalkVerified {
  decision: "accept" | "reject" | "inconclusive";
  reason: Doubt | null;
  score: number;
  estimated_fmr: number;
  windows: number;
}

/** The functions of `bipedalnet.wasm`: `crates/wasm/src/abi.rs` describes them. */
interface Exports {
  memory: WebAssembly.Memory;
  allocate(bytes: number): number;
  load_model(file: number, bytes: number): number;
  read_walk(
    device: number,
    options: number,
    times: number,
    timesCount: number,
    rateHz: number,
    acceleration: number,
    accelerationCount: number,
    accelerationScale: number,
    angularRate: number,
    angularRateCount: number,
    angularRateScale: number,
  ): void;
  walk_features(device: number): number;
  feature_len(device: number): number;
  verify_walk(
    device: number,
    model: number,
    modelBytes: number,
    numbers: number,
    count: number,
    fmr: number,
    inSession: number,
  ): void;
  output(): number;
  output_bytes(): number;
}

const [IN_G, DOWN, IN_DEGREES] = [1, 2, 4];
const TYPE = "urn:bipedalnet:problem:";

/** The part of the service that also runs in a browser: the same code gives the same bits. */
export class Core {
  readonly model: string;
  readonly #exports: Exports;
  readonly #device: number;
  #windows = 0;

  /** Throws if the model cannot be used. */
  constructor(instance: WebAssembly.Instance, model: Uint8Array) {
    this.#exports = instance.exports as unknown as Exports;
    this.#device = this.#exports.load_model(this.#put(model), model.length);
    if (this.#device === 0) throw new Error("the model is damaged, or needs another version of this package");
    this.model = this.#output();
  }

  /** Reads a walk. Throws a `Problem` as the service would. */
  read(walk: WalkDocument): WalkRead {
    const { time_seconds: times, acceleration, angular_rate: rates } = walk;
    const options =
      (walk.acceleration_unit === "g" ? IN_G : 0) |
      (walk.acceleration_at_rest === "down" ? DOWN : 0) |
      (walk.angular_rate_unit === "deg/s" ? IN_DEGREES : 0);
    this.#windows = 0;
    this.#exports.read_walk(
      this.#device,
      options,
      times ? this.#put(new Float64Array(times)) : 0,
      times?.length ?? 0,
      walk.rate_hz ?? NaN,
      this.#put(new Float32Array(acceleration.flat())),
      acceleration.length,
      walk.acceleration_scale ?? NaN,
      rates ? this.#put(new Float32Array(rates.flat())) : 0,
      rates?.length ?? 0,
      walk.angular_rate_scale ?? NaN,
    );
    const read: WalkRead = { windows: 0, windows_refused: [], mended: [] };
    for (const [kind, code = "", second = "", detail = ""] of this.#lines()) {
      if (kind === "walk") read.windows = Number(code);
      else if (kind === "refused") read.windows_refused.push({ type: TYPE + code, windows: Number(second), detail });
      else read.mended.push({ fault: code, detail: second });
    }
    this.#windows = read.windows;
    return read;
  }

  /** The features of the last walk, one list for each window. */
  features(): Float32Array[] {
    const { memory, walk_features, feature_len } = this.#exports;
    const length = feature_len(this.#device);
    const all = new Float32Array(memory.buffer, walk_features(this.#device), this.#windows * length);
    return Array.from({ length: this.#windows }, (_, at) => all.slice(at * length, (at + 1) * length));
  }

  /** Decides whether the last walk is the user's. Throws a `Problem` if the template cannot be used. */
  verify(template: DeviceTemplate, fmr: number, inSession = false): WalkVerified {
    const { strangers, thresholds } = template;
    const numbers = new Float64Array([
      strangers.mean,
      strangers.deviation,
      ...thresholds.single,
      ...thresholds.session,
      thresholds.users,
      ...template.templates.flatMap(({ windows, scale, values }) => [windows, scale, ...values]),
    ]);
    const model = new TextEncoder().encode(template.model);
    this.#exports.verify_walk(
      this.#device,
      this.#put(model),
      model.length,
      this.#put(numbers),
      numbers.length,
      fmr,
      Number(inSession),
    );
    const [[, decision, reason, score, estimatedFmr, windows] = []] = this.#lines();
    return {
      decision: decision as WalkVerified["decision"],
      reason: (reason || null) as Doubt | null,
      score: Number(score),
      estimated_fmr: Number(estimatedFmr),
      windows: Number(windows),
    };
  }

  /** The next call takes the buffer. */
  #put(values: Uint8Array | Float32Array | Float64Array): number {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const place = this.#exports.allocate(bytes.length);
    new Uint8Array(this.#exports.memory.buffer).set(bytes, place);
    return place;
  }

  /** The fields of each line of the output. */
  #lines(): string[][] {
    const lines = this.#output().split("\n").map((line) => line.split("\t"));
    const [[kind, code = "", field = "", detail = ""] = []] = lines;
    if (kind === "problem") {
      throw new Problem({ type: TYPE + code, title: "The device cannot use it", status: 422, detail, field });
    }
    return lines;
  }

  #output(): string {
    const { memory, output, output_bytes } = this.#exports;
    return new TextDecoder().decode(new Uint8Array(memory.buffer, output(), output_bytes()));
  }
}
