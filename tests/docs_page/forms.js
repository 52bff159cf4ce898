// Uses the forms as a person would.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export async function tryForms(page, { key }, folder) {
    // Closes all forms.
    await page.reload();
    await createByKeyboard(page, key);
    await recognise(page, folder);
    await failures(page, key);
    await stopAndBreak(page);
    await erase(page);
    await assertKeyIsForgotten(page);
}

async function createByKeyboard(page, key) {
    const form = page.locator("#put_user form");
    await page.locator("#put_user .try > summary").focus();
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.type(key);
    await page.keyboard.press("Tab");
    await page.keyboard.type("eve");
    await page.keyboard.press("Enter");
    await said(form, /^201 Created after [0-9.]+ s$/);
    assert.equal(await form.getByRole("status").count(), 1);
    assert.match(await form.locator("dl").innerText(), /Location\s+\/v1\/users\/eve/);
    const { user, status, consent } = await received(form);
    assert.deepEqual([user, status, consent.reference], ["eve", "collecting", "release 4711"]);
}

async function recognise(page, folder) {
    // The key of the first form is in all others.
    const enroll = await open(page, "enroll", { user: "eve" });
    await sendExample(page, enroll);
    await said(enroll, /^201 /);
    assert.equal((await received(enroll)).status, "ready");
    const again = await open(page, "enroll");
    await send(again);
    await said(again, /^409 Conflict.*\s+.*the user has this walk/);

    const identify = await open(page, "identify");
    await sendExample(page, identify);
    await said(identify, /^200 OK/);
    const { decision, user } = await received(identify);
    assert.deepEqual([decision, user], ["identified", "eve"]);

    const file = join(folder, "short.json");
    writeFileSync(file, '{"rate_hz": 50, "acceleration": [[0, 0, 9.8]]}');
    await identify.locator("[type=file]").setInputFiles(file);
    await page.waitForFunction(() => document.querySelector("#identify textarea").value.includes("[[0, 0, 9.8]]"));
    await send(identify);
    await said(identify, /^422 /);

    const verify = await open(page, "verify", { user: "eve", fmr: "0.001" });
    await sendExample(page, verify);
    await said(verify, /^200 /);
    assert.equal((await received(verify)).fmr, 0.001);

    const model = await open(page, "get_model_file");
    await send(model);
    await said(model, /^200 /);
    assert.match(await model.locator("pre").innerText(), /^[0-9]{5} bytes$/);
}

async function failures(page, key) {
    const form = await open(page, "get_user", { user: "nobody" });
    await send(form);
    await said(form, /^404 Not Found.*\s+user: .*create the user first/);
    assert.equal((await received(form)).type, "urn:bipedalnet:problem:unknown-user");
    await form.locator("[name=user]").fill("a b/c?d");
    await send(form);
    await said(form, /^422 .*\s+user: the id contains ' '/);
    await form.locator(".key").fill("wrong");
    await send(form);
    await said(form, /^401 Unauthorized/);
    assert.match(await form.locator("dl").innerText(), /WWW-Authenticate/);
    await form.locator(".key").fill(key);
}

async function stopAndBreak(page) {
    const form = await open(page, "list_models");
    await page.route("**/v1/models", () => {});
    await send(form);
    await form.getByRole("button", { name: "Stop" }).click();
    await said(form, /^Stopped\.$/);
    assert.equal(await form.getByRole("button", { name: "Stop" }).count(), 0);
    await page.unroute("**/v1/models");
    await page.route("**/v1/models", (route) => route.abort());
    await send(form);
    await said(form, /^No response: /);
    await page.unroute("**/v1/models");
    await send(form);
    await said(form, /^200 /);
}

async function erase(page) {
    const form = await open(page, "erase_user", { user: "eve" });
    const asked = [];
    page.once("dialog", (dialog) => {
        asked.push(dialog.message());
        dialog.dismiss();
    });
    await send(form);
    assert.match(asked[0], /DELETE \/v1\/users\/eve/);
    const read = await open(page, "get_user", { user: "eve" });
    await send(read);
    await said(read, /^200 /);
    page.once("dialog", (dialog) => dialog.accept());
    await send(form);
    await said(form, /^204 No Content/);
    await send(read);
    await said(read, /^404 /);
}

async function assertKeyIsForgotten(page) {
    await page.reload();
    const keys = await page.locator(".key").evaluateAll((fields) => fields.map((field) => field.value));
    assert.ok(keys.length > 10 && keys.every((key) => key === ""));
    const stored = () => [localStorage.length, sessionStorage.length, document.cookie.length];
    assert.deepEqual(await page.evaluate(stored), [0, 0, 0]);
}

/** Opens the form of an operation and fills fields in. */
async function open(page, id, fields = {}) {
    const details = page.locator(`#${id} .try`);
    if ((await details.getAttribute("open")) === null) {
        await details.locator("> summary").click();
    }
    for (const [name, value] of Object.entries(fields)) {
        await details.locator(`[name=${name}]`).fill(value);
    }
    return details.locator("form");
}

async function send(form) {
    await form.getByRole("button", { name: "Send" }).click();
}

/** Sends the body that the script loads. */
async function sendExample(page, form) {
    const body = await form.locator("textarea").elementHandle();
    await page.waitForFunction((body) => body.value !== "", body);
    await send(form);
}

/** Waits until the form says something. */
async function said(form, words) {
    try {
        await form.getByRole("status").filter({ hasText: words }).waitFor();
    } catch {
        assert.match(await form.locator("output").innerText(), words);
    }
}

async function received(form) {
    return JSON.parse(await form.locator("pre").innerText());
}
