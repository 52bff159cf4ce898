import assert from "node:assert/strict";
import test from "node:test";
import { atMost60Hz, rateHz, recordedSeconds } from "../dist/recording.js";

const at = (hz, seconds) => Array.from({ length: hz * seconds }, (_, index) => index / hz);
const walk = (timeSeconds) => ({ timeSeconds, acceleration: timeSeconds.map((time) => [time, 9.8, -time]), atRest: "up" });

test("a recording has at most 60 samples a second", () => {
  for (const [hz, expected] of [[20, 20], [50, 50], [60, 60], [61, 61], [100, 50], [120, 60], [200, 50]]) {
    const capped = atMost60Hz(walk(at(hz, 4)));
    assert.equal(Math.round(rateHz(capped.timeSeconds)), expected, `${hz} Hz`);
    // Averages keep a line a line: each time still has its value.
    for (const [index, time] of capped.timeSeconds.entries()) {
      assert.ok(Math.abs(capped.acceleration[index][0] - time) < 1e-9);
    }
  }
});

test("no average spans a gap", () => {
  const times = [...at(100, 1).slice(0, 99), ...at(100, 1).map((time) => time + 10)];
  const capped = atMost60Hz({ ...walk(times), angularRate: times.map(() => [1, 2, 3]) });
  assert.ok(capped.timeSeconds.every((time) => time <= 1 || time >= 10));
  assert.equal(capped.angularRate.length, capped.timeSeconds.length);
});

test("pauses do not count", () => {
  const times = [...at(50, 2), ...at(50, 2).map((time) => time + 60)];
  assert.ok(Math.abs(recordedSeconds(times) - 3.96) < 1e-9);
  assert.ok(Math.abs(rateHz(times) - 50) < 0.01);
});
