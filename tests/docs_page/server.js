// A server with a database and a key of its own.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const SCOPES = "identify,enroll,template,train,erase,admin,scores";

/** Starts a server that listens at a free port. */
export async function startServer(program, folder) {
    const database = ["--database", join(folder, "docs.db")];
    const create = ["keys", "create", ...database, "--name", "docs", "--scopes", SCOPES];
    const key = execFileSync(program, create, { encoding: "utf8", stdio: "pipe" }).trim();
    const addresses = ["--listen", "127.0.0.1:0", "--metrics-listen", ""];
    // For training, and for devices.
    const days = ["--keep-recordings-days", "1", "--device-template-days", "1"];
    const child = spawn(program, ["serve", ...database, ...addresses, ...days], { stdio: ["ignore", "ignore", "pipe"] });
    const ended = once(child, "exit");
    const url = await addressIn(child);
    const stop = async () => {
        child.kill();
        await ended;
    };
    return { url, key, stop };
}

async function addressIn(child) {
    const seen = [];
    const lines = createInterface({ input: child.stderr });
    for await (const line of lines) {
        seen.push(line);
        const [, address] = line.match(/address=([0-9.:]+)/) ?? [];
        if (address) {
            child.stderr.resume();
            return `http://${address}`;
        }
    }
    throw new Error(`the server did not start:\n${seen.join("\n")}`);
}
