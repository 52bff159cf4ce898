import { blocking, WINDOW_SECONDS, windowFinding } from "./live_checks.js";
import type { Check, Finding } from "./live_checks.js";
import type { Recording } from "./recording.js";
import { recordedSeconds } from "./recording.js";

const HOP_SECONDS = 0.5;

/**
 * The cheap ones of the service's checks: the last finding, if no window of two seconds is without one. They
 * refuse nothing that the service accepts.
 */
export const cheapCheck: Check = (recording) => {
  const { timeSeconds, acceleration } = recording;
  const seconds = recordedSeconds(timeSeconds);
  if (seconds < WINDOW_SECONDS) {
    return blocking("too-short", `${seconds.toFixed(1)} s are recorded; ${WINDOW_SECONDS} s are needed`);
  }
  let last: Finding | null = null;
  let [start, end] = [0, 0];
  // A window has the samples just before and after it, so that none is too short.
  for (let from = timeSeconds[0]!; from + WINDOW_SECONDS <= timeSeconds.at(-1)!; from += HOP_SECONDS) {
    while (timeSeconds[start + 1]! <= from) start++;
    while (timeSeconds[end]! < from + WINDOW_SECONDS) end++;
    const window: Recording = {
      ...recording,
      timeSeconds: timeSeconds.slice(start, end + 1),
      acceleration: acceleration.slice(start, end + 1),
    };
    delete window.angularRate;
    const finding = windowFinding(window);
    if (finding === null || !finding.blocks) return null;
    // At a pause or at the end there is little in a window. That hides what is wrong with the others.
    if (last === null || finding.reason !== "too-short") last = finding;
  }
  return last;
};
