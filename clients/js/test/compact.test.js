import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import test from "node:test";
import { compact } from "../dist/compact.js";
import { walkBody } from "../dist/index.js";
import { simulated } from "./support/walks.js";

test("the example of the guide has the bytes of the guide", () => {
  const guide = readFileSync(new URL("../../../docs/clients.md", import.meta.url), "utf8").split("### Example")[1];
  const document = JSON.parse(guide.match(/```json\n(.*)\n/)[1]);
  const hex = guide.match(/```hex\n([^]*?)```/)[1].replace(/#.*|\s/g, "");
  const bytes = compact({
    timeSeconds: document.acceleration.map((_, at) => at / document.rate_hz),
    acceleration: document.acceleration,
    angularRate: document.angular_rate,
    atRest: "up",
  });
  assert.equal(Buffer.from(bytes).toString("hex"), hex);
  assert.equal(bytes.length, 133);
});

test("a large walk takes wider numbers", () => {
  const walk = (largest) => ({ timeSeconds: [0, 0.02], acceleration: [[0, 0, largest], [1, 0, -9.75]], atRest: "down" });
  const sizes = [100, 128, 8192].map((largest) => compact(walk(largest)).length);
  // Six values take 1 byte each, 2, or 4 without a scale of 24 bytes. The length of 24 bytes takes one more.
  assert.deepEqual(sizes, [sizes[0], sizes[0] + 6, sizes[0] + 18 + 1 - 24]);
  assert.ok(Buffer.from(compact(walk(100))).includes("acceleration_at_rest"));
});

test("times are sent only if there is a gap", () => {
  const acceleration = Array.from({ length: 100 }, (_, at) => [at % 3, 9.8, at % 7]);
  const walk = (times) => Buffer.from(compact({ timeSeconds: times, acceleration, atRest: "up" }));
  assert.ok(walk(acceleration.map((_, at) => at * 0.02 + (at % 2) * 0.0008)).includes("rate_hz"));
  const uneven = acceleration.map((_, at) => at * 0.02 + (at % 2) * 0.005);
  assert.ok(walk(uneven).includes("rate_hz"));
  // At a gap, interpolation would look like movement.
  assert.ok(walk(uneven.map((time) => (time > 1 ? time + 0.3 : time))).includes("time_seconds"));
});

test("ten seconds take less than 3 KB", async () => {
  const walk = simulated(7, 3);
  const { bytes, type, encoding } = await walkBody(walk);
  assert.deepEqual([type, encoding], ["application/cbor", "gzip"]);
  assert.ok(bytes.length < 3000, `${bytes.length} bytes`);
  const json = gzipSync(JSON.stringify(walk)).length;
  assert.ok(bytes.length * 3 < json, `${bytes.length} bytes, ${json} as JSON`);
});
