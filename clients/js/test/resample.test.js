import assert from "node:assert/strict";
import test from "node:test";
import { evenly } from "../dist/resample.js";

const walk = (times, value) => ({ timeSeconds: times, acceleration: times.map(value), angularRate: times.map(value), atRest: "up" });
const jittered = (hz, samples) => Array.from({ length: samples }, (_, at) => (at + 0.3 * Math.sin(at * 7)) / hz);

test("an even recording stays as it is", () => {
  const even = walk(jittered(50, 200).map((_, at) => 5 + at / 50), (time) => [time, 9.8, 0]);
  const { rateHz, acceleration, angularRate } = evenly(even);
  assert.ok(Math.abs(rateHz - 50) < 1e-6);
  assert.equal(acceleration, even.acceleration);
  assert.equal(angularRate, even.angularRate);
});

test("an uneven one has its values at equal times, at 50 Hz", () => {
  for (const hz of [20, 33, 50, 60]) {
    const recording = walk(jittered(hz, 400), (time) => [3 * time, 9.8, -time]);
    const { rateHz, acceleration, angularRate } = evenly(recording);
    assert.equal(rateHz, 50);
    acceleration.forEach(([x, y, z], at) => {
      const time = recording.timeSeconds[0] + at / rateHz;
      assert.ok(Math.abs(x - 3 * time) + Math.abs(y - 9.8) + Math.abs(z + time) < 1e-9);
    });
    assert.deepEqual(angularRate, acceleration);
  }
});

test("a slow sensor is left for the service to find", () => {
  const recording = walk(jittered(50, 400), (time) => [Math.floor(time * 10), 9.8, 0]);
  assert.equal(evenly(recording), null);
  assert.equal(evenly(walk(jittered(12, 100), (time) => [time, 9.8, 0])), null);
});

test("times that go back are left for the service to find", () => {
  const times = jittered(50, 200).map((time, at) => (at === 100 ? time - 0.1 : time));
  assert.equal(evenly(walk(times, (_, at) => [at % 7, 9.8, 0])), null);
});

test("a gap is not filled", () => {
  const times = jittered(50, 200).map((time) => (time > 2 ? time + 0.3 : time));
  assert.equal(evenly(walk(times, (time) => [time, 9.8, 0])), null);
  assert.equal(evenly(walk([0], () => [0, 0, 0])), null);
});
