import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { after, before, test } from "node:test";
import { buildSync } from "esbuild";
import { startBrowser } from "./support/browser.js";
import { data, withoutData } from "./support/walks.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const model = readFileSync(join(root, "models/bipedalnet-openset.safetensors"));
const committed = readFileSync(join(root, "clients/js/wasm/bipedalnet.wasm"));
/** What `crates/wasm/build.sh` just built, if it did. */
const fresh = process.env.BIPEDALNET_WASM ? readFileSync(process.env.BIPEDALNET_WASM) : null;
const files = [
  { name: "the committed file", wasm: committed, skip: false },
  { name: "a fresh build", wasm: fresh, skip: fresh ? false : "BIPEDALNET_WASM names no fresh build" },
];

const source = fileURLToPath(new URL("support/reference.js", import.meta.url));
const options = { entryPoints: [source], bundle: true, format: "esm", write: false };
const script = Buffer.from(buildSync(options).outputFiles[0].contents);
const { compare } = await import("data:text/javascript;base64," + script.toString("base64"));

/** What native code says about simulated and, if they are there, real recordings. */
let simulated;
let real;
before(() => {
  const program = process.env.BIPEDALNET_REFERENCE ?? join(root, "target/debug/examples/reference");
  const run = (...options) =>
    execFileSync(program, options, { cwd: root, maxBuffer: 1 << 30, encoding: "utf8" });
  simulated = run("1000");
  const sets = withoutData ? [] : readdirSync(data).filter((name) => !name.includes("."));
  real = sets.map((set) => run("0", join(data, set)));
});

let browser;
let server;
before(async () => {
  browser = await startBrowser();
  const pages = { "/": ["text/html", "<!doctype html>"], "/script.js": ["text/javascript", script] };
  server = createServer(({ url }, response) => {
    const [type, body] = pages[url] ?? ["application/octet-stream", server.blobs.get(url)];
    response.setHeader("content-type", type);
    response.end(body);
  });
  server.blobs = new Map([["/model", model]]);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(async () => {
  await browser.close();
  server.close();
});

async function inChromium(wasm, _, reference) {
  server.blobs.set("/wasm", wasm);
  server.blobs.set("/reference", reference);
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const result = await page.evaluate(async () => {
    const { compare } = await import("/script.js");
    const bytes = async (path) => (await fetch(path)).arrayBuffer();
    const reference = await (await fetch("/reference")).text();
    return compare(await bytes("/wasm"), new Uint8Array(await bytes("/model")), reference);
  });
  await page.close();
  return result;
}

function check({ different, ...counts }, recordings) {
  assert.deepEqual(different.slice(0, 3), []);
  assert.equal(counts.recordings, recordings);
  return counts;
}

for (const { name, wasm, skip } of files) {
  test(`${name} gives the bits of native code`, { skip }, async () => {
    for (const run of [compare, inChromium]) {
      const { walks, accepted, windows } = check(await run(wasm, model, simulated), 1000);
      assert.ok(walks > 500 && walks < 800 && accepted > 200, `${walks} walks, ${accepted} accepted`);
      assert.ok(windows > 5000, `${windows} windows`);
    }
  });

  test(`${name} gives the bits of native code for real recordings`, { skip: skip || withoutData }, async () => {
    for (const reference of real) {
      const recordings = reference.trim().split("\n").length - 1;
      for (const run of [compare, inChromium]) {
        const { walks } = check(await run(wasm, model, reference), recordings);
        assert.ok(walks > recordings / 2, `${walks} of ${recordings}`);
      }
    }
  });

  test(`${name} and the model have less than 120 KB, compressed`, { skip }, () => {
    const bytes = (compress) => compress(wasm).length + compress(model).length;
    assert.ok(bytes((file) => gzipSync(file, { level: 9 })) < 120_000, `${bytes(gzipSync)} bytes`);
    assert.ok(bytes(brotliCompressSync) < 110_000, `${bytes(brotliCompressSync)} bytes`);
  });

  test(`${name} names no folder of a machine`, { skip }, () => {
    assert.doesNotMatch(Buffer.from(wasm).toString("latin1"), /\/(root|home|usr|build)\//);
  });
}

test("a damaged model is refused", async () => {
  const damaged = Buffer.from(model);
  damaged[damaged.length - 1] ^= 1;
  await assert.rejects(compare(committed, damaged, '{"templates":[]}'), /the model is damaged/);
});
