import assert from "node:assert/strict";
import test, { after, afterEach, before, beforeEach } from "node:test";
import { openTab, startBrowser } from "./support/browser.js";
import { seeded } from "./support/random.js";
import { startService } from "./support/service.js";
import { startSite } from "./support/site.js";
import { simulated } from "./support/walks.js";

let browser, service, site, context, tab;

before(async () => (browser = await startBrowser()));
after(() => browser.close());
beforeEach(async () => {
  service = await startService();
  site = await startSite(service.url);
  context = await browser.newContext();
  tab = await newTab();
});
afterEach(async () => {
  await context.close();
  await Promise.all([site.stop(), service.stop()]);
});

/** A tab in which retries come soon. */
async function newTab() {
  const tab = await openTab(context, site.url);
  await tab.evaluate(() => {
    let seed = 1;
    Math.random = () => ((seed = (seed * 48271) % 2147483647) / 2147483647) * 0.02;
    window.events = [];
    window.openQueue = (options, clientOptions = {}) => {
      window.queue = new bipedalnet.Queue(new bipedalnet.Client(clientOptions), options);
      const { enroll } = window.queue;
      window.queue.enroll = (user, walk) => enroll.call(window.queue, user, walk, { createUser: true });
      for (const name of ["added", "sent", "refused", "expired", "delayed", "changed"]) {
        window.queue.on(name, (detail) => window.events.push({ name, detail }));
      }
      return window.queue;
    };
    window.until = (name) => new Promise((resolve) => window.queue.on(name, resolve));
    window.empty = () => new Promise((resolve) => window.queue.on("changed", (count) => count === 0 && resolve()));
  });
  return tab;
}

async function kill(tab) {
  const session = await context.newCDPSession(tab);
  const crashed = tab.waitForEvent("crash");
  session.send("Page.crash").catch(() => undefined);
  await crashed;
  await tab.close();
}

async function enrolled(user) {
  const answer = await service.call("GET", `/v1/users/${user}/enrollments`);
  return answer.enrollments?.length ?? 0;
}

/** A promise and what resolves it. */
function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return { opened, open };
}

test("100 walks through a network that cuts, delays and doubles count 100 times", async () => {
  const random = seeded(7);
  const held = [];
  site.fault = () => {
    const draw = random();
    if (draw < 0.12) return "cut";
    if (draw < 0.24) return "cut-answer";
    if (draw < 0.36) return "double";
    if (draw > 0.1 && draw < 0.48) {
      // Arrives again when later requests have passed: a delay, and in the wrong order.
      const late = gate();
      held.push(late);
      if (held.length > 1) held.shift().open("pass");
      setTimeout(late.open, 300, "pass");
      return late.opened;
    }
    return "pass";
  };
  const walks = Array.from({ length: 100 }, (_, at) => ({ user: `user-${at % 10}`, walk: simulated((at % 10) + 1, at + 1) }));
  await context.setOffline(true);
  const keys = await tab.evaluate(async (walks) => {
    const queue = window.openQueue();
    const keys = [];
    for (const { user, walk } of walks) keys.push(await queue.enroll(user, walk));
    return keys;
  }, walks);
  assert.equal(new Set(keys).size, 100);
  assert.equal((await tab.evaluate("window.queue.waiting()")).length, 100);
  const done = tab.evaluate("window.empty()");
  await context.setOffline(false);
  await done;

  const events = await tab.evaluate("window.events");
  assert.equal(events.filter(({ name }) => name === "sent").length, 100);
  assert.deepEqual(events.filter(({ name }) => name === "refused" || name === "expired"), []);
  let total = 0;
  for (let user = 0; user < 10; user++) total += await enrolled(`user-${user}`);
  assert.equal(total, 100);
  assert.ok(site.requests.length > 120, `${site.requests.length} requests`);
  for (let user = 0; user < 10; user++) {
    const sent = site.requests.filter(({ url }) => url.includes(`/user-${user}/`)).map(({ headers }) => headers["idempotency-key"]);
    assert.deepEqual([...new Set(sent)], keys.filter((_, at) => at % 10 === user));
  }
});

