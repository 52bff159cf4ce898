// Runs every curl line of the page in an order that works.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

const COLLECTIONS = ["put_collection", "get_collection", "list_collections", "delete_collection"];
const USERS = ["put_user", "create_token", "enroll", "get_user", "get_template", "list_users"];
const LISTS = ["list_enrollments", "export_user", "list_audit_entries"];
const WALKS = ["identify", "create_challenge", "verify", "batch", "list_locks", "release_user"];
const JOBS = ["post_training_job", "cancel_training_job", "follow_training_job", "get_training_job", "list_training_jobs"];
const MODELS = ["list_models", "get_model", "get_model_file", "activate_model", "delete_model"];
const OTHERS = ["livez", "readyz", "erase_enrollment", "erase_user"];
const ORDER = [...COLLECTIONS, ...USERS, ...LISTS, ...WALKS, ...JOBS, ...MODELS, ...OTHERS];

/** What the responses of some say. */
const ANSWERS = {
    enroll: '"status":"ready"',
    identify: '"decision":"identified","user":"ann"',
    verify: '"decision":"accept"',
    batch: '"decision":"accept"',
    create_token: '"token":"bpu_',
    livez: "live",
};

export async function runCommands(page, server, folder) {
    await page.goto(`${server.url}/docs`);
    const sections = await page.locator("section").evaluateAll((all) =>
        all.map((section) => [section.id, section.querySelector(".shell code").textContent]),
    );
    const commands = Object.fromEntries(sections);
    assert.deepEqual(Object.keys(commands).sort(), [...ORDER].sort());
    for (const id of ORDER) {
        let command = commands[id];
        if (id === "delete_model") {
            // The example is the shipped model, which cannot be deleted.
            assert.throws(() => run(command, server.key, folder), /model-in-use/);
            command = command.replace(/models\/[0-9a-f]{16}/, `models/${await trainModel(server)}`);
        }
        const answer = run(command, server.key, folder);
        assert.ok(answer.includes(ANSWERS[id] ?? ""), `${id}: ${answer}`);
    }
}

/** Runs a command as it is, but lets curl fail if the server refuses the request. */
function run(command, key, folder) {
    const strict = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }';
    try {
        const options = { cwd: folder, env: { ...process.env, key }, encoding: "utf8", stdio: "pipe" };
        return execFileSync("bash", ["-euc", `${strict}\n${command}`], options);
    } catch (error) {
        throw new Error(`${command}\n${error.stderr}${error.stdout}`);
    }
}

/** The id of a new model. */
async function trainModel({ url, key }) {
    const call = async (method, path, body) => {
        const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
        const response = await fetch(url + path, { method, headers, body });
        assert.ok(response.ok, `${path}: ${response.status}`);
        return response;
    };
    const { job } = await (await call("POST", "/v1/training-jobs", '{"scope": "last_layers"}')).json();
    // The events end with the job.
    await (await call("GET", `/v1/training-jobs/${job}/events`)).text();
    const { model } = await (await call("GET", `/v1/training-jobs/${job}`)).json();
    return model;
}
