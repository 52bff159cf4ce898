import { cheapCheck } from "./cheap_check.js";
import { Emitter } from "./events.js";
import { blocking, isUsable, WINDOW_SECONDS } from "./live_checks.js";
import type { Check, Finding, Reason } from "./live_checks.js";
import { obstacle, permitMotion, signAtRest } from "./platform.js";
import type { Obstacle } from "./platform.js";
import { atMost60Hz, rateHz, recordedSeconds } from "./recording.js";
import type { Axes, Recording } from "./recording.js";
import { SensorClock } from "./sensor_clock.js";
import { ScreenLock } from "./screen_lock.js";

export interface RecorderOptions {
  /** Seconds to record, without pauses. The default is 10. */
  seconds?: number;
  /** Whether to record the gyroscope too. A walk without it has half the bytes. The default is `true`. */
  angularRate?: boolean;
  /** Replaces the cheap checks, for example by `coreCheck`: the service's own, as WebAssembly. */
  check?: Check;
}

export interface Sample {
  timeSeconds: number;
  acceleration: Axes;
  angularRate: Axes | null;
}

export interface Status {
  /** Recorded so far, without pauses. */
  seconds: number;
  /** Samples a second, before they are averaged to at most 60. */
  rateHz: number;
  hasGyroscope: boolean;
  /** What is wrong with the last two seconds. */
  finding: Finding | null;
}

/** Why a recording ended before or with its last second. */
export type Ending = "complete" | "stopped" | "hidden-too-long" | "sensor-stopped";

export interface RecorderEvents {
  /** The sensor is permitted: the user may walk. */
  started: null;
  sample: Sample;
  /** Four times a second. */
  status: Status;
  /** The page is hidden. Browsers give no samples then. */
  paused: null;
  resumed: null;
  ended: Ending;
}

/** There is no recording. */
export class RecorderError extends Error {
  override readonly name = "RecorderError";

  constructor(
    readonly reason: Obstacle | "permission-denied" | "already-recording" | Reason,
    message: string,
  ) {
    super(message);
  }
}

const STATUS_SECONDS = 0.25;
const RADIANS = Math.PI / 180;
/** Somebody else may carry the phone after that. */
const LONGEST_HIDDEN_MS = 30_000;
const NO_SENSOR_MS = 3_000;
const SENSOR_STOPPED_MS = 10_000;
const OBSTACLES = {
  "insecure-context": "motion sensors need HTTPS",
  "no-sensor": "this browser has no motion events",
};

/** Records walks from the motion sensors of a phone. */
export class Recorder extends Emitter<RecorderEvents> {
  readonly #options: Required<RecorderOptions>;
  #isRecording = false;
  #end: ((ending: Ending) => void) | null = null;

  constructor(options: RecorderOptions = {}) {
    super();
    this.#options = { seconds: 10, angularRate: true, check: cheapCheck, ...options };
  }

  /** What keeps this page from recording, or `null`. */
  static obstacle(): Obstacle | null {
    return obstacle();
  }

