/** x to the right of the screen, y to its top, z out of it. */
export type Axes = [x: number, y: number, z: number];

/** One walk, in the phone's own axes. */
export interface Recording {
  /** One time for each sample. They rise. */
  timeSeconds: number[];
  /** In m/s², with gravity. */
  acceleration: Axes[];
  /** In rad/s. Absent without a gyroscope. */
  angularRate?: Axes[];
  /** The sign of a sensor that lies still: what points up is positive with `up`. */
  atRest: "up" | "down";
}

/** No window of the service spans a longer gap. */
export const LONGEST_GAP_SECONDS = 0.25;

/** The service splits a recording at a gap of this length. */
export const PAUSE_SECONDS = 2.5;

const LONGEST_GAP_KEPT_SECONDS = 2;
const MOST_HZ = 60;
/** Clocks of sensors are not exact. */
const TOLERANCE = 1.04;

/** Seconds of a recording without its pauses. */
export function recordedSeconds(timeSeconds: readonly number[]): number {
  let seconds = 0;
  for (let at = 1; at < timeSeconds.length; at++) {
    const step = timeSeconds[at]! - timeSeconds[at - 1]!;
    if (step <= LONGEST_GAP_KEPT_SECONDS) seconds += step;
  }
  return seconds;
}

/** Samples a second between pauses, or 0 if there are fewer than two. */
export function rateHz(timeSeconds: readonly number[]): number {
  let steps = 0;
  for (let at = 1; at < timeSeconds.length; at++) {
    if (timeSeconds[at]! - timeSeconds[at - 1]! <= LONGEST_GAP_KEPT_SECONDS) steps++;
  }
  return steps === 0 ? 0 : steps / recordedSeconds(timeSeconds);
}

/** Averages neighbouring samples of a sensor that is faster than 60 Hz. */
export function atMost60Hz(recording: Recording): Recording {
  const together = Math.ceil(rateHz(recording.timeSeconds) / (MOST_HZ * TOLERANCE));
  if (together <= 1) return recording;
  const groups: number[][] = [];
  let group: number[] = [];
  recording.timeSeconds.forEach((time, at) => {
    const afterGap = at > 0 && time - recording.timeSeconds[at - 1]! > LONGEST_GAP_SECONDS;
    if (group.length === together || (afterGap && group.length > 0)) {
      groups.push(group);
      group = [];
    }
    group.push(at);
  });
  // A last group that is not whole would be noisier than the others.
  if (group.length === together) groups.push(group);
  const mean = (values: readonly number[], at: number[]) =>
    at.reduce((sum, index) => sum + values[index]!, 0) / at.length;
  const meanAxes = (samples: Axes[]) => {
    const columns = [0, 1, 2].map((axis) => samples.map((sample) => sample[axis]!));
    return groups.map((at) => columns.map((column) => mean(column, at)) as Axes);
  };
  return {
    ...recording,
    timeSeconds: groups.map((at) => mean(recording.timeSeconds, at)),
    acceleration: meanAxes(recording.acceleration),
    ...(recording.angularRate && { angularRate: meanAxes(recording.angularRate) }),
  };
}
