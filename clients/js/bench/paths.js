// Bytes over the network and milliseconds to a decision for each path of `Device`: walks of 10 s, at once and with
// a round trip of 100 ms. Needs a built package (npm run build), and the path of bipedalnet, built with --release.
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

process.env.BIPEDALNET_PROGRAM ??= process.argv[2];
const { Client, Device } = await import("../dist/index.js");
const { startService } = await import("../test/support/service.js");
const { simulated } = await import("../test/support/walks.js");

const WALKS = 20;
const wasm = new Uint8Array(readFileSync(new URL("../wasm/bipedalnet.wasm", import.meta.url)));
const service = await startService({ options: ["--device-template-days", "30"] });
await new Client({ url: service.url }).enroll("ann", simulated(1, 1, 40), { createUser: true });

/** A network in front of the service that counts bytes and takes its time. */
const bytes = { sent: 0, received: 0 };
let delayMs = 0;
const { hostname, port } = new URL(service.url);
const network = createServer((phone) => {
  const server = connect(Number(port), hostname);
  const forward = (from, to, way) =>
    from.on("data", async (chunk) => {
      bytes[way] += chunk.length;
      await pause(delayMs);
      to.write(chunk);
    });
  forward(phone, server, "sent");
  forward(server, phone, "received");
  for (const [one, other] of [[phone, server], [server, phone]]) {
    one.on("close", () => other.destroy());
    one.on("error", () => other.destroy());
  }
});
await new Promise((resolve) => network.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${network.address().port}`;
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

console.log("| path | bytes sent | bytes received | ms | ms, round trip of 100 ms |\n|---|--:|--:|--:|--:|");
let number = 2;
for (const path of ["device", "features", "recording", "recording without gyroscope"]) {
  const device = new Device(new Client({ url }), "ann", { wasm, paths: [path.split(" ")[0]] });
  const before = { ...bytes };
  await device.prepare();
  const preparing = bytes.received - before.received;
  const walk = () => {
    const { angularRate, ...rest } = simulated(1, number++);
    return path.includes("without") ? rest : { ...rest, angularRate };
  };
  await device.verify(walk());
  const rows = { sent: [], received: [], 0: [], 50: [] };
  for (delayMs of [0, 50]) {
    for (let at = 0; at < WALKS; at++) {
      const recording = walk();
      const counted = { ...bytes };
      const begin = performance.now();
      await device.verify(recording);
      rows[delayMs].push(performance.now() - begin);
      for (const way of ["sent", "received"]) rows[way].push(bytes[way] - counted[way]);
    }
  }
  delayMs = 0;
  const cells = [median(rows.sent), median(rows.received), median(rows[0]).toFixed(1), median(rows[50]).toFixed(1)];
  console.log(`| ${[path, ...cells].join(" | ")} |${preparing > 0 ? ` once, to prepare: ${preparing} bytes` : ""}`);
}
network.close();
await service.stop();
