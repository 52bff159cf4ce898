import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The program under test. */
export const program =
  process.env.BIPEDALNET_PROGRAM ?? fileURLToPath(new URL("../../../../target/debug/bipedalnet", import.meta.url));

const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("BIPEDALNET_")));

/** Starts the service on a free port. `scopes` makes an API key first, so that requests need one. */
export async function startService({ scopes, options = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "bipedalnet-js-"));
  const database = join(folder, "test.db");
  const key =
    scopes &&
    execFileSync(program, ["keys", "--database", database, "create", "--name", "test", "--scopes", scopes], {
      env: environment,
    }).toString().trim();
  const all = ["--listen", "127.0.0.1:0", "--database", database, "--metrics-listen", "", ...options];
  const process = spawn(program, ["serve", ...all], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
  const exited = new Promise((resolve) => process.once("exit", resolve));
  const url = await new Promise((resolve, reject) => {
    let log = "";
    const lines = createInterface(process.stderr);
    lines.on("line", (line) => {
      log += line + "\n";
      const [, address] = line.match(/address=(127[0-9.:]*)/) ?? [];
      if (address) resolve(`http://${address}`);
    });
    lines.on("close", () => reject(new Error(log)));
  });
  return {
    url,
    key,
    /** Calls the service as its operator. */
    async call(method, path, body) {
      const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
      const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
      const text = await response.text();
      return text === "" ? null : JSON.parse(text);
    },
    async stop() {
      process.kill();
      await exited;
      rmSync(folder, { recursive: true });
    },
  };
}
