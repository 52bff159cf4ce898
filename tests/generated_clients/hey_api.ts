// A session with the client that @hey-api/openapi-ts generates: hey_api.js URL KEY WALKS...
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { client } from "./hey_api_client/client.gen";
import { enroll, getUser, identify, putUser, verify } from "./hey_api_client/sdk.gen";

const [baseUrl, auth, ...files] = process.argv.slice(2);
const [first, second, third] = files.map((file) => JSON.parse(readFileSync(file, "utf8")));
const user = "made-by-hey-api";
client.setConfig({ baseUrl, auth });

async function main() {
    const created = await putUser({ path: { user } });
    assert.equal(created.data?.status, "collecting");

    const request = { path: { user }, body: first, headers: { "Idempotency-Key": "hey-api" } };
    const enrolled = await enroll(request);
    assert.equal(enrolled.data?.status, "ready");
    const retried = await enroll(request);
    assert.deepEqual(retried.data, enrolled.data);
    assert.equal(retried.response?.headers.get("idempotency-replayed"), "true");

    const identified = await identify({ body: second });
    assert.equal(identified.data?.user, user);
    const verified = await verify({ path: { user }, query: { fmr: 0.01 }, body: third });
    assert.equal(verified.data?.decision, "accept");

    const missing = await getUser({ path: { user: "nobody" } });
    assert.equal(missing.response?.status, 404);
    assert.equal(missing.error?.type, "urn:bipedalnet:problem:unknown-user");
}

main();