test("a tab that is killed while a walk is stored has not stored it, or has", async () => {
  const walk = simulated(1, 1);
  const stored = gate();
  await tab.exposeFunction("reached", stored.open);
  await tab.evaluate((walk) => {
    IDBObjectStore.prototype.add = function () {
      window.reached();
      // Keeps the transaction open: nothing is committed.
      const spin = () => (this.count().onsuccess = spin);
      spin();
      return {};
    };
    void window.openQueue().enroll("ann", walk);
  }, walk);
  await stored.opened;
  await kill(tab);
  tab = await newTab();
  assert.deepEqual(await tab.evaluate("window.openQueue().waiting()"), []);
  assert.equal(site.requests.length, 0);
});

/** What a killed tab had reached, and how the test stops it there. */
const steps = {
  "before the request is sent": async (reached) => {
    await tab.exposeFunction("reached", reached);
    await tab.evaluate(() => (window.fetch = () => (window.reached(), new Promise(() => undefined))));
  },
  "before the request arrives": async (reached) => {
    const arrival = gate();
    site.fault = ({ number }) => (number === 1 ? (reached(), arrival.opened) : "pass");
    return () => arrival.open("pass");
  },
  "before the answer arrives": async (reached) => {
    const answer = gate();
    site.fault = ({ number }) => (number === 1 ? (answered("ann").then(reached), { answerAfter: answer.opened }) : "pass");
    return answer.open;
  },
  "before the walk is removed": async (reached) => {
    await tab.exposeFunction("reached", reached);
    await tab.evaluate(() => {
      IDBObjectStore.prototype.delete = function () {
        window.reached();
        const spin = () => (this.count().onsuccess = spin);
        spin();
        return {};
      };
    });
  },
  "after the walk is removed": async (reached) => {
    await tab.exposeFunction("reached", reached);
    await tab.evaluate(() => window.addEventListener("walk-removed", () => window.reached()));
  },
};

/** Resolves when the service has a walk of the user. */
async function answered(user) {
  while ((await enrolled(user)) === 0);
}

for (const [step, prepare] of Object.entries(steps)) {
  test(`a tab that is killed ${step} counts each walk once`, async () => {
    const walks = [1, 2].map((walk) => simulated(1, walk));
    const reached = gate();
    const release = await prepare(reached.open);
    await tab.evaluate(async (walks) => {
      const queue = window.openQueue();
      queue.on("changed", (count) => count === 0 && dispatchEvent(new Event("walk-removed")));
      for (const walk of walks) await queue.enroll("ann", walk);
    }, walks);
    await reached.opened;
    await kill(tab);
    tab = await newTab();
    await tab.evaluate("window.openQueue().start()");
    assert.deepEqual(await tab.evaluate("window.queue.waiting()"), []);
    // What was under way arrives late.
    await release?.();
    await tab.evaluate("fetch('/v1/users/ann').then((response) => response.text())");
    assert.equal(await enrolled("ann"), 2);
    assert.equal(new Set(site.requests.flatMap(({ headers }) => headers["idempotency-key"] ?? [])).size, 2);
  });
}

test("full storage is reported, and what is stored is still sent", async () => {
  site.fault = () => "cut";
  const session = await context.newCDPSession(tab);
  await session.send("Storage.overrideQuotaForOrigin", { origin: site.url, quotaSize: 200_000 });
  const { stored, error } = await tab.evaluate(async (walk) => {
    const queue = window.openQueue({ maxEntries: 10_000 });
    for (let stored = 0; stored < 10_000; stored++) {
      const result = await window.settled(queue.enroll(`user-${stored % 3}`, walk));
      if (result.error) return { stored, error: result.error };
    }
  }, simulated(1, 1, 60));
  assert.deepEqual([error.name, error.reason], ["QueueFull", "storage"]);
  assert.equal((await tab.evaluate("window.queue.waiting()")).length, stored);
  const done = tab.evaluate("window.empty()");
  site.fault = () => "pass";
  await done;
  assert.ok((await enrolled("user-0")) > 0);
});

test("a queue has a largest number of walks", async () => {
  const walk = simulated(1, 1);
  site.fault = () => "cut";
  const { error } = await tab.evaluate(async (walk) => {
    const queue = window.openQueue({ maxEntries: 2 });
    await queue.enroll("ann", walk);
    await queue.enroll("ann", walk);
    return window.settled(queue.enroll("ann", walk));
  }, walk);
  assert.deepEqual([error.name, error.reason], ["QueueFull", "count"]);
  assert.equal((await tab.evaluate("window.queue.waiting()")).length, 2);
});

