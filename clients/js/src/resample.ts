import { changesOf, LEAST_CHANGES_HZ } from "./live_checks.js";
import { LONGEST_GAP_SECONDS, rateHz } from "./recording.js";
import type { Axes, Recording } from "./recording.js";

/** The rate at which the service works. */
const GRID_HZ = 50;
const EVEN_WITHIN_SECONDS = 0.001;

/** A recording whose samples come at equal times. */
export interface Even {
  rateHz: number;
  acceleration: readonly Axes[];
  angularRate?: readonly Axes[];
}

/**
 * An even recording as it is, and an uneven one interpolated at 50 Hz or its own lower rate. `null` if it
 * has a gap, which interpolation would make look like movement.
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
  if (changesOf(acceleration) < LEAST_CHANGES_HZ * (last - first)) return null;
  if (timeSeconds.some((time, at) => time - (timeSeconds[at - 1] ?? time) > LONGEST_GAP_SECONDS)) return null;
  const grid = Math.min(GRID_HZ, rateHz(timeSeconds));
  const times = Array.from({ length: Math.floor((last - first) * grid) + 1 }, (_, at) => first + at / grid);
  const at = (samples: readonly Axes[]) => interpolated(timeSeconds, samples, times);
  return { rateHz: grid, acceleration: at(acceleration), ...(angularRate && { angularRate: at(angularRate) }) };
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
