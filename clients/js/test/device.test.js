import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import test, { after, afterEach, before, mock } from "node:test";
import { Client, Device, Problem, Unreachable } from "bipedalnet";
import { openTab, startBrowser } from "./support/browser.js";
import { startService } from "./support/service.js";
import { startSite } from "./support/site.js";
import { part, real, recordings, simulated, withoutData } from "./support/walks.js";

const root = new URL("../../../", import.meta.url);
const wasm = new Uint8Array(readFileSync(new URL("clients/js/wasm/bipedalnet.wasm", root)));
const TEMPLATES = ["--device-template-days", "30"];
const ONLY_HERE = { wasm, paths: ["device"] };

/** Requests of the page, with the service that answers. */
const { fetch } = globalThis;
let requests = [];
let network = (url, options) => fetch(url, options);
before(() => {
  globalThis.fetch = async (url, options) => {
    requests.push({ method: options.method, path: String(url).replace(/^https?:..[^/]*/, ""), ...options });
    return network(url, options);
  };
});
after(() => (globalThis.fetch = fetch));
const online = () => (network = (url, options) => fetch(url, options));
const offline = () => (network = async () => Promise.reject(new TypeError("there is no network")));

let services = [];
async function service(options = {}) {
  const started = await startService({ options: TEMPLATES, ...options });
  services.push(started);
  return started;
}
afterEach(async () => {
  mock.timers.reset();
  online();
  await Promise.all(services.map((service) => service.stop()));
  [requests, services] = [[], []];
});

async function enrolled(url, token, people) {
  const client = new Client({ url, token, deadlineSeconds: 5 });
  for (const [user, walk] of people) await client.enroll(user, walk, { createUser: true });
  return client;
}

/** What was sent to be verified. */
const sent = () => requests.filter(({ path }) => path.includes("/verify"));

test("a device alone decides as the service does, decision for decision", async (t) => {
  const { url } = await service();
  const walker = (at) => [simulated(at, 2, 12), simulated(at, 3, 12), simulated(at, 4, 7)];
  const people = [
    ...Array.from({ length: 8 }, (_, at) => ({ own: simulated(at + 1, 1, 40), again: walker(at + 1), others: walker(at + 31) })),
    ...(withoutData ? [] : realPeople(8)),
  ];
  const counts = { accept: 0, reject: 0, inconclusive: 0 };
  for (const [at, { own, again, others }] of people.entries()) {
    const user = `person-${at}`;
    const client = await enrolled(url, undefined, [[user, own]]);
    const device = new Device(client, user, ONLY_HERE);
    await device.prepare();
    for (const [number, walk] of [...again, ...others].entries()) {
      const fmr = [0.1, 0.01, 0.001][(number + at) % 3];
      const here = await device.verify(walk, { fmr });
      const there = await client.verify(user, walk, { fmr });
      const told = ({ decision, reason, windows, model }) => ({ decision, reason: reason ?? null, windows, model });
      assert.deepEqual(told(here), told(there), `${user}, walk ${number}`);
      assert.deepEqual([here.path, here.passedOver], ["device", []]);
      counts[here.decision]++;
    }
    await client.deleteUser(user);
  }
  t.diagnostic(`${people.length} people: ${JSON.stringify(counts)}`);
  assert.ok(counts.accept > 15 && counts.reject > 10 && counts.inconclusive > 2, JSON.stringify(counts));
});

/** Walks of people of MotionSense: one to enroll, others of the same person, and some of the next. */
function realPeople(count) {
  const walks = recordings("motionsense").map((name) => [name.split("-")[0], name]);
  const people = [...new Set(walks.map(([person]) => person))].slice(0, count + 1);
  const of = people.map((person) => walks.filter(([other]) => other === person).map(([, name]) => real("motionsense", name)));
  const some = ([, second, third]) => [part(second, 0, 12), part(third, 0, 12), part(second, 15, 22)];
  return of.slice(0, count).map((own, at) => ({ own: part(own[0], 0, 60), again: some(own), others: some(of[at + 1]) }));
}

test("among other users, a device decides nearly as the service does", { skip: withoutData }, async (t) => {
  const { url } = await service();
  const people = realPeople(20).map((walks, at) => ({ user: `person-${at}`, ...walks }));
  const client = await enrolled(url, undefined, people.map(({ user, own }) => [user, own]));
  const counts = { same: 0, different: 0, accepted: 0, wrong: 0 };
  for (const { user, again, others } of people) {
    const device = new Device(client, user, ONLY_HERE);
    await device.prepare();
    for (const walk of [...again, ...others]) {
      const [here, there] = [await device.verify(walk), await client.verify(user, walk)];
      counts[here.decision === there.decision ? "same" : "different"]++;
      if (here.decision === "accept") counts[again.includes(walk) ? "accepted" : "wrong"]++;
    }
  }
  t.diagnostic(JSON.stringify(counts));
  assert.ok(counts.different <= 6 && counts.accepted > 40 && counts.wrong === 0, JSON.stringify(counts));
});

