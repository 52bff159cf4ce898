import { PAUSE_SECONDS } from "./recording.js";

const LONGEST_STEP_MS = 2000;

/**
 * Turns the time stamps of events into seconds that rise.
 *
 * A clock that jumps says nothing about the time between two samples. So a jump is a pause, at which the
 * service splits the recording. The same is true of the time in which the page was hidden.
 */
export class SensorClock {
  #stamp = NaN;
  #seconds = 0;
  /** A stamp that is not later than the one before it. */
  #early = NaN;
  #paused = false;

  /** The time of the sample with this stamp, or `null` if the sample must be left out. */
  seconds(stampMs: number): number | null {
    if (!Number.isFinite(stampMs)) return null;
    if (Number.isNaN(this.#stamp)) return this.#accept(stampMs, 0);
    const step = stampMs - this.#stamp;
    if (step <= 0) {
      // One early stamp belongs to a late event. Two that rise are a clock that was set back.
      if (!(stampMs > this.#early)) {
        this.#early = stampMs;
        return null;
      }
      return this.#accept(stampMs, PAUSE_SECONDS);
    }
    return this.#accept(stampMs, this.#paused || step > LONGEST_STEP_MS ? PAUSE_SECONDS : step / 1000);
  }

  /** The next sample begins a new part of the recording. */
  pause(): void {
    this.#paused = !Number.isNaN(this.#stamp);
  }

  #accept(stampMs: number, step: number): number {
    this.#stamp = stampMs;
    this.#early = NaN;
    this.#paused = false;
    this.#seconds += step;
    return this.#seconds;
  }
}
