import assert from "node:assert/strict";
import test, { after, before, beforeEach, afterEach } from "node:test";
import { Client } from "../dist/index.js";
import { openTab, startBrowser } from "./support/browser.js";
import { startService } from "./support/service.js";
import { startSite } from "./support/site.js";
import { part, real, recordings, simulated, withoutData } from "./support/walks.js";

const walk = simulated(2, 1, 14);
let browser, context, service, site, tab;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), startService()]);
  site = await startSite(service.url);
});
after(async () => {
  await browser.close();
  await Promise.all([site.stop(), service.stop()]);
});
beforeEach(async () => {
  context = await browser.newContext();
  tab = await openTab(context, site.url);
});
afterEach(() => context.close());

/** Plays a walk to a recorder. Returns what it resolved or rejected to, and all its events. */
function recorded(recording, options = {}, play = {}) {
  return tab.evaluate(
    async ({ recording, options, play }) => {
      const recorder = new bipedalnet.Recorder(options);
      const events = [];
      for (const name of ["status", "paused", "resumed", "ended"]) recorder.on(name, (detail) => events.push({ name, detail }));
      const { ended } = await window.begin(recorder);
      window.play(recording, play);
      recorder.stop();
      return { ...(await ended), events };
    },
    { recording, options, play },
  );
}

const reasons = ({ events }) => new Set(events.flatMap(({ name, detail }) => (name === "status" ? (detail.finding?.reason ?? []) : [])));

test("a walk is recorded in the units and with the times of the phone", async () => {
  const { value, events } = await recorded(walk, { seconds: 10 });
  assert.equal(value.atRest, "up");
  const seconds = value.timeSeconds.at(-1);
  assert.ok(seconds >= 10 && seconds < 10.1, `${seconds} s`);
  value.timeSeconds.forEach((time, at) => {
    assert.ok(Math.abs(time - walk.timeSeconds[at]) < 1e-9);
    assert.deepEqual(value.acceleration[at], walk.acceleration[at]);
    value.angularRate[at].forEach((rate, axis) => assert.ok(Math.abs(rate - walk.angularRate[at][axis]) < 1e-9));
  });
  const statuses = events.filter(({ name }) => name === "status").map(({ detail }) => detail);
  assert.ok(statuses.length >= 36);
  assert.equal(statuses[0].finding.reason, "too-short");
  assert.deepEqual(statuses.at(-1), { ...statuses.at(-1), hasGyroscope: true, finding: null });
  assert.ok(Math.abs(statuses.at(-1).rateHz - 50) < 1);
  assert.deepEqual(events.at(-1), { name: "ended", detail: "complete" });
});

