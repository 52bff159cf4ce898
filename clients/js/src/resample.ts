import { changesOf, LEAST_CHANGES_HZ, LEAST_RATE_HZ } from "./live_checks.js";
import { LONGEST_GAP_SECONDS } from "./recording.js";
import type { Axes, Recording } from "./recording.js";

/** The rate to which the service interpolates too. */
const GRID_HZ = 50;
const EVEN_WITHIN_SECONDS = 0.001;

/** A recording whose samples come at equal times. */
export interface Even {
  rateHz: number;
  acceleration: readonly Axes[];
  angularRate?: readonly Axes[];
}

/**
 * An even recording as it is, and an uneven one interpolated at 50 Hz. `null` if it has a gap or a
 * fault that interpolation would hide.
 */
export function evenly({ timeSeconds, acceleration, angularRate }: Recording): Even | null {
  const first = timeSeconds[0] ?? 0;
  const last = timeSeconds.at(-1) ?? 0;
  const step = (last - first) / (timeSeconds.length - 1);
  if (!(step > 0)) return null;
  if (timeSeconds.every((time, at) => Math.abs(time - first - at * step) <= EVEN_WITHIN_SECONDS)) {
    return { rateHz: 1 / step, acceleration, ...(angularRate && { angularRate }) };
  }
  // So that the service can tell a slow sensor.
  const isSlow = 1 / step < LEAST_RATE_HZ || changesOf(acceleration) < LEAST_CHANGES_HZ * (last - first);
  if (isSlow) return null;
  const intervals = timeSeconds.slice(1).map((time, at) => time - timeSeconds[at]!);
  if (!intervals.every((interval) => interval > 0 && interval <= LONGEST_GAP_SECONDS)) return null;
  const times = Array.from({ length: Math.floor((last - first) * GRID_HZ) + 1 }, (_, at) => first + at / GRID_HZ);
  const at = (samples: readonly Axes[]) => interpolated(timeSeconds, samples, times);
  return { rateHz: GRID_HZ, acceleration: at(acceleration), ...(angularRate && { angularRate: at(angularRate) }) };
}

function interpolated(timeSeconds: readonly number[], samples: readonly Axes[], times: readonly number[]): Axes[] {
  let after = 1;
  return times.map((time) => {
    while (after < timeSeconds.length - 1 && timeSeconds[after]! < time) after++;
    const [start, end] = [timeSeconds[after - 1]!, timeSeconds[after]!];
    const share = Math.min(1, (time - start) / (end - start));
    return samples[after]!.map((value, axis) => {
      const before = samples[after - 1]![axis]!;
      return before + (value - before) * share;
    }) as Axes;
  });
}
