import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import test from "node:test";
import { buildSync } from "esbuild";

const folder = fileURLToPath(new URL("..", import.meta.url));

/** A page's script, minified. */
function bundled(contents) {
  const stdin = { contents, resolveDir: folder };
  return buildSync({ stdin, bundle: true, minify: true, format: "esm", write: false, logLevel: "error" }).outputFiles[0].contents;
}

test("the whole package has less than 15 KB, compressed", () => {
  const bytes = gzipSync(bundled('export * from "bipedalnet"'), { level: 9 }).length;
  assert.ok(bytes > 4000 && bytes < 15_000, `${bytes} bytes`);
});

test("what a page does not import is left out", () => {
  const client = Buffer.from(bundled('import { Client } from "bipedalnet"; console.log(Client)')).toString();
  assert.ok(client.includes("idempotency-key"));
  assert.ok(!client.includes("indexedDB") && !client.includes("devicemotion"));
  const nothing = Buffer.from(bundled('import "bipedalnet"')).toString();
  assert.equal(nothing, "");
});

test("there are no dependencies", () => {
  const { dependencies, sideEffects, type } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  assert.deepEqual([dependencies, sideEffects, type], [undefined, false, "module"]);
});

test("the examples of the README compile", () => {
  const readme = readFileSync(join(folder, "README.md"), "utf8");
  const examples = [...readme.matchAll(/```ts\n([^]*?)```/g)].map(([, code]) => code);
  assert.ok(examples.length >= 2);
  const place = mkdtempSync(join(folder, "dist", "readme-"));
  try {
    const files = examples.map((code, at) => {
      const file = join(place, `example${at}.ts`);
      writeFileSync(file, code);
      return file;
    });
    const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"];
    execFileSync(join(folder, "node_modules/.bin/tsc"), [...options, ...files], { cwd: folder, stdio: "pipe" });
  } catch (error) {
    assert.fail(String(error.stdout));
  } finally {
    rmSync(place, { recursive: true });
  }
});