test("a browser of iOS says the sign of WebKit", async () => {
  const phone = await browser.newContext({ userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)" });
  tab = await openTab(phone, site.url);
  assert.equal((await recorded(walk)).value.atRest, "down");
  await phone.close();
});

test("what WebKit records is the same walk to the service", async () => {
  const { angularRate, ...mirrored } = walk;
  const negative = mirrored.acceleration.map((sample) => sample.map((value) => -value));
  const client = new Client({ url: service.url });
  await client.enroll("sign", mirrored, { createUser: true });
  const again = client.enroll("sign", { ...mirrored, acceleration: negative, atRest: "down" }, { createUser: true });
  await assert.rejects(again, (error) => error.code === "walk-already-enrolled");
});

test("permission refused, and not asked for in a tap", async () => {
  for (const answer of ["Promise.resolve('denied')", "Promise.reject(new DOMException('no tap', 'NotAllowedError'))"]) {
    await tab.evaluate(`DeviceMotionEvent.requestPermission = () => ${answer}`);
    const { error, events } = await recorded(walk);
    assert.deepEqual([error.name, error.reason, events.length], ["RecorderError", "permission-denied", 0]);
  }
  await tab.evaluate("DeviceMotionEvent.requestPermission = () => Promise.resolve('granted')");
  const { value } = await tab.evaluate(async (walk) => {
    const recorder = new bipedalnet.Recorder();
    recorder.on("started", () => window.play(walk));
    return window.settled(recorder.record());
  }, walk);
  assert.ok(value.timeSeconds.length > 400);
});

test("permission is asked for in the same task as the tap", async () => {
  const asked = await tab.evaluate(() => {
    let asked = false;
    DeviceMotionEvent.requestPermission = () => ((asked = true), Promise.resolve("denied"));
    void window.settled(new bipedalnet.Recorder().record());
    return asked;
  });
  assert.equal(asked, true);
});

test("no gyroscope is noted, and the walk goes without", async () => {
  const all = await recorded(walk, {}, { gyroscope: false });
  assert.deepEqual(reasons(all), new Set(["too-short", "no-gyroscope"]));
  assert.equal(all.events.at(-2).detail.finding.blocks, false);
  assert.equal(all.value.angularRate, undefined);
  const unwanted = await recorded(walk, { angularRate: false });
  assert.deepEqual(reasons(unwanted), new Set(["too-short"]));
  assert.equal(unwanted.value.angularRate, undefined);
});

test("a gyroscope that is stuck is left out", async () => {
  for (const rate of [0, 300]) {
    const stuck = { ...walk, angularRate: walk.angularRate.map(() => [rate, rate, rate]) };
    assert.equal((await recorded(stuck)).value.angularRate, undefined);
  }
});

test("10 Hz is refused with the reason", async () => {
  const slow = {
    ...walk,
    timeSeconds: walk.timeSeconds.filter((_, at) => at % 5 === 0),
    acceleration: walk.acceleration.filter((_, at) => at % 5 === 0),
    angularRate: walk.angularRate.filter((_, at) => at % 5 === 0),
  };
  const few = await recorded(slow);
  assert.equal(few.error.reason, "rate-too-low");
  assert.ok(reasons(few).has("rate-too-low"));
  const held = { ...walk, acceleration: walk.acceleration.map((_, at) => walk.acceleration[at - (at % 5)]) };
  const repeated = await recorded(held);
  assert.equal(repeated.error.reason, "slow-sensor");
  assert.ok(reasons(repeated).has("slow-sensor"));
});

test("a fast sensor is averaged to at most 60 Hz", async () => {
  const fast = part(walk, 0, 5);
  const { value, events } = await recorded({ ...fast, timeSeconds: fast.timeSeconds.map((time) => time / 2) }, { seconds: 2.2 });
  assert.ok(Math.abs(events.at(-2).detail.rateHz - 100) < 2);
  assert.ok(value.timeSeconds.length <= 60 * 2.3);
});

test("standing still and too short have reasons", async () => {
  const still = { ...walk, acceleration: walk.acceleration.map((_, at) => [0.02 * (at % 3), 9.8, 0.05 * (at % 5)]) };
  still.acceleration = still.acceleration.map(([x, y, z], at) => [x, y + 0.01 * (at % 2), z]);
  const stood = await recorded(still);
  assert.equal(stood.error.reason, "standing-still");
  assert.ok(reasons(stood).has("standing-still"));
  assert.equal((await recorded(part(walk, 0, 1.5))).error.reason, "too-short");
  const linear = await recorded({ ...walk, acceleration: walk.acceleration.map(([x, y, z], at) => [Math.sin(at), Math.cos(at / 2), z / 100]) });
  assert.equal(linear.error.reason, "implausible-gravity");
});

test("a check of one's own replaces the cheap ones", async () => {
  const result = await tab.evaluate(async (walk) => {
    const seen = [];
    const check = (window) => (seen.push(window.timeSeconds.length), { reason: "no-steps", detail: "none", blocks: true });
    const recorder = new bipedalnet.Recorder({ check });
    const { ended } = await window.begin(recorder);
    window.play(walk);
    return { ...(await ended), seen };
  }, walk);
  assert.equal(result.error.reason, "no-steps");
  assert.ok(result.seen.length > 30 && result.seen.slice(0, -1).every((samples) => samples >= 90 && samples <= 110), String(result.seen));
});

test("time in the background is a pause that the service understands", async () => {
  const first = part(walk, 0, 7);
  const second = part(walk, 7, 14);
  const { value, events } = await tab.evaluate(
    async ({ first, second }) => {
      const recorder = new bipedalnet.Recorder({ seconds: 12 });
      const events = [];
      for (const name of ["paused", "resumed", "ended"]) recorder.on(name, (detail) => events.push([name, detail]));
      const { ended } = await window.begin(recorder);
      window.play(first);
      window.setHidden(true);
      window.setHidden(false);
      // The clock of the sensor stood still meanwhile.
      window.play(second, { startMs: 1000 + first.timeSeconds.at(-1) * 1000 + 20 });
      return { ...(await ended), events };
    },
    { first, second },
  );
  assert.deepEqual(events, [["paused", null], ["resumed", null], ["ended", "complete"]]);
  const steps = value.timeSeconds.slice(1).map((time, at) => time - value.timeSeconds[at]);
  assert.deepEqual(steps.filter((step) => step > 0.25).map((step) => step.toFixed(3)), ["2.500"]);
  const enrolled = await new Client({ url: service.url }).enroll("background", value, { createUser: true });
  assert.deepEqual(enrolled.mended.map(({ fault }) => fault), ["pauses"]);
  assert.ok(enrolled.windows_accepted >= 8);
});

test("the recording ends if the page was hidden for long", async () => {
  await tab.clock.install();
  await tab.evaluate(async (walk) => {
    const recorder = new bipedalnet.Recorder({ seconds: 60 });
    window.endings = [];
    recorder.on("ended", (ending) => window.endings.push(ending));
    window.recording = await window.begin(recorder);
    window.play(walk);
    window.setHidden(true);
  }, walk);
  await tab.clock.fastForward(31_000);
  const { value, endings } = await tab.evaluate(async () => {
    window.setHidden(false);
    return { ...(await window.recording.ended), endings: window.endings };
  });
  assert.deepEqual(endings, ["hidden-too-long"]);
  assert.equal(value.timeSeconds.length, walk.timeSeconds.length);
});

test("clocks that jump do not spoil a walk", async () => {
  const client = new Client({ url: service.url });
  for (const [name, jump] of [["back", -500_000], ["forward", 1.7e12]]) {
    const result = await tab.evaluate(
      async ({ walk, jump }) => {
        const recorder = new bipedalnet.Recorder({ seconds: 12 });
        const { ended } = await window.begin(recorder);
        window.play(walk, { startMs: 600_000, stamp: (ms, at) => (at < 300 ? ms : ms + jump) });
        return ended;
      },
      { walk, jump },
    );
    const enrolled = await client.enroll(`jump-${name}`, result.value, { createUser: true });
    assert.ok(enrolled.windows_accepted >= 8, JSON.stringify(enrolled));
  }
});

test("a computer without a sensor is told from a sensor that stops", async () => {
  await tab.clock.install();
  const start = (samples) =>
    tab.evaluate(async (samples) => {
      const recorder = new bipedalnet.Recorder();
      window.statuses = [];
      recorder.on("status", ({ finding }) => window.statuses.push(finding?.reason));
      window.recording = await window.begin(recorder);
      dispatchEvent(new DeviceMotionEvent("devicemotion", {}));
      if (samples) window.play(samples);
    }, samples);
  await start(null);
  await tab.clock.runFor(3500);
  assert.equal((await tab.evaluate("window.recording.ended")).error.reason, "no-sensor");
  await start(part(walk, 0, 5));
  await tab.clock.runFor(10_500);
  assert.ok((await tab.evaluate("window.recording.ended")).value.timeSeconds.length > 200);
  assert.ok((await tab.evaluate("window.statuses")).includes("missing-samples"));
});

test("a recording can be aborted, and a recorder records one walk at a time", async () => {
  const results = await tab.evaluate(async (walk) => {
    const recorder = new bipedalnet.Recorder();
    const ending = new AbortController();
    const first = await window.begin(recorder, ending.signal);
    const second = await window.settled(recorder.record());
    ending.abort(new Error("the user left"));
    await first.ended;
    const third = await window.begin(recorder);
    window.play(walk);
    return [await first.ended, second, await third.ended];
  }, walk);
  assert.equal(results[0].error.message, "the user left");
  assert.equal(results[1].error.reason, "already-recording");
  assert.ok(results[2].value.timeSeconds.length > 400);
});

test("the screen is kept on, again after the page was hidden, until the end", async () => {
  const log = await tab.evaluate(async (walk) => {
    const log = [];
    const request = async () => (log.push("hold"), { release: async () => void log.push("release") });
    Object.defineProperty(navigator, "wakeLock", { value: { request } });
    const recorder = new bipedalnet.Recorder();
    const { ended } = await window.begin(recorder);
    window.setHidden(true);
    window.setHidden(false);
    window.play(walk);
    await ended;
    return log;
  }, walk);
  assert.deepEqual(log, ["hold", "hold", "release", "release"]);
});

test("a page without HTTPS cannot record", async () => {
  const error = await tab.evaluate(async () => {
    Object.defineProperty(window, "isSecureContext", { value: false });
    return { obstacle: bipedalnet.Recorder.obstacle(), ...(await window.settled(new bipedalnet.Recorder().record())) };
  });
  assert.deepEqual([error.obstacle, error.error.reason], ["insecure-context", "insecure-context"]);
});

test("real people enroll and are verified", { skip: withoutData }, async () => {
  const client = new Client({ url: service.url });
  const decisions = { own: [], other: [] };
  const people = ["sub01", "sub02", "sub03", "sub04", "sub05", "sub06"];
  const named = (person, session) => recordings("motionsense").find((name) => name.startsWith(`${person}-${session}`));
  const take = async (person, session, seconds) => {
    const { value, error } = await recorded(part(real("motionsense", named(person, session)), 2, 2 + seconds + 1), { seconds });
    assert.equal(error, undefined);
    return value;
  };
  for (const person of people) await client.enroll(person, await take(person, "wlk_7", 40), { createUser: true });
  for (const [at, person] of people.entries()) {
    const probe = await take(person, "wlk_8", 35);
    decisions.own.push((await client.verify(person, probe)).decision);
    decisions.other.push((await client.verify(people[(at + 1) % people.length], probe)).decision);
  }
  assert.ok(decisions.own.filter((decision) => decision === "accept").length >= 4, String(decisions.own));
  assert.ok(!decisions.other.includes("accept"), String(decisions.other));
});
