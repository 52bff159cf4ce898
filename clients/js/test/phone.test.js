import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import test, { after, afterEach, before, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";
import { blankTab, startBrowser } from "./support/browser.js";
import { seeded } from "./support/random.js";
import { startService } from "./support/service.js";
import { startSite } from "./support/site.js";
import { part, real, recordings, simulated, withoutData } from "./support/walks.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SECONDS = { enroll: 35, verify: 12, identify: 12 };

let browser, service, site, context, tab, token;

before(async () => {
  browser = await startBrowser();
  service = await startService({
    scopes: "identify,enroll,erase,features,template,scores,admin",
    options: ["--phone-page", "--device-template-days", "30"],
  });
});
after(async () => {
  await browser.close();
  await service.stop();
});
beforeEach(async () => {
  site = await startSite(service.url);
  context = await browser.newContext({ viewport: { width: 360, height: 740 } });
  tab = await blankTab(context);
  await service.call("PUT", "/v1/users/ann");
  token = await tokenFor("ann", ["identify", "enroll", "erase"]);
});
afterEach(async () => {
  await service.call("DELETE", "/v1/users/ann");
  await context.close();
  await site.stop();
});

async function tokenFor(user, scopes) {
  return (await service.call("POST", `/v1/users/${user}/tokens`, { scopes })).token;
}

async function open(query = "", fragment = `#token=${token}`) {
  await tab.goto(`${site.url}/phone${query}${fragment}`);
  await tab.evaluate(() => navigator.serviceWorker.ready);
}

/** Records a walk as a person does. */
async function record(purpose, walk) {
  await tab.getByText(purpose, { exact: true }).click();
  await tab.click("#record");
  await tab.getByText("Put the phone in your pocket").waitFor();
  await tab.evaluate((walk) => window.play(walk), walk);
  await tab.locator("#record", { hasText: "Start" }).waitFor();
}

const walkOf = (walker, number, purpose) => simulated(walker, number, SECONDS[purpose] + 1);
const answer = (text) => tab.locator("#answer-text", { hasText: text }).waitFor();
const queued = (text) => tab.locator("#queue-text", { hasText: text }).waitFor();

async function enrollments(user = "ann") {
  return (await service.call("GET", `/v1/users/${user}/enrollments`)).enrollments.length;
}

async function faultsOfAccess() {
  await tab.evaluate(axe);
  const { violations } = await tab.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

test("the committed script is what a build gives", () => {
  const options = { bundle: true, minify: true, format: "esm", target: "es2022", write: false };
  const source = fileURLToPath(new URL("../phone/page.ts", import.meta.url));
  const [{ text }] = buildSync({ entryPoints: [source], ...options }).outputFiles;
  const committed = readFileSync(new URL("../../../src/http/phone/page.js", import.meta.url), "utf8");
  assert.ok(text === committed, "run `npm run page` and commit src/http/phone/page.js");
});

test("enrolls, verifies and identifies", async () => {
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await tab.locator("#progress-text", { hasText: "Enrolled" }).waitFor();
  await record("Verify", walkOf(3, 2, "verify"));
  await answer("Yes, this is ann");
  assert.equal(await tab.textContent("#answer-path"), "Decided by the service.");
  await record("Verify", walkOf(4, 2, "verify"));
  await tab.locator("#answer-text", { hasNotText: /Sending|Waiting|Yes/ }).waitFor();
  await record("Identify", walkOf(3, 3, "identify"));
  await answer("The token does not allow this");
});

test("identifies with a key, which creates users too", async () => {
  await open("", `#user=zoe&token=${service.key}`);
  await tab.locator("#progress-text", { hasText: "Not enrolled yet" }).waitFor();
  await record("Enroll", walkOf(5, 1, "enroll"));
  await answer("s of walking learned");
  await record("Identify", walkOf(5, 2, "identify"));
  await tab.locator("#answer-text", { hasText: /This is zoe|Not sure/ }).waitFor();
});

test("short walks of one session count together", async () => {
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  const sessions = () => site.requests.filter(({ url }) => url.includes("/verify")).map(({ url }) => url.split("session=")[1]);
  const short = part(walkOf(3, 2, "verify"), 0, 3);
  await tab.getByText("Verify", { exact: true }).click();
  await tab.click("#record");
  await tab.getByText("Put the phone in your pocket").waitFor();
  await tab.evaluate((walk) => window.play(walk), short);
  await tab.click("#record");
  await answer("Not sure yet");
  assert.equal(await tab.textContent("#answer-detail"), "Walk again: the walks count together.");
  await record("Verify", walkOf(3, 4, "verify"));
  await answer("Yes, this is ann");
  await record("Verify", walkOf(3, 5, "verify"));
  await tab.waitForFunction(() => !/Sending|Waiting/.test(document.querySelector("#answer-text").textContent));
  const [first, second, third] = sessions();
  assert.equal(first, second);
  assert.notEqual(second, third);
});

test("works offline after the first visit, and sends what waits when the network is back", async () => {
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await context.setOffline(true);
  await tab.reload();
  await tab.locator("#network", { hasText: "Offline" }).waitFor();
  assert.equal(await tab.textContent("#account-summary"), "ann");
  await record("Verify", walkOf(3, 2, "verify"));
  await queued("1 walk waits");
  await record("Enroll", walkOf(3, 3, "enroll"));
  await queued("2 walks wait");
  assert.equal(await tab.locator("#queue-list li").count(), 2);
  assert.equal(await enrollments(), 1);
  await tab.reload();
  await queued("2 walks wait");
  await context.setOffline(false);
  await queued("No walk waits");
  assert.equal(await tab.textContent("#answer-path"), "Decided by the service, for a walk that waited.");
});

test("verifies on the phone itself, also without a network", async () => {
  token = await tokenFor("ann", ["identify", "enroll", "template"]);
  const verifications = () => site.requests.filter(({ url }) => url.includes("/verify")).length;
  await open();
  const downloaded = tab.waitForResponse((response) => response.url().endsWith("/file"));
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await downloaded;
  await tab.waitForFunction(() => indexedDB.databases().then((all) => all.some(({ name }) => name === "bipedalnet-phone-device")));
  const verify = async (walker, number, text) => {
    await record("Verify", walkOf(walker, number, "verify"));
    await answer(text);
    assert.equal(await tab.textContent("#answer-path"), "Decided on this phone.");
  };
  await verify(3, 2, "Yes, this is ann");
  await context.setOffline(true);
  await tab.reload();
  await verify(3, 3, "Yes, this is ann");
  await verify(4, 3, "This does not walk like ann");
  await queued("No walk waits");
  assert.equal(verifications(), 0);
  // The cheap checks do not know steps.
  const random = seeded(3);
  const noise = part(walkOf(3, 1, "verify"), 0, 5);
  noise.acceleration = noise.acceleration.map(() => [4 * random(), 8 + 4 * random(), 4 * random()]);
  await tab.click("#record");
  await tab.getByText("Put the phone in your pocket").waitFor();
  await tab.evaluate((walk) => window.play(walk), noise);
  assert.match(await tab.textContent("#finding"), /These are no steps|too strong for walking/);
  await tab.click("#record");
  await answer("There is no recording");
});

test("lets the service decide from features, if the walk may not leave the phone", async () => {
  token = await tokenFor("ann", ["identify", "enroll", "features"]);
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await record("Verify", walkOf(3, 2, "verify"));
  await answer(/Yes, this is ann|Not sure yet/);
  assert.equal(await tab.textContent("#answer-path"), "Decided by the service. The walk stayed on this phone.");
});

test("enrolls and verifies through a network that cuts, delays and doubles", async () => {
  site.fault = ({ number }) => ["cut", "cut-answer", "double", "pass"][number % 4];
  await tab.addInitScript(() => (Math.random = () => 0.02));
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  for (const number of [2, 3, 4]) {
    await record("Verify", walkOf(3, number, "verify"));
    // A walk that counted twice would have been sent before.
    await answer(/Yes, this is ann|Not sure yet/);
    await queued("No walk waits");
  }
  assert.equal(await enrollments(), 1);
  assert.ok(site.requests.length >= 8, `${site.requests.length} requests`);
});

test("real people enroll and are verified", { skip: withoutData }, async () => {
  const people = ["sub01", "sub02", "sub03"];
  const of = (person, session, seconds) => {
    const name = recordings("motionsense").find((name) => name.startsWith(`${person}-${session}`));
    return part(real("motionsense", name), 2, 2 + seconds + 1);
  };
  let accepted = 0;
  for (const person of people) {
    await service.call("PUT", `/v1/users/${person}`);
    token = await tokenFor(person, ["identify", "enroll"]);
    await tab.goto("about:blank");
    await open();
    await record("Enroll", of(person, "wlk_7", 35));
    await answer("s of walking learned");
    for (let tries = 0; tries < 3; tries++) {
      await record("Verify", part(of(person, "wlk_8", 60), tries * 13, tries * 13 + 13));
      await tab.locator("#answer-text", { hasNotText: /Sending|Waiting/ }).waitFor();
      const text = await tab.textContent("#answer-text");
      if (text !== "Not sure yet") {
        accepted += Number(text.startsWith("Yes"));
        break;
      }
    }
  }
  assert.ok(accepted >= 2, `${accepted} of 3 accepted`);
});

test("without storage, a walk is sent at once, and its loss is said", async () => {
  await tab.addInitScript(() => (IDBFactory.prototype.open = () => { throw new DOMException("not allowed", "SecurityError"); }));
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await tab.evaluate(() => (window.fetch = () => Promise.reject(new TypeError("no network"))));
  await tab.clock.install();
  await record("Verify", walkOf(3, 2, "verify"));
  await tab.clock.runFor(30_000);
  await answer("The walk could not be kept");
});

test("a token leaves the address, and is in no address of a request", async () => {
  const urls = [];
  tab.on("request", (request) => urls.push(request.url()));
  await open();
  await tab.locator("#progress-text", { hasText: "0 % enrolled" }).waitFor();
  assert.equal(tab.url(), `${site.url}/phone`);
  assert.ok(urls.length > 3 && urls.every((url) => !url.includes("bpu_") || url.includes("#")), urls.join("\n"));
  assert.equal(site.requests[0].headers.authorization, `Bearer ${token}`);
  assert.equal(await tab.evaluate("localStorage.length"), 0);
  const other = await blankTab(context);
  await other.goto(`${site.url}/phone`);
  assert.equal(await other.inputValue("#token"), "");
});

test("a link with another token, opened in the same tab, changes the user", async () => {
  await service.call("PUT", "/v1/users/bob");
  await open();
  await tab.locator("#account-summary", { hasText: "ann" }).waitFor();
  await tab.evaluate((token) => (location.hash = `token=${token}`), await tokenFor("bob", ["identify", "enroll"]));
  await tab.locator("#account-summary", { hasText: "bob" }).waitFor();
  assert.equal(tab.url(), `${site.url}/phone`);
  await service.call("DELETE", "/v1/users/bob");
});

test("a token that is no longer valid asks for another, and the walk waits for it", async () => {
  await open("", `#token=${token.replace(/_[0-9a-f]{64}_/, `_${"0".repeat(64)}_`)}`);
  await record("Enroll", walkOf(3, 1, "enroll"));
  await queued("1 walk waits. The token is no longer valid. Get a new one.");
  await tab.fill("#token", token);
  await tab.click("text=Continue");
  await queued("No walk waits");
  assert.equal(await enrollments(), 1);
});

test("a user's data is deleted, there and here", async () => {
  await open();
  await record("Enroll", walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  await context.setOffline(true);
  await record("Verify", walkOf(3, 2, "verify"));
  await queued("1 walk waits");
  await context.setOffline(false);
  await tab.click("#erase");
  await tab.locator("dialog").getByText("Keep").click();
  await tab.waitForFunction(() => !document.querySelector("dialog").open);
  assert.equal(await enrollments(), 1);
  await tab.click("#erase");
  await tab.locator("dialog").getByText("Delete", { exact: true }).click();
  await tab.locator("#erase-text", { hasText: "Everything about ann is deleted." }).waitFor();
  await queued("No walk waits");
  assert.equal((await service.call("GET", "/v1/users/ann")).status, 404);
  assert.equal(await tab.evaluate("sessionStorage.length"), 0);
});

test("a token without the scope to delete says so", async () => {
  token = await tokenFor("ann", ["identify", "enroll"]);
  await open();
  await tab.click("#erase");
  await tab.locator("dialog").getByText("Delete", { exact: true }).click();
  await tab.locator("#erase-text", { hasText: "The service did not delete its data" }).waitFor();
  assert.equal((await service.call("GET", "/v1/users/ann")).user, "ann");
});

test("what goes wrong with a recording is said", async () => {
  await open();
  await tab.evaluate("DeviceMotionEvent.requestPermission = () => Promise.resolve('denied')");
  await tab.click("#record");
  await tab.locator("#answer-detail", { hasText: "You did not allow the motion sensors." }).waitFor();
  await tab.evaluate("DeviceMotionEvent.requestPermission = undefined");
  await tab.click("#record");
  await tab.locator("#answer-detail", { hasText: "No motion arrives." }).waitFor();
  const walk = walkOf(3, 1, "verify");
  const still = { ...walk, acceleration: walk.acceleration.map((_, at) => [0.02 * (at % 3), 9.8 + 0.01 * (at % 2), 0.05 * (at % 5)]) };
  await tab.click("#record");
  await tab.evaluate((walk) => window.play(walk), still);
  assert.equal(await tab.textContent("#finding"), "You stand still. Walk.");
  await tab.click("#record");
  await tab.locator("#answer-detail", { hasText: "You stand still." }).waitFor();
  assert.equal(site.requests.filter(({ method }) => method === "POST").length, 0);
});

for (const colorScheme of ["light", "dark"]) {
  test(`fits 360 pixels, and has no faults of access, in ${colorScheme}`, async () => {
    await tab.emulateMedia({ colorScheme });
    const check = async (state) => {
      assert.deepEqual(await faultsOfAccess(), [], state);
      assert.equal(await tab.evaluate("document.documentElement.scrollWidth"), 360, state);
    };
    await open("", "");
    await check("without an account");
    await tab.goto("about:blank");
    await open();
    await record("Enroll", walkOf(3, 1, "enroll"));
    await answer("s of walking learned");
    await check("after an enrollment");
    await context.setOffline(true);
    await record("Verify", walkOf(3, 2, "verify"));
    await queued("1 walk waits");
    await check("with a walk that waits");
    await tab.click("#record");
    await tab.getByText("Put the phone in your pocket").waitFor();
    await tab.evaluate((walk) => window.play(walk), part(walkOf(3, 3, "verify"), 0, 4));
    await check("during a recording");
    await tab.click("#record");
    await tab.click("#erase");
    await check("with the dialog");
  });
}

test("works by keyboard alone", async () => {
  await open("", "");
  const press = async (...keys) => {
    for (const key of keys) await tab.keyboard.press(key);
  };
  const focused = () => tab.evaluate("document.activeElement.id || document.activeElement.value || document.activeElement.tagName");
  await press("Tab");
  assert.equal(await focused(), "SUMMARY");
  await press("Tab");
  assert.equal(await focused(), "user");
  await tab.keyboard.type("ann");
  await press("Tab");
  await tab.keyboard.type(token);
  await press("Enter");
  await tab.locator("#account-summary", { hasText: "ann" }).waitFor();
  await tab.locator("summary").focus();
  await press("Tab", "ArrowRight");
  assert.equal(await focused(), "verify");
  await press("ArrowLeft", "Tab");
  assert.equal(await focused(), "record");
  await press("Space");
  await tab.getByText("Put the phone in your pocket").waitFor();
  await tab.evaluate((walk) => window.play(walk), walkOf(3, 1, "enroll"));
  await answer("s of walking learned");
  assert.equal(await focused(), "record");
  await press("Tab");
  assert.equal(await focused(), "erase");
  await press("Enter");
  await press("Escape");
  assert.equal(await focused(), "erase");
});

test("a browser can install it", async () => {
  await open();
  const session = await context.newCDPSession(tab);
  const { errors, data } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  assert.equal(JSON.parse(data).start_url, "/phone");
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"), []);
});

test("a new version of the page replaces the files of the old one", async () => {
  await open();
  assert.equal(await tab.evaluate("caches.keys().then((names) => names.length)"), 1);
  await tab.route("**/phone/worker.js", (route) => route.continue());
  await tab.evaluate(() => caches.open("bipedalnet-phone-old").then((cache) => cache.put("/phone", new Response("old"))));
  // A worker that is installed anew removes what earlier ones kept.
  await tab.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration("/phone");
    await registration.unregister();
  });
  await tab.goto("about:blank");
  await open();
  await tab.waitForFunction(() => caches.keys().then((names) => names.length === 1 && names[0] !== "bipedalnet-phone-old"));
});
