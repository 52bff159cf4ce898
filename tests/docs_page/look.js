// What the page looks like: axe's rules, its width, and what Chromium complains about.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const AXE = readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

export async function lookAtPage(page, { url }) {
    // Violations of the content security policy are errors too.
    const complaints = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(`${url}/docs`);
    const addresses = await page.locator(".server").allTextContents();
    assert.ok(addresses.length > 20 && addresses.every((address) => address === url), addresses.join(", "));
    await page.evaluate(AXE);
    for (const open of [false, true]) {
        await page.evaluate((open) => document.querySelectorAll("details").forEach((part) => (part.open = open)), open);
        await assertFits(page);
        await assertScrollersHaveFocus(page);
        assert.deepEqual(await violations(page), []);
    }
    // Requests that are refused on purpose are errors for Chromium. They come later.
    assert.deepEqual(complaints, []);
    page.removeAllListeners("console");
    page.removeAllListeners("pageerror");
    page.on("pageerror", (error) => {
        throw error;
    });
    page.on("console", (message) => {
        assert.ok(message.type() !== "error" || message.text().startsWith("Failed to load resource"), message.text());
    });
}

export async function lookWithoutScript(page, { url }) {
    await page.goto(`${url}/docs`);
    await assertFits(page);
    assert.equal(await page.locator("details.try:visible").count(), 0);
    const operations = await page.locator("section").count();
    assert.ok(operations > 20);
    assert.equal(await page.locator("section .shell:visible").count(), operations);
    assert.ok((await page.locator("noscript").innerText()).includes("JavaScript"));
}

async function assertFits(page) {
    const { width } = page.viewportSize();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
}

/** The script does this once it knows the sizes. */
async function assertScrollersHaveFocus(page) {
    await page.waitForFunction(() =>
        [...document.querySelectorAll("pre")].every(
            (block) =>
                block.tabIndex === 0 ||
                (block.scrollWidth <= block.clientWidth && block.scrollHeight <= block.clientHeight),
        ),
    );
}

async function violations(page) {
    const found = await page.evaluate(async () => (await axe.run()).violations);
    return found.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join("\n")}`);
}
