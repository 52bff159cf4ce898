// Makes the page of the API interactive: the server's address, buttons to copy, and forms.

for (const place of document.querySelectorAll(".server")) {
    place.textContent = location.origin;
}
if (navigator.clipboard) {
    document.querySelectorAll(".shell").forEach(addCopyButton);
}
const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => reachByKeyboard(target)));
document.querySelectorAll("pre").forEach((block) => widths.observe(block));

// The key stays in the fields: it is neither stored nor sent with anything but the requests.
const keys = [...document.querySelectorAll(".key")];
for (const field of keys) {
    field.addEventListener("input", () => keys.forEach((other) => (other.value = field.value)));
}
const headersShown = [...document.querySelectorAll("#response-headers > li > code")].map((name) => name.textContent);
document.querySelectorAll(".try").forEach(makeForm);

function addCopyButton(block) {
    const button = element("button", "Copy");
    button.type = "button";
    button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    block.append(button);
}

/** Lets the keyboard scroll a block that is larger than its frame. */
function reachByKeyboard(block) {
    if (block.scrollWidth > block.clientWidth || block.scrollHeight > block.clientHeight) {
        block.tabIndex = 0;
    } else {
        block.removeAttribute("tabindex");
    }
}

function makeForm(details) {
    const form = details.querySelector("form");
    const body = form.querySelector("textarea");
    const file = form.querySelector("[type=file]");
    const stop = form.querySelector(".stop");
    let sending = new AbortController();
    details.addEventListener("toggle", () => {
        if (body?.dataset.file && !body.value) {
            loadExample(form, body);
        }
    });
    file?.addEventListener("change", async () => {
        if (file.files.length > 0) {
            body.value = await file.files[0].text();
        }
    });
    stop.addEventListener("click", () => {
        sending.abort();
        form.querySelector("button").focus();
    });
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        const { method } = form.dataset;
        const path = pathOf(form);
        if (method === "DELETE" && !confirm(`Send DELETE ${path}?\n\nThis cannot be undone.`)) {
            return;
        }
        sending.abort();
        const current = (sending = new AbortController());
        stop.hidden = false;
        try {
            await send(form, method, path, current.signal);
        } catch (error) {
            if (current === sending) {
                say(form, current.signal.aborted ? "Stopped." : `No response: ${error.message}.`, true);
            }
        }
        if (current === sending) {
            stop.hidden = true;
        }
    });
    details.hidden = false;
}

async function loadExample(form, body) {
    const response = await fetch(body.dataset.file).catch(() => null);
    if (response?.ok) {
        body.value ||= await response.text();
    } else {
        say(form, "The example of a body cannot be loaded.", true);
    }
}

function fieldsIn(form, place) {
    return [...form.querySelectorAll(`[data-in=${place}]`)].filter((field) => field.value !== "");
}

function pathOf(form) {
    let path = form.dataset.path;
    for (const { name, value } of fieldsIn(form, "path")) {
        path = path.replace(`{${name}}`, () => encodeURIComponent(value));
    }
    const query = new URLSearchParams(fieldsIn(form, "query").map(({ name, value }) => [name, value]));
    return query.size > 0 ? `${path}?${query}` : path;
}

async function send(form, method, path, signal) {
    const [list, block] = form.querySelectorAll("dl, output ~ pre");
    say(form, "Waiting for the response.", false);
    list.hidden = block.hidden = true;
    block.textContent = "";
    const headers = new Headers(fieldsIn(form, "header").map(({ name, value }) => [name, value]));
    const key = form.querySelector(".key")?.value.trim();
    if (key) {
        headers.set("Authorization", `Bearer ${key}`);
    }
    const body = form.querySelector("textarea")?.value || undefined;
    if (body) {
        headers.set("Content-Type", "application/json");
    }
    const start = performance.now();
    const options = { method, headers, body, signal, cache: "no-store", credentials: "omit" };
    const response = await fetch(path, options);
    const status = `${response.status} ${response.statusText}`.trim();
    const type = response.headers.get("content-type") ?? "";
    list.replaceChildren(...rows(response.headers));
    list.hidden = list.childElementCount === 0;
    if (type === "application/octet-stream") {
        block.textContent = `${(await response.blob()).size} bytes`;
    } else if (response.body) {
        block.hidden = false;
        await append(response.body, block);
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    const document = type.endsWith("json") ? JSON.parse(block.textContent) : null;
    if (document) {
        block.textContent = layout(document);
    }
    block.hidden = block.textContent === "";
    reachByKeyboard(block);
    const { field, detail } = response.ok ? {} : (document ?? {});
    const reason = [field, detail].filter(Boolean).join(": ");
    say(form, `${status} after ${seconds} s\n${reason}`.trim(), !response.ok);
}

function say(form, words, isError) {
    const output = form.querySelector("output");
    output.textContent = words;
    output.classList.toggle("error", isError);
}

/** Appends text as it comes, because a stream of events may not end. */
async function append(stream, block) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
        block.append(part.value);
    }
}

/** The headers that the page describes. */
function rows(headers) {
    const shown = ["Content-Type", ...headersShown].filter((name) => headers.has(name));
    return shown.flatMap((name) => [element("dt", name), element("dd", headers.get(name))]);
}

/** JSON with each list of plain values on one line. */
function layout(document) {
    const text = JSON.stringify(document, null, 2);
    return text.replace(/\[\n\s+([^[\]{}]*?)\n\s+\]/g, (_, items) => `[${items.replace(/\n\s+/g, " ")}]`);
}

function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
}