test("the walk stays on the device, and the service decides about its features", async () => {
  const { url } = await service({ options: [] });
  const others = Array.from({ length: 12 }, (_, at) => [`other-${at}`, simulated(at + 50, 1, 40)]);
  const client = await enrolled(url, undefined, [["ann", simulated(1, 1, 40)], ...others]);
  const device = new Device(client, "ann", { wasm });
  await device.prepare();
  const { path, decision, fmr, passedOver } = await device.verify(simulated(1, 2, 30));
  assert.deepEqual([path, decision, fmr], ["features", "accept", 0.001]);
  assert.deepEqual(passedOver, [{ path: "device", why: "no-template" }]);
  assert.equal(sent().length, 1);
  assert.match(sent()[0].path, /challenge=/);
  const body = Buffer.from(await new Response(new Blob([sent()[0].body]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  assert.ok(body.includes("features") && !body.includes("acceleration"));
  const stranger = await device.verify(simulated(2, 2, 30));
  assert.deepEqual([stranger.path, stranger.decision], ["features", "reject"]);
});

test("offline, a device that may decide does, and one that may not says so", async () => {
  const { url } = await service();
  const client = await enrolled(url, undefined, [["ann", simulated(1, 1, 40)]]);
  const may = new Device(client, "ann", { wasm });
  await may.prepare();
  const mayNot = new Device(new Client({ url, deadlineSeconds: 0.2 }), "ann", { wasm, paths: ["features", "recording"] });
  await mayNot.prepare();
  offline();
  const { path, decision } = await may.verify(simulated(1, 2, 12));
  assert.deepEqual([path, decision], ["device", "accept"]);
  await assert.rejects(mayNot.verify(simulated(1, 2, 12)), Unreachable);
});

test("a walk that is none is refused on the device with the service's words", async () => {
  const { url } = await service();
  const client = await enrolled(url, undefined, [["ann", simulated(1, 1, 40)]]);
  const device = new Device(client, "ann", { wasm });
  await device.prepare();
  const still = { ...simulated(1, 2), acceleration: simulated(1, 2).acceleration.map((_, at) => [0.02 * (at % 2), 0.1, 9.8]) };
  const problem = (promise) => promise.then(assert.fail, (error) => error);
  const [here, there] = [await problem(device.verify(still)), await problem(client.verify("ann", still))];
  assert.ok(here instanceof Problem);
  assert.deepEqual([here.type, here.message, here.status, here.document.field], [there.type, there.message, there.status, there.document.field]);
});

test("without WebAssembly, memory, or an allowance, another path is taken", async () => {
  const { url, key } = await service({ scopes: "identify,enroll,template,features" });
  const client = await enrolled(url, key, [["ann", simulated(1, 1, 40)]]);
  const walk = (number) => simulated(1, number, 12);
  const paths = async (number, change, undo, token = key) => {
    const device = new Device(new Client({ url, token }), "ann", { wasm });
    change();
    try {
      await device.prepare();
      const { path, passedOver, decision } = await device.verify(walk(number));
      assert.equal(decision, "accept");
      return [path, ...passedOver.map(({ path, why }) => `${path}: ${why}`)];
    } finally {
      undo();
    }
  };
  const { WebAssembly } = globalThis;
  const without = () => delete globalThis.WebAssembly;
  const back = () => (globalThis.WebAssembly = WebAssembly);
  assert.deepEqual(await paths(2, without, back), ["recording", "device: no-webassembly", "features: no-webassembly"]);

  const { instantiate } = WebAssembly;
  const restore = () => (WebAssembly.instantiate = instantiate);
  const start = () => (WebAssembly.instantiate = () => Promise.reject(new RangeError("out of memory")));
  assert.deepEqual(await paths(3, start, restore), ["recording", "device: no-memory", "features: no-memory"]);
  const later = () =>
    (WebAssembly.instantiate = async (module) => {
      const { exports } = await instantiate(module);
      const trap = () => {
        throw new WebAssembly.RuntimeError("unreachable");
      };
      return { exports: { ...exports, read_walk: trap } };
    });
  assert.deepEqual(await paths(4, later, restore), ["recording", "device: no-memory", "features: no-memory"]);

  const damaged = () =>
    (network = async (url, options) => (String(url).endsWith("/file") ? new Response("no model") : fetch(url, options)));
  assert.deepEqual(await paths(5, damaged, online), ["recording", "device: no-model", "features: no-model"]);

  const nothing = () => undefined;
  const lesser = await fetch(`${url}/v1/users/ann/tokens`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ scopes: ["identify"] }),
  });
  const { token } = await lesser.json();
  assert.deepEqual(await paths(6, nothing, nothing, token), ["recording", "device: no-template", "features: not-allowed"]);
  const short = await new Device(client, "ann", { wasm, paths: ["features", "recording"] }).verify(simulated(1, 7, 6));
  assert.deepEqual(short.passedOver, [{ path: "features", why: "too-few-windows" }]);
});

