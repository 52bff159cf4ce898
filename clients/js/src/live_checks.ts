import type { Axes, Recording } from "./recording.js";
import { LONGEST_GAP_SECONDS, rateHz, recordedSeconds } from "./recording.js";

/** A name for programs. All but `no-gyroscope` are the ends of problem types of the service. */
export type Reason =
  | "flat-sensor"
  | "gravity-units"
  | "implausible-gravity"
  | "missing-samples"
  | "no-gyroscope"
  | "no-steps"
  | "rate-too-low"
  | "shaking"
  | "slow-sensor"
  | "standing-still"
  | "too-short"
  | (string & {});

/** Something that a recording lacks. */
export interface Finding {
  reason: Reason;
  /** For people, in English. */
  detail: string;
  /** Whether the service refuses this part of the recording. */
  blocks: boolean;
}

/** Looks at the last two seconds and, at the end, at all of a recording. `null`: nothing is wrong with it. */
export type Check = (part: Recording) => Finding | null;

export const WINDOW_SECONDS = 2;
export const LEAST_RATE_HZ = 18;
export const LEAST_CHANGES_HZ = 15;
const LEAST_DEVIATION_M_S2 = 0.5;
const LARGEST_DEVIATION_M_S2 = 16;
/** Wider than the service's limits, which hold for the median of the whole recording. */
const GRAVITY_M_S2 = { least: 6, most: 16 };
/** Without gravity, the mean is much shorter than the movement around it. */
const LEAST_GRAVITY_RATIO = 0.4;
/** A mean of more than this is gravity in g, not the rest of a filter. */
const LEAST_MEAN_M_S2 = 0.5;

/** The cheap ones of the service's checks, for two seconds. */
export function windowFinding({ timeSeconds, acceleration }: Recording): Finding | null {
  const seconds = recordedSeconds(timeSeconds);
  if (seconds < WINDOW_SECONDS - LONGEST_GAP_SECONDS) {
    return blocking("too-short", `${seconds.toFixed(1)} s are recorded; ${WINDOW_SECONDS} s are needed`);
  }
  const rate = rateHz(timeSeconds);
  if (rate < LEAST_RATE_HZ) {
    return blocking("rate-too-low", `the sensor gives ${rate.toFixed(0)} samples a second; 20 are needed`);
  }
  const gap = Math.max(...timeSeconds.slice(1).map((time, at) => time - timeSeconds[at]!));
  if (gap > LONGEST_GAP_SECONDS) {
    return blocking("missing-samples", `no samples came for ${gap.toFixed(1)} s`);
  }
  return movement(acceleration, seconds);
}

function movement(acceleration: Axes[], seconds: number): Finding | null {
  const columns = [0, 1, 2].map((axis) => acceleration.map((sample) => sample[axis]!));
  const means = columns.map(mean);
  const gravity = Math.hypot(...means);
  const deviation = Math.hypot(...columns.map((column, axis) => spread(column, means[axis]!)));
  const magnitudes = acceleration.map((sample) => Math.hypot(...sample));
  const deviationOfMagnitude = spread(magnitudes, mean(magnitudes));
  if (columns.some((column) => column.every((value) => value === column[0]))) {
    return blocking("flat-sensor", "a value of the sensor never changes");
  }
  if (gravity < LEAST_GRAVITY_RATIO * deviation || gravity < LEAST_MEAN_M_S2) {
    return blocking("implausible-gravity", "the acceleration lacks gravity");
  }
  if (gravity < GRAVITY_M_S2.least || gravity > GRAVITY_M_S2.most) {
    return blocking("gravity-units", `gravity is ${gravity.toFixed(1)} m/s²; it should be about 9.8`);
  }
  if (deviationOfMagnitude < LEAST_DEVIATION_M_S2) return blocking("standing-still", "there is hardly any movement");
  const changes = changesOf(acceleration);
  if (changes / seconds < LEAST_CHANGES_HZ) {
    const rate = (changes / seconds).toFixed(0);
    return blocking("slow-sensor", `the sensor measures ${rate} times a second; ${LEAST_CHANGES_HZ} are needed`);
  }
  return deviation > LARGEST_DEVIATION_M_S2 ? blocking("shaking", "the movement is too strong for walking") : null;
}

/** Whether a gyroscope is fast enough and gives rates of walking. The service refuses a walk with another. */
export function isUsable(angularRate: Axes[], seconds: number): boolean {
  const rms = Math.sqrt(mean(angularRate.map(([x, y, z]) => x * x + y * y + z * z)));
  const isFlat = [0, 1, 2].some((axis) => angularRate.every((sample) => sample[axis] === angularRate[0]![axis]));
  return !isFlat && changesOf(angularRate) >= LEAST_CHANGES_HZ * seconds && rms > 0.25 && rms < 8;
}

/** How often a sample differs from the one before. An app can read a slow sensor again and again. */
export function changesOf(samples: readonly Axes[]): number {
  return samples.filter((sample, at) => at === 0 || sample.some((value, axis) => value !== samples[at - 1]![axis])).length;
}

export function blocking(reason: Reason, detail: string): Finding {
  return { reason, detail, blocks: true };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function spread(values: readonly number[], around: number): number {
  return Math.sqrt(mean(values.map((value) => (value - around) ** 2)));
}
