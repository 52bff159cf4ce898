import assert from "node:assert/strict";
import { createServer } from "node:http";
import test, { after, before, mock } from "node:test";
import { gunzipSync } from "node:zlib";
import { Client, Problem, Unreachable } from "../dist/index.js";
import { startService } from "./support/service.js";
import { simulated } from "./support/walks.js";

const walk = simulated(5, 1, 35);
const document = (code, status, detail = "because") => ({ type: `urn:bipedalnet:problem:${code}`, title: "No", status, detail });

/** A service that gives these answers in turn, and then the last one for ever. */
async function scripted(t, ...answers) {
  const requests = [];
  const server = createServer((incoming, outgoing) => {
    const chunks = [];
    incoming.on("data", (chunk) => chunks.push(chunk));
    incoming.on("end", () => {
      const { method, url, headers } = incoming;
      requests.push({ method, url, headers, body: Buffer.concat(chunks) });
      const answer = answers[Math.min(requests.length, answers.length) - 1];
      if (answer === "cut") return outgoing.destroy();
      if (answer === "hang") return;
      const { status = 200, headers: answered = {}, body } = typeof answer === "function" ? answer(requests.at(-1)) : answer;
      outgoing.writeHead(status, answered);
      outgoing.end(typeof body === "string" ? body : JSON.stringify(body));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}/`, requests };
}

const refusal = (code, status, headers = {}) => ({ status, headers, body: document(code, status) });
const fine = { body: { decision: "accept", user: "ann" } };

let service;
before(async () => (service = await startService({ scopes: "identify,enroll,extend,admin" })));
after(() => service.stop());

test("enrolls, tells the progress, verifies, identifies and erases", async () => {
  const client = new Client({ url: service.url, token: service.key });
  const progress = [];
  client.on("progress", (detail) => progress.push(detail));

  const short = simulated(5, 7, 12);
  const enrolled = await client.enroll("ann", short, { createUser: true });
  assert.equal(enrolled.status, "collecting");
  assert.equal(progress[0].percent, Math.floor(enrolled.progress * 100 + 1e-9));
  assert.ok(progress[0].percent > 20 && progress[0].percent < 60, `${progress[0].percent} % enrolled`);
  assert.equal((await client.enroll("ann", walk, { createUser: true })).status, "ready");
  assert.equal(progress[1].percent, 100);

  assert.equal((await client.verify("ann", simulated(5, 2, 20), { fmr: 0.01 })).decision, "accept");
  assert.equal((await client.verify("ann", simulated(6, 2, 20))).decision === "accept", false);
  const { challenge } = await client.challenge("ann");
  assert.equal((await client.verify("ann", simulated(5, 3, 20), { challenge, session: "door" })).decision, "accept");
  assert.ok(["identified", "inconclusive"].includes((await client.identify(simulated(5, 4, 20))).decision));

  assert.equal((await client.createUser("bob", { reference: "release 1" })).consent.reference, "release 1");
  await client.deleteUser("ann");
  await assert.rejects(client.user("ann"), (error) => error instanceof Problem && error.code === "unknown-user");
});

test("names the collection in requests about users only", async (t) => {
  const { url, requests } = await scripted(t, { body: { user: "ann", progress: 0, status: "collecting", windows_missing: 29 } });
  const client = new Client({ url, collection: "shop" });
  await client.user("ann");
  await client.verify("ann", walk, { fmr: 0.01 });
  await client.identify(walk);
  await client.modelFile("m");
  const urls = requests.map((request) => request.url);
  assert.deepEqual(urls, [
    "/v1/users/ann?collection=shop",
    "/v1/users/ann/verify?fmr=0.01&collection=shop",
    "/v1/identify?collection=shop",
    "/v1/models/m/file",
  ]);
});

test("users of a collection are apart", async () => {
  const admin = (method, path) => fetch(service.url + path, { method, headers: { authorization: `Bearer ${service.key}` } });
  assert.equal((await admin("PUT", "/v1/collections/shop")).status, 201);
  const [shop, other] = ["shop", undefined].map((collection) => new Client({ url: service.url, token: service.key, ...(collection && { collection }) }));
  assert.equal((await shop.createUser("cem")).user, "cem");
  assert.equal((await shop.user("cem")).collection, "shop");
  await assert.rejects(other.user("cem"), (error) => error instanceof Problem && error.code === "unknown-user");
  const nowhere = new Client({ url: service.url, token: service.key, collection: "nowhere" });
  await assert.rejects(nowhere.user("cem"), (error) => error instanceof Problem && error.code === "unknown-collection");
});

test("sends a compact walk, gzipped, with one key at each attempt", async (t) => {
  const { url, requests } = await scripted(t, "cut", { status: 502, body: "<html>" }, fine);
  mock.method(Math, "random", () => 0);
  t.after(() => mock.restoreAll());
  await new Client({ url, token: "secret" }).verify("a b", walk, { fmr: 0.001, session: "s" });
  assert.equal(requests.length, 3);
  for (const { method, url, headers, body } of requests) {
    assert.deepEqual([method, url], ["POST", "/v1/users/a%20b/verify?fmr=0.001&session=s"]);
    assert.equal(headers.authorization, "Bearer secret");
    assert.equal(headers["content-type"], "application/cbor");
    assert.ok(Number(headers["request-deadline-ms"]) <= 10_000);
    assert.equal(headers["idempotency-key"], requests[0].headers["idempotency-key"]);
    assert.deepEqual(body, requests[0].body);
    assert.equal(gunzipSync(body)[0], 0xbf);
  }
});

test("waits as long as Retry-After says, but not longer than the deadline", async (t) => {
  mock.method(Math, "random", () => 0);
  t.after(() => mock.restoreAll());
  for (const [code, status] of [["request-in-flight", 409], ["overloaded", 503], ["too-many-requests", 429]]) {
    const soon = await scripted(t, refusal(code, status, { "retry-after": "0" }), fine);
    assert.equal((await new Client({ url: soon.url }).verify("ann", walk)).decision, "accept");
    assert.equal(soon.requests.length, 2);
    const late = await scripted(t, refusal(code, status, { "retry-after": "31" }), fine);
    await assert.rejects(new Client({ url: late.url }).verify("ann", walk), (error) => {
      assert.deepEqual([error.code, error.status, error.retryAfterSeconds, error.message], [code, status, 31, "because"]);
      return error instanceof Problem && error.isTemporary;
    });
    assert.equal(late.requests.length, 1);
  }
});

test("does not repeat what is refused for good", async (t) => {
  const { url, requests } = await scripted(t, refusal("too-short", 422), fine);
  await assert.rejects(new Client({ url }).enroll("ann", walk, { createUser: true }), (error) => error.type === "urn:bipedalnet:problem:too-short");
  assert.equal(requests.length, 1);
});

test("gets a new token after a 401, once for requests at the same time", async (t) => {
  const { url, requests } = await scripted(t, ({ headers }) =>
    headers.authorization === "Bearer token 2" ? fine : refusal("expired-token", 401),
  );
  const asked = [];
  const token = async (previous) => `token ${asked.push(previous)}`;
  const client = new Client({ url, token });
  const answers = await Promise.all([1, 2, 3].map(() => client.verify("ann", walk)));
  assert.deepEqual(answers.map(({ decision }) => decision), ["accept", "accept", "accept"]);
  assert.deepEqual(asked, [null, "token 1"]);
  const keys = new Set(requests.map(({ headers }) => headers["idempotency-key"]));
  assert.equal(keys.size, 3);
});

test("a token that is refused again, or cannot be renewed, is a 401", async (t) => {
  const { url, requests } = await scripted(t, refusal("bad-api-key", 401));
  for (const [token, attempts] of [["fixed", 1], [() => "the same", 1], [(previous) => `${previous}!`, 2]]) {
    requests.length = 0;
    await assert.rejects(new Client({ url, token }).user("ann"), (error) => error instanceof Problem && error.status === 401);
    assert.equal(requests.length, attempts);
  }
});

test("a backend without a token is not the service's refusal", async (t) => {
  const { url } = await scripted(t, fine);
  const token = () => Promise.reject(new Error("signed out"));
  await assert.rejects(new Client({ url, token }).user("ann"), (error) => error instanceof Unreachable && /signed out/.test(error.message));
});

test("a captive portal is no answer", async (t) => {
  for (const portal of [{ body: "<html>Log in</html>" }, { status: 403, body: "<html>" }, { status: 302, headers: { location: "/" } }]) {
    const { url, requests } = await scripted(t, portal, fine);
    mock.method(Math, "random", () => 0);
    t.after(() => mock.restoreAll());
    assert.equal((await new Client({ url }).verify("ann", walk)).decision, "accept");
    assert.equal(requests.length, 2);
  }
});

test("a connection that hangs uses up one attempt, and all of them the deadline", async (t) => {
  mock.method(Math, "random", () => 0);
  t.after(() => mock.restoreAll());
  const once = await scripted(t, "hang", fine);
  assert.equal((await new Client({ url: once.url, deadlineSeconds: 3 }).verify("ann", walk)).decision, "accept");
  const always = await scripted(t, "hang");
  await assert.rejects(new Client({ url: always.url, deadlineSeconds: 0.3 }).verify("ann", walk), Unreachable);
});

test("a signal ends a request with its reason", async (t) => {
  const { url, requests } = await scripted(t, "hang");
  const ending = new AbortController();
  const verified = new Client({ url }).verify("ann", walk, { signal: ending.signal });
  while (requests.length === 0) await new Promise(setImmediate);
  ending.abort(new Error("the user left"));
  await assert.rejects(verified, /the user left/);
});
