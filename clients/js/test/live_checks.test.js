import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test, { after, before } from "node:test";
import { Client, Core, coreCheck, Problem } from "../dist/index.js";
import { cheapCheck } from "../dist/cheap_check.js";
import { startService } from "./support/service.js";
import { part, real, recordings, simulated, withoutData } from "./support/walks.js";

const walk = simulated(3, 1);
const each = (change) => ({ ...walk, acceleration: walk.acceleration.map(change) });
const thinned = (every) => ({
  ...walk,
  timeSeconds: walk.timeSeconds.filter((_, at) => at % every === 0),
  acceleration: walk.acceleration.filter((_, at) => at % every === 0),
});
const mean = [0, 1, 2].map((axis) => walk.acceleration.reduce((sum, sample) => sum + sample[axis], 0) / walk.acceleration.length);
const deviation = Math.sqrt(
  walk.acceleration.reduce((sum, sample) => sum + sample.reduce((sum, value, axis) => sum + (value - mean[axis]) ** 2, 0), 0) /
    walk.acceleration.length,
);

const faulty = {
  "too-short": part(walk, 0, 1.5),
  "rate-too-low": thinned(5),
  "slow-sensor": each((_, at) => walk.acceleration[at - (at % 5)]),
  "implausible-gravity": each((sample) => sample.map((value, axis) => value - mean[axis])),
  "gravity-units": each((sample) => sample.map((value) => value / 9.81)),
  "standing-still": each((_, at) => mean.map((value, axis) => value + 0.3 * Math.sin(at * (axis + 1)))),
  "flat-sensor": each(([, y, z]) => [0, y, z]),
  "shaking": each((sample) => sample.map((value, axis) => mean[axis] + (20 / deviation) * (value - mean[axis]))),
};

let service, check;
before(async () => {
  service = await startService();
  const { models } = await service.call("GET", "/v1/models");
  const model = await new Client({ url: service.url }).modelFile(models.find(({ active }) => active).model);
  const wasm = await WebAssembly.compile(readFileSync(new URL("../wasm/bipedalnet.wasm", import.meta.url)));
  check = coreCheck(new Core(await WebAssembly.instantiate(wasm), model));
});
after(() => service.stop());

test("a walk has no finding", () => {
  assert.equal(cheapCheck(part(walk, 3, 5.1)), null);
  assert.equal(cheapCheck(walk), null);
  assert.equal(check(part(walk, 3, 5.1)), null);
  assert.equal(check(walk), null);
});

for (const [reason, recording] of Object.entries(faulty)) {
  test(`${reason} is found as the service finds it`, async () => {
    assert.equal(cheapCheck(recording)?.reason, reason);
    if (reason !== "too-short") assert.equal(cheapCheck(part(recording, 3, 5.3))?.reason, reason);
    assert.ok(check(recording), "WebAssembly finds it");
    if (reason !== "too-short" && reason !== "shaking") assert.equal(check(part(recording, 3, 5.3))?.reason, reason);
    const client = new Client({ url: service.url });
    const { angularRate, ...accelerationAlone } = recording;
    await assert.rejects(client.enroll("faulty", accelerationAlone, { createUser: true }), (error) => {
      assert.ok(error instanceof Problem, String(error));
      assert.equal(error.status, 422);
      if (reason !== "shaking") assert.equal(error.code, reason);
      return true;
    });
  });
}

test("a finding in some windows does not refuse a walk", () => {
  const still = faulty["standing-still"];
  const later = walk.timeSeconds.map((time) => time + still.timeSeconds.at(-1) + 0.02);
  const both = {
    ...walk,
    timeSeconds: [...still.timeSeconds, ...later],
    acceleration: [...still.acceleration, ...walk.acceleration],
  };
  assert.equal(cheapCheck(both), null);
});

for (const set of ["hapt", "motionsense", "oxford", "selfback", "uci-walking", "wisdm"]) {
  test(`no real walk of ${set} is refused that the service accepts`, { skip: withoutData }, async () => {
    const client = new Client({ url: service.url });
    for (const name of recordings(set)) {
      const { angularRate, ...recording } = part(real(set, name), 0, 10);
      const findings = [cheapCheck, check].map((each) => each(recording)).filter((finding) => finding !== null);
      if (findings.length === 0) continue;
      await assert.rejects(client.enroll(set, recording, { createUser: true }), Problem, `${name}: ${findings[0].detail}`);
    }
  });
}
