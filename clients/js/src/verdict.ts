import { blocking, WINDOW_SECONDS } from "./live_checks.js";
import type { Check, Finding } from "./live_checks.js";
import type { Recording } from "./recording.js";
import { recordedSeconds } from "./recording.js";

const HOP_SECONDS = 0.5;

/** What makes a recording useless as a whole: the last finding, if no window of two seconds is without one. */
export function verdict(recording: Recording, check: Check): Finding | null {
  const { timeSeconds, acceleration } = recording;
  const seconds = recordedSeconds(timeSeconds);
  if (seconds < WINDOW_SECONDS) {
    return blocking("too-short", `${seconds.toFixed(1)} s are recorded; ${WINDOW_SECONDS} s are needed`);
  }
  let last: Finding | null = null;
  let [start, end] = [0, 0];
  for (let from = timeSeconds[0]!; from + WINDOW_SECONDS <= timeSeconds.at(-1)!; from += HOP_SECONDS) {
    while (timeSeconds[start]! < from) start++;
    while (end < timeSeconds.length && timeSeconds[end]! <= from + WINDOW_SECONDS) end++;
    if (start === end) continue;
    const window: Recording = {
      ...recording,
      timeSeconds: timeSeconds.slice(start, end),
      acceleration: acceleration.slice(start, end),
    };
    delete window.angularRate;
    const finding = check(window);
    if (finding === null || !finding.blocks) return null;
    // At a pause or at the end there is little in a window. That hides what is wrong with the others.
    if (last === null || finding.reason !== "too-short") last = finding;
  }
  return last;
}
