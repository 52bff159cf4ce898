// Checks the page /docs of a real server in Chromium: check.js PROGRAM
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { runCommands } from "./commands.js";
import { tryForms } from "./forms.js";
import { lookAtPage, lookWithoutScript } from "./look.js";
import { startServer } from "./server.js";

const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const BACKGROUND = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];

const folder = mkdtempSync(join(tmpdir(), "docs_page"));
const server = await startServer(resolve(process.argv[2]), folder);
const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [...ARGUMENTS, ...BACKGROUND],
});
try {
    console.log("-- curl lines");
    // The examples have the ids of an empty database.
    await runCommands(await browser.newPage(), server, folder);
    for (const [width, height] of [[390, 844], [1280, 800]]) {
        for (const colorScheme of ["light", "dark"]) {
            console.log(`-- ${width}x${height}, ${colorScheme}`);
            const open = async (options) => {
                const viewport = { width, height };
                const context = await browser.newContext({ viewport, colorScheme, ...options });
                return context.newPage();
            };
            await lookWithoutScript(await open({ javaScriptEnabled: false }), server);
            const page = await open();
            await lookAtPage(page, server);
            await tryForms(page, server, folder);
        }
    }
} finally {
    await browser.close();
    await server.stop();
    rmSync(folder, { recursive: true });
}
console.log("the page /docs passed");
