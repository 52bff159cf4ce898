import { createServer, request } from "node:http";
import { buildSync } from "esbuild";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../../src/index.ts", import.meta.url));
const bundle = buildSync({ entryPoints: [source], bundle: true, format: "esm", write: false }).outputFiles[0].contents;
const page = "<!doctype html><title>test</title><script type=module>window.bipedalnet = await import('/bundle.js')</script>";

/**
 * A web site with a page that has the package as `bipedalnet`, in front of the service and its page.
 *
 * `fault(request)` says what the network does to each request for the service:
 * - `pass`, or nothing: it works
 * - `cut`: the connection ends before the request arrives
 * - `cut-answer`: the service answers, but the connection ends
 * - `double`: the request arrives twice at the same time; one of the answers comes back
 * - a promise: as what it resolves to, at that time
 * - `{ answerAfter }`: the service answers, but the answer comes when this promise resolves
 */
export async function startSite(serviceUrl, fault = () => "pass") {
  const site = { fault, requests: [] };
  const server = createServer((incoming, outgoing) => {
    if (!/^\/(v1|phone)\b/.test(incoming.url)) {
      const isBundle = incoming.url === "/bundle.js";
      outgoing.setHeader("content-type", isBundle ? "text/javascript" : "text/html");
      return outgoing.end(isBundle ? bundle : page);
    }
    const chunks = [];
    incoming.on("data", (chunk) => chunks.push(chunk));
    incoming.on("end", () => forward(incoming, Buffer.concat(chunks), outgoing).catch(() => outgoing.destroy()));
  });

  async function forward(incoming, body, outgoing) {
    const { method, url, headers } = incoming;
    const isPage = url.startsWith("/phone");
    if (!isPage) site.requests.push({ method, url, headers, body });
    const what = isPage ? "pass" : await site.fault({ method, url, headers, number: site.requests.length });
    const once = () => send(serviceUrl, { method, url, headers, body });
    if (what === "cut") return outgoing.destroy();
    const answers = what === "double" ? await Promise.all([once(), once()]) : [await once()];
    await what?.answerAfter;
    if (what === "cut-answer") return outgoing.destroy();
    const { status, headers: answered, bytes } = answers[site.requests.length % answers.length];
    outgoing.writeHead(status, answered);
    outgoing.end(bytes);
  }

  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  site.url = `http://127.0.0.1:${server.address().port}`;
  site.stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return site;
}

function send(serviceUrl, { method, url, headers, body }) {
  const { hostname, port } = new URL(serviceUrl);
  return new Promise((resolve, reject) => {
    const outgoing = request({ hostname, port, method, path: url, headers: { ...headers, host: `${hostname}:${port}` } });
    outgoing.on("error", reject);
    outgoing.on("response", (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, bytes: Buffer.concat(chunks) }));
    });
    outgoing.end(body);
  });
}
