// A session with the client of openapi-generator's typescript-fetch: typescript_fetch.js URL KEY WALKS...
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
    Configuration,
    EnrollmentsApi,
    RecognitionApi,
    ResponseError,
    UsersApi,
    WalkDocumentFromJSON,
} from "./fetch_client";

const [basePath, accessToken, ...files] = process.argv.slice(2);
const walks = files.map((file) => WalkDocumentFromJSON(JSON.parse(readFileSync(file, "utf8"))));
const user = "made-by-typescript-fetch";
const configuration = new Configuration({ basePath, accessToken });
const users = new UsersApi(configuration);
const enrollments = new EnrollmentsApi(configuration);
const recognition = new RecognitionApi(configuration);

async function main() {
    assert.equal((await users.putUser({ user })).status, "collecting");

    const request = { user, walkDocument: walks[0], idempotencyKey: "typescript-fetch" };
    const enrolled = await enrollments.enroll(request);
    assert.equal(enrolled.status, "ready");
    const retried = await enrollments.enrollRaw(request);
    assert.deepEqual(await retried.value(), enrolled);
    assert.equal(retried.raw.headers.get("idempotency-replayed"), "true");

    assert.equal((await recognition.identify({ walkDocument: walks[1] })).user, user);
    const verified = await recognition.verify({ user, fmr: 0.01, walkDocument: walks[2] });
    assert.equal(verified.decision, "accept");

    await assert.rejects(users.getUser({ user: "nobody" }), (error) => {
        assert.ok(error instanceof ResponseError);
        assert.equal(error.response.status, 404);
        return true;
    });
}

main();
