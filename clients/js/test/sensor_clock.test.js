import assert from "node:assert/strict";
import test from "node:test";
import { SensorClock } from "../dist/sensor_clock.js";

function timed(stamps) {
  const clock = new SensorClock();
  return stamps.map((stamp) => {
    if (stamp === "pause") return clock.pause();
    const seconds = clock.seconds(stamp);
    return seconds && Math.round(seconds * 1e4) / 1e4;
  });
}

test("stamps become seconds since the first", () => {
  assert.deepEqual(timed([5000, 5020, 5041.5]), [0, 0.02, 0.0415]);
});

test("a stamp that is late, equal or no number is left out", () => {
  assert.deepEqual(timed([5000, 5020, 5010, 5040]), [0, 0.02, null, 0.04]);
  assert.deepEqual(timed([5000, 5020, 5020, 5020, 5040]), [0, 0.02, null, null, 0.04]);
  assert.deepEqual(timed([5000, NaN, 5040]), [0, null, 0.04]);
});

test("a clock that jumps back or forward makes a pause", () => {
  assert.deepEqual(timed([5000, 5020, 100, 120, 140]), [0, 0.02, null, 2.52, 2.54]);
  assert.deepEqual(timed([5000, 5020, 1.7e12, 1.7e12 + 20]), [0, 0.02, 2.52, 2.54]);
});

test("a hidden page makes a pause even if the clock stood still", () => {
  assert.deepEqual(timed([5000, "pause", 5020, 5040]), [0, undefined, 2.5, 2.52]);
  assert.deepEqual(timed(["pause", 5000, 5020]), [undefined, 0, 0.02]);
});