test("walks that are too old are given up, and reported", async () => {
  await context.setOffline(true);
  await tab.evaluate(async (walks) => {
    const queue = window.openQueue({ maxAgeSeconds: 3600 });
    const now = Date.now();
    Date.now = () => now - 3601_000;
    await queue.enroll("ann", walks[0]);
    Date.now = () => now;
    await queue.enroll("ann", walks[1]);
  }, [1, 2].map((walk) => simulated(1, walk)));
  const done = tab.evaluate("window.empty()");
  await context.setOffline(false);
  await done;
  const events = await tab.evaluate("window.events");
  assert.deepEqual(events.flatMap(({ name }) => (["expired", "sent"].includes(name) ? name : [])), ["expired", "sent"]);
  assert.equal(await enrolled("ann"), 1);
});

test("a verification is given up when the service no longer knows its key", async () => {
  await service.call("PUT", "/v1/users/ann");
  await context.setOffline(true);
  const walks = [1, 2].map((walk) => simulated(1, walk));
  await tab.evaluate(async (walks) => {
    const queue = window.openQueue({}, { deadlineSeconds: 0.001 });
    const now = Date.now();
    Date.now = () => now - 24 * 3600_000;
    const delayed = window.until("delayed");
    await queue.verify("ann", walks[0]);
    await queue.enroll("ann", walks[1]);
    await delayed;
    queue.close();
    Date.now = () => now;
  }, walks);
  await context.setOffline(false);
  await tab.evaluate("window.openQueue().start()");
  const events = await tab.evaluate("window.events");
  assert.deepEqual(events.flatMap(({ name }) => (["expired", "sent"].includes(name) ? name : [])), ["expired", "sent"]);
});

for (const [trigger, fire] of Object.entries({
  start: () => tab.evaluate("window.queue.start()"),
  online: () => context.setOffline(false),
  visible: () => tab.evaluate("window.setHidden(true), window.setHidden(false)"),
})) {
  test(`what waits is sent on ${trigger}`, async () => {
    if (trigger === "online") await context.setOffline(true);
    else site.fault = () => "cut";
    await tab.evaluate(async (walk) => {
      const queue = window.openQueue({}, { deadlineSeconds: 0.001 });
      const delayed = window.until("delayed");
      await queue.start();
      await queue.enroll("ann", walk);
      await delayed;
      await queue.flush();
      queue.close();
      // Retries of the queue by the clock would hide that the trigger works.
      const { setTimeout } = window;
      window.setTimeout = (call, ms) => (ms >= 4000 ? 0 : setTimeout(call, ms));
      window.openQueue({}, { deadlineSeconds: 2 });
    }, simulated(1, 1));
    if (trigger !== "start") {
      await tab.evaluate(async () => {
        const delayed = window.until("delayed");
        await window.queue.start();
        await delayed;
      });
    }
    site.fault = () => "pass";
    const done = tab.evaluate("window.empty()");
    await fire();
    await done;
    assert.equal(await enrolled("ann"), 1);
  });
}

test("a token that expired in the queue is renewed, and the walk sent again", async () => {
  const guarded = await startService({ scopes: "identify,enroll" });
  const guardedSite = await startSite(guarded.url);
  try {
    tab = await openTab(context, guardedSite.url);
    await guarded.call("PUT", "/v1/users/ann");
    const create = (seconds) => guarded.call("POST", "/v1/users/ann/tokens", { expires_in_seconds: seconds });
    const { token: old } = await create(1);
    const check = () => fetch(`${guarded.url}/v1/users/ann`, { headers: { authorization: `Bearer ${old}` } });
    let refused;
    do refused = await (await check()).json();
    while (refused.status !== 401);
    assert.equal(refused.type, "urn:bipedalnet:problem:expired-token");
    await tab.exposeFunction("renew", async () => (await create(600)).token);
    const result = await tab.evaluate(
      async ({ old, walk }) => {
        const asked = [];
        const token = (previous) => (asked.push(previous), previous === null ? old : window.renew());
        const queue = new bipedalnet.Queue(new bipedalnet.Client({ token }));
        const sent = new Promise((resolve) => queue.on("sent", resolve));
        await queue.enroll("ann", walk);
        return { sent: await sent, asked };
      },
      { old, walk: simulated(1, 1) },
    );
    assert.equal(result.sent.answer.enrollment, 1);
    assert.deepEqual(result.asked, [null, old]);
    const posts = guardedSite.requests.filter(({ method }) => method === "POST");
    assert.equal(posts.length, 2);
    assert.equal(posts[0].headers["idempotency-key"], posts[1].headers["idempotency-key"]);
  } finally {
    await Promise.all([guardedSite.stop(), guarded.stop()]);
  }
});