test("a new model replaces the model and the template together", async () => {
  const old = await service();
  const next = await service({ options: [...TEMPLATES, "--model", fileURLToPath(new URL("models/bipedalnet.safetensors", root))] });
  const client = await enrolled(old.url, undefined, [["ann", simulated(1, 1, 40)]]);
  await enrolled(next.url, undefined, [["ann", simulated(1, 1, 40)]]);
  const device = new Device(client, "ann", { wasm });
  await device.prepare();
  const before = await device.verify(simulated(1, 2, 12));
  const switched = (url, options) => fetch(String(url).replace(old.url, next.url), options);

  // The network fails between the template and the model: the old ones stay.
  network = async (url, options) => {
    if (String(url).endsWith("/file")) throw new TypeError("there is no network");
    return switched(url, options);
  };
  await device.refresh();
  const between = await device.verify(simulated(1, 2, 12));
  assert.deepEqual([between.path, between.model], ["device", before.model]);

  network = switched;
  const features = new Device(client, "ann", { wasm, paths: ["features"] });
  assert.notEqual((await features.verify(simulated(1, 3, 30))).model, before.model);
  await device.refresh();
  const after = await device.verify(simulated(1, 2, 12));
  assert.deepEqual([after.path, after.decision], ["device", "accept"]);
  assert.notEqual(after.model, before.model);
});

test("a template ends with its days, and with its user", async () => {
  const { url } = await service();
  const client = await enrolled(url, undefined, [["ann", simulated(1, 1, 40)]]);
  const device = new Device(client, "ann", { wasm, paths: ["device", "recording"] });
  await device.prepare();
  await device.refresh();
  assert.equal(requests.filter(({ path }) => path.endsWith("/template")).length, 2);
  assert.match(requests.at(-1).headers["if-none-match"], /"/);
  const now = Date.now();
  mock.timers.enable({ apis: ["Date"], now: now + 29 * 86_400_000 });
  offline();
  assert.equal((await device.verify(simulated(1, 2, 12))).path, "device");
  mock.timers.setTime(now + 31 * 86_400_000);
  online();
  const late = await device.verify(simulated(1, 2, 12));
  assert.deepEqual([late.path, late.passedOver], ["recording", [{ path: "device", why: "expired-template" }]]);

  await device.refresh();
  assert.equal((await device.verify(simulated(1, 3, 12))).path, "device");
  await client.deleteUser("ann");
  await device.refresh();
  await assert.rejects(device.verify(simulated(1, 4, 12)), (error) => error.code === "unknown-user");
});

test("in a browser, a device decides offline after the page was opened again", async () => {
  const browser = await startBrowser();
  const { url } = await service();
  await enrolled(url, undefined, [["ann", simulated(1, 1, 40)]]);
  const site = await startSite(url);
  try {
    const context = await browser.newContext();
    const open = async () => {
      const tab = await openTab(context, site.url);
      await tab.evaluate((bytes) => (window.wasm = Uint8Array.from(bytes)), [...wasm]);
      return tab;
    };
    const verify = (walk) => {
      const client = new bipedalnet.Client({ deadlineSeconds: 1 });
      window.device ??= new bipedalnet.Device(client, "ann", { wasm: window.wasm });
      return window.settled(window.device.verify(walk));
    };
    const first = await open();
    const walk = simulated(1, 2, 12);
    await first.evaluate(() => {
      window.device = new bipedalnet.Device(new bipedalnet.Client(), "ann", { wasm: window.wasm });
      return window.device.prepare();
    });
    const { value: online } = await first.evaluate(verify, walk);
    assert.deepEqual([online.path, online.decision], ["device", "accept"]);
    await first.close();

    const second = await open();
    await context.setOffline(true);
    const { value: offline } = await second.evaluate(verify, walk);
    assert.deepEqual([offline.path, offline.decision, offline.model], ["device", "accept", online.model]);
    await second.evaluate(() => window.device.forget());
    await second.close();

    await context.setOffline(false);
    const third = await open();
    await context.setOffline(true);
    const { error } = await third.evaluate(verify, walk);
    assert.equal(error.name, "Unreachable");
  } finally {
    await site.stop();
    await browser.close();
  }
});