  /**
   * Records one walk. Call it in a tap: iOS asks for permission then.
   *
   * @throws RecorderError if nothing was recorded, or the service would refuse all of it.
   */
  async record(signal?: AbortSignal): Promise<Recording> {
    const found = obstacle();
    if (found !== null) throw new RecorderError(found, OBSTACLES[found]);
    if (this.#isRecording) throw new RecorderError("already-recording", "this recorder is recording already");
    this.#isRecording = true;
    try {
      signal?.throwIfAborted();
      const permission = permitMotion();
      if (permission !== null && !(await permission)) {
        throw new RecorderError("permission-denied", "the motion sensors are not permitted");
      }
      signal?.throwIfAborted();
      return await this.#listen(signal);
    } finally {
      this.#isRecording = false;
      this.#end = null;
    }
  }

  /** Ends the recording. `record` then returns what there is. */
  stop(): void {
    this.#end?.("stopped");
  }

  async #listen(signal: AbortSignal | undefined): Promise<Recording> {
    const walk = new GrowingWalk();
    const screen = new ScreenLock();
    const listening = new AbortController();
    const { angularRate, seconds } = this.#options;
    let heard = performance.now();
    let hiddenSince: number | null = null;
    let reported = 0;

    const ended = new Promise<void>((resolve, reject) => {
      this.#end = (ending) => {
        if (listening.signal.aborted) return;
        listening.abort();
        this.emit("ended", ending);
        resolve();
      };
      const end = this.#end;
      const take = (event: DeviceMotionEvent) => {
        const sample = walk.take(event, angularRate);
        if (sample === null) return;
        heard = performance.now();
        this.emit("sample", sample);
        if (walk.seconds - reported >= STATUS_SECONDS) {
          reported = walk.seconds;
          this.emit("status", this.#status(walk));
        }
        if (walk.seconds >= seconds) end("complete");
      };
      const seen = () => {
        if (document.hidden) {
          hiddenSince ??= performance.now();
          this.emit("paused", null);
          return;
        }
        const hidden = hiddenSince === null ? 0 : performance.now() - hiddenSince;
        hiddenSince = null;
        heard = performance.now();
        if (hidden > LONGEST_HIDDEN_MS) return end("hidden-too-long");
        walk.pause();
        this.emit("resumed", null);
        void screen.hold();
      };
      const watch = () => {
        const silence = performance.now() - heard;
        if (document.hidden || silence < 1000) return;
        if (walk.isEmpty && silence >= NO_SENSOR_MS) {
          return reject(new RecorderError("no-sensor", "no samples came: there is no sensor, or the browser blocks it"));
        }
        if (silence >= SENSOR_STOPPED_MS) return end("sensor-stopped");
        const finding = blocking("missing-samples", `no samples came for ${(silence / 1000).toFixed(0)} s`);
        if (!walk.isEmpty) this.emit("status", { ...this.#status(walk), finding });
      };
      const options = { signal: listening.signal };
      addEventListener("devicemotion", take, options);
      document.addEventListener("visibilitychange", seen, options);
      signal?.addEventListener("abort", () => reject(signal.reason), options);
      const watching = setInterval(watch, 500);
      listening.signal.addEventListener("abort", () => clearInterval(watching));
    });
    void screen.hold();
    this.emit("started", null);
    try {
      await ended;
    } finally {
      listening.abort();
      screen.release();
    }
    return this.#checked(walk.recording(angularRate));
  }

  #status(walk: GrowingWalk): Status {
    const { seconds, hasGyroscope } = walk;
    const recent = walk.recent();
    let finding = seconds < WINDOW_SECONDS ? cheapCheck(recent) : this.#options.check(recent);
    if (finding === null && this.#options.angularRate && !hasGyroscope) {
      finding = { reason: "no-gyroscope", detail: "there is no gyroscope; walks do without", blocks: false };
    }
    return { seconds, rateHz: rateHz(recent.timeSeconds), hasGyroscope, finding };
  }

  #checked(recording: Recording): Recording {
    const finding = this.#options.check(recording);
    if (finding !== null) throw new RecorderError(finding.reason, finding.detail);
    return recording;
  }
}

/** A walk that is being recorded. */
class GrowingWalk {
  readonly #clock = new SensorClock();
  readonly #times: number[] = [];
  readonly #acceleration: Axes[] = [];
  readonly #angularRate: (Axes | null)[] = [];
  #partStart = 0;
  seconds = 0;

  get isEmpty(): boolean {
    return this.#times.length === 0;
  }

  get hasGyroscope(): boolean {
    return !this.isEmpty && this.#angularRate.every((sample) => sample !== null);
  }

  /** Adds the sample of an event. `null` if the event has none. */
  take({ accelerationIncludingGravity, rotationRate, timeStamp }: DeviceMotionEvent, rates: boolean): Sample | null {
    const { x, y, z } = accelerationIncludingGravity ?? {};
    const acceleration = axes(x, y, z);
    if (acceleration === null) return null;
    const time = this.#clock.seconds(timeStamp);
    if (time === null) return null;
    // The standard says that alpha, beta and gamma of a rate are x, y and z.
    const degrees = rates && rotationRate ? axes(rotationRate.alpha, rotationRate.beta, rotationRate.gamma) : null;
    const angularRate = degrees && (degrees.map((rate) => rate * RADIANS) as Axes);
    const step = time - (this.#times.at(-1) ?? time);
    if (step >= WINDOW_SECONDS) this.#partStart = this.#times.length;
    else this.seconds += step;
    this.#times.push(time);
    this.#acceleration.push(acceleration);
    this.#angularRate.push(angularRate);
    return { timeSeconds: time, acceleration, angularRate };
  }

  pause(): void {
    this.#clock.pause();
  }

  /** The last two seconds since a pause. */
  recent(): Recording {
    let start = this.#times.length - 1;
    while (start > this.#partStart && this.#times.at(-1)! - this.#times[start]! < WINDOW_SECONDS) start--;
    return {
      timeSeconds: this.#times.slice(start),
      acceleration: this.#acceleration.slice(start),
      atRest: signAtRest(),
    };
  }

  recording(rates: boolean): Recording {
    const recording = { timeSeconds: this.#times, acceleration: this.#acceleration, atRest: signAtRest() };
    const angularRate = this.#angularRate as Axes[];
    const isComplete = rates && this.hasGyroscope && isUsable(angularRate, recordedSeconds(this.#times));
    return atMost60Hz(isComplete ? { ...recording, angularRate } : recording);
  }
}

function axes(...values: (number | null | undefined)[]): Axes | null {
  return values.every((value) => Number.isFinite(value)) ? (values as Axes) : null;
}
