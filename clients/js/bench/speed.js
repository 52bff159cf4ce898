// WebAssembly against native code: microseconds for a walk of 10 s and for one window more, the best of several runs.
// Needs a built package (npm run build), and the paths of two programs: bipedalnet, and the example `speed` of
// crates/wasm, both built with --release.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";
import { startBrowser } from "../test/support/browser.js";

const [program, native, file = fileURLToPath(new URL("../wasm/bipedalnet.wasm", import.meta.url))] = process.argv.slice(2);
const root = fileURLToPath(new URL("../../../", import.meta.url));
const model = readFileSync(join(root, "models/bipedalnet-openset.safetensors"));
const wasm = readFileSync(file);
const SECONDS = [10, 110];
const WINDOWS_APART = 100;

const folder = mkdtempSync(join(tmpdir(), "bipedalnet-speed-"));
const files = SECONDS.map((seconds) => {
  const path = join(folder, `${seconds}.json`);
  writeFileSync(path, execFileSync(program, ["simulate", "--seconds", String(seconds), "--no-gyroscope"]));
  return path;
});
const walks = files.map((path) => JSON.parse(readFileSync(path)));

const contents = `
  import { Core } from "../src/core.js";
  export async function times(wasm, model, walks) {
    const core = new Core((await WebAssembly.instantiate(wasm)).instance, model);
    return walks.map((walk) => {
      const repeats = Math.floor(20_000 / walk.acceleration.length);
      let best = Infinity;
      for (let run = 0; run < 10; run++) {
        const begin = performance.now();
        for (let at = 0; at < repeats; at++) core.read(walk);
        best = Math.min(best, ((performance.now() - begin) * 1000) / repeats);
      }
      return best;
    });
  }`;
const stdin = { contents, resolveDir: fileURLToPath(new URL(".", import.meta.url)) };
const script = Buffer.from(buildSync({ stdin, bundle: true, format: "esm", write: false }).outputFiles[0].contents);

async function inNode() {
  const { times } = await import("data:text/javascript;base64," + script.toString("base64"));
  return times(wasm, model, walks);
}

async function inChromium() {
  const pages = { "/": "<!doctype html>", "/script.js": script, "/wasm": wasm, "/model": model, "/walks": JSON.stringify(walks) };
  const server = createServer(({ url }, response) => {
    response.setHeader("content-type", url === "/script.js" ? "text/javascript" : url === "/" ? "text/html" : "application/octet-stream");
    response.end(pages[url]);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await startBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    return await page.evaluate(async () => {
      const { times } = await import("/script.js");
      const bytes = async (path) => (await fetch(path)).arrayBuffer();
      return times(await bytes("/wasm"), new Uint8Array(await bytes("/model")), await (await fetch("/walks")).json());
    });
  } finally {
    await browser.close();
    server.close();
  }
}

function natively(kernels) {
  const [name, ...times] = execFileSync(native, [kernels, ...files], { cwd: root }).toString().trim().split(" ");
  return [`native, ${name}`, times.map(Number)];
}

const results = [natively("best"), natively("portable"), ["Node", await inNode()], ["Chromium", await inChromium()]];
const best = results[0][1];
const window = ([short, long]) => (long - short) / WINDOWS_APART;
console.log("| | a window, µs | ratio | 10 s, µs | ratio |\n|---|--:|--:|--:|--:|");
for (const [name, times] of results) {
  const cells = [window(times), window(times) / window(best), times[0], times[0] / best[0]];
  console.log(`| ${[name, ...cells.map((value) => value.toFixed(1))].join(" | ")} |`);
}
rmSync(folder, { recursive: true });
