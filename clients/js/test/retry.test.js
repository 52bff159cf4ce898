import assert from "node:assert/strict";
import test from "node:test";
import { backOffSeconds, pause, retryAfterSeconds } from "../dist/retry.js";

test("the back-off doubles up to a minute, with full jitter", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 60].map((failures) => backOffSeconds(failures, () => 1)), [1, 2, 4, 32, 60, 60]);
  assert.equal(backOffSeconds(3, () => 0), 0);
  assert.equal(backOffSeconds(3, () => 0.5), 4);
});

test("Retry-After is a number of seconds or a date", () => {
  const now = Date.parse("Wed, 21 Oct 2026 07:28:00 GMT");
  assert.equal(retryAfterSeconds("7", now), 7);
  assert.equal(retryAfterSeconds("Wed, 21 Oct 2026 07:28:30 GMT", now), 30);
  assert.equal(retryAfterSeconds("Wed, 21 Oct 2026 07:00:00 GMT", now), 0);
  assert.equal(retryAfterSeconds("soon", now), null);
  assert.equal(retryAfterSeconds(null, now), null);
});

test("a pause ends with its signal", async () => {
  const ending = new AbortController();
  const paused = pause(3600, ending.signal, false);
  ending.abort(new Error("enough"));
  await assert.rejects(paused, /enough/);
  await assert.rejects(pause(0, ending.signal, false), /enough/);
});