test("a walk waits for a token, and is not lost without", async () => {
  const guarded = await startService({ scopes: "identify,enroll" });
  const guardedSite = await startSite(guarded.url);
  try {
    tab = await openTab(context, guardedSite.url);
    const delay = await tab.evaluate(async (walk) => {
      window.queue = new bipedalnet.Queue(new bipedalnet.Client({ token: "wrong" }));
      const delayed = new Promise((resolve) => window.queue.on("delayed", resolve));
      await window.queue.enroll("ann", walk);
      return delayed;
    }, simulated(1, 1));
    assert.equal(delay.problem.type, "urn:bipedalnet:problem:bad-api-key");
    assert.equal((await tab.evaluate("window.queue.waiting()")).length, 1);
  } finally {
    await Promise.all([guardedSite.stop(), guarded.stop()]);
  }
});

test("what is refused for good is reported, and the next walk is sent", async () => {
  const walk = simulated(1, 1);
  const short = { ...walk, timeSeconds: walk.timeSeconds.slice(0, 20), acceleration: walk.acceleration.slice(0, 20), angularRate: undefined };
  await tab.evaluate(async ({ short, walk }) => {
    const queue = window.openQueue();
    const done = window.until("sent");
    await queue.enroll("ann", short);
    await queue.enroll("ann", walk);
    await done;
  }, { short, walk });
  const events = await tab.evaluate("window.events");
  const [refused] = events.filter(({ name }) => name === "refused");
  assert.equal(refused.detail.problem.type, "urn:bipedalnet:problem:too-short");
  assert.equal(await enrolled("ann"), 1);
});

test("a user who must wait does not hold up the others", async () => {
  const busy = JSON.stringify({ type: "urn:bipedalnet:problem:too-many-failures", title: "No", status: 429, detail: "wait" });
  await tab.route("**/v1/users/ann/**", (route) =>
    route.fulfill({ status: 429, headers: { "retry-after": "3600" }, contentType: "application/problem+json", body: busy }),
  );
  await tab.evaluate(async (walks) => {
    const queue = window.openQueue();
    const sent = window.until("sent");
    await queue.verify("ann", walks[0]);
    await queue.verify("ann", walks[1]);
    await queue.enroll("bob", walks[0]);
    await sent;
    await queue.flush();
  }, [1, 2].map((walk) => simulated(1, walk)));
  assert.equal(await enrolled("bob"), 1);
  assert.deepEqual((await tab.evaluate("window.queue.waiting()")).map(({ user }) => user), ["ann", "ann"]);
  const delays = (await tab.evaluate("window.events")).filter(({ name }) => name === "delayed");
  assert.ok(delays.every(({ detail }) => detail.retryInSeconds >= 3600));
});

test("two tabs do not send at once, and tell each other", async () => {
  let underWay = 0;
  let most = 0;
  const first = gate();
  site.fault = async ({ number }) => {
    most = Math.max(most, ++underWay);
    if (number === 1) await first.opened;
    underWay--;
    return "pass";
  };
  const other = await newTab();
  await other.evaluate("window.openQueue()");
  const walks = [1, 2, 3].map((walk) => simulated(1, walk));
  const told = other.evaluate("window.empty()");
  await tab.evaluate((walk) => window.openQueue().enroll("ann", walk), walks[0]);
  await other.evaluate((walk) => window.queue.enroll("ann", walk), walks[1]);
  await tab.evaluate((walk) => window.queue.enroll("bob", walk), walks[2]);
  first.open();
  await told;
  assert.equal(most, 1);
  assert.equal((await enrolled("ann")) + (await enrolled("bob")), 3);
  const sent = (await other.evaluate("window.events")).filter(({ name }) => name === "sent");
  assert.equal(sent.length, 3);
});

test("a user's walks can be forgotten", async () => {
  await context.setOffline(true);
  await tab.evaluate(async (walk) => {
    const queue = window.openQueue();
    for (const user of ["ann", "bob", "ann"]) await queue.enroll(user, walk);
    await queue.forget("ann");
  }, simulated(1, 1));
  assert.deepEqual((await tab.evaluate("window.queue.waiting()")).map(({ user }) => user), ["bob"]);
});
