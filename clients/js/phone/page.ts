import type { Finding, Recording, Status, Waiting } from "../src/index.js";
import { Problem, Recorder } from "../src/index.js";
import type { Account } from "./account.js";
import { forgetAccount, rememberAccount, rememberedAccount, userOf } from "./account.js";
import { element, say } from "./elements.js";
import { Plot } from "./plot.js";
import { Sender } from "./sender.js";
import type { Outcome } from "./sender.js";
import { advice, delayed, failure, progressText, PURPOSES } from "./wording.js";
import type { Purpose, Told } from "./wording.js";

const form = element<HTMLFormElement>("account-form");
const userField = element<HTMLInputElement>("user");
const tokenField = element<HTMLInputElement>("token");
const recordButton = element<HTMLButtonElement>("record");
const purposes = element<HTMLFieldSetElement>("purposes");
const plot = new Plot(element<HTMLCanvasElement>("plot"));

const SENDING = "Sending";
const WAITING = "Waiting to be sent";

let sender: Sender | null = null;
let recorder: Recorder | null = null;

function use(account: Account): void {
  sender?.queue.close();
  userField.value = account.user;
  tokenField.value = account.token;
  element<HTMLDetailsElement>("account").open = false;
  say("account-summary", account.user);
  sender = new Sender(account, tell);
  const { client, queue, device } = sender;
  client.on("progress", (progress) => {
    element<HTMLProgressElement>("progress").value = progress.percent;
    say("progress-text", progressText(progress));
  });
  queue.on("changed", () => void showQueue());
  queue.on("delayed", (delay) => {
    say("queue-text", `${waitingText(shown)}. ${delayed(delay)}`);
    if (element("answer-text").textContent === SENDING) say("answer-text", WAITING);
    if (delay.problem?.status === 401) element<HTMLDetailsElement>("account").open = true;
  });
  void showQueue();
  void queue.start();
  void showProgress(account.user);
  void device.prepare();
}

function useRemembered(): void {
  const account = rememberedAccount();
  if (account !== null) use(account);
}

async function showProgress(user: string): Promise<void> {
  element<HTMLProgressElement>("progress").value = 0;
  say("progress-text", "Not known yet");
  try {
    await sender!.client.user(user);
  } catch (error) {
    const isNew = error instanceof Problem && error.code === "unknown-user";
    say("progress-text", isNew ? "Not enrolled yet" : failure(error).text);
  }
}

let shown = 0;

async function showQueue(): Promise<void> {
  // A browser may allow no storage. Then nothing waits.
  const waiting = await sender!.queue.waiting().catch(() => []);
  if (waiting.length !== shown || waiting.length === 0) say("queue-text", waitingText(waiting.length));
  shown = waiting.length;
  element("queue-list").replaceChildren(...waiting.map(queueItem));
  element("flush").hidden = waiting.length === 0;
}

function queueItem({ purpose, addedMs, bytes }: Waiting): HTMLLIElement {
  const item = document.createElement("li");
  const time = new Date(addedMs).toLocaleTimeString([], { timeStyle: "short" });
  item.textContent = `${purpose === "enroll" ? "Enroll" : "Verify"}, ${time}, ${(bytes / 1000).toFixed(1)} KB`;
  return item;
}

function waitingText(count: number): string {
  return count === 0 ? "No walk waits" : `${count} ${count === 1 ? "walk waits" : "walks wait"}`;
}

function tell({ told, path }: Outcome): void {
  show(told, path);
}

function show({ mood, text, detail }: Told, path = ""): void {
  const card = element("answer");
  card.hidden = false;
  card.dataset.mood = mood;
  say("answer-text", text);
  say("answer-detail", detail);
  say("answer-path", path);
  card.scrollIntoView({ block: "nearest" });
}

function purpose(): Purpose {
  return document.querySelector<HTMLInputElement>("[name=purpose]:checked")!.value as Purpose;
}

function showPurpose(): void {
  const { seconds, text } = PURPOSES[purpose()];
  say("purpose-text", text);
  say("wanted", String(seconds));
}

function showFinding(finding: Finding | null): void {
  say("finding", finding ? advice(finding) : "");
  element("finding").toggleAttribute("data-blocks", finding?.blocks ?? false);
}

function showStatus({ seconds, rateHz, finding }: Status): void {
  say("seconds", seconds.toFixed(1));
  say("rate", `${rateHz.toFixed(0)} Hz`);
  showFinding(finding?.reason === "too-short" ? null : finding);
}

async function record({ device }: Sender): Promise<Recording> {
  recorder = new Recorder({ seconds: PURPOSES[purpose()].seconds, check: device.check });
  recorder.on("started", () => say("finding", "Put the phone in your pocket, and walk."));
  recorder.on("sample", (sample) => plot.add(sample));
  recorder.on("status", showStatus);
  recorder.on("ended", (ending) => ending === "complete" && say("seconds", element("wanted").textContent!));
  recorder.on("paused", () => say("finding", "Paused, because the page is hidden."));
  plot.clear();
  say("seconds", "0.0");
  purposes.disabled = true;
  recordButton.textContent = "Stop";
  recordButton.dataset.recording = "";
  try {
    return await recorder.record();
  } finally {
    recorder = null;
    purposes.disabled = false;
    recordButton.textContent = "Start";
    delete recordButton.dataset.recording;
    say("finding", "");
    navigator.vibrate?.(300);
  }
}

async function recordAndSend(): Promise<void> {
  if (sender === null) {
    element<HTMLDetailsElement>("account").open = true;
    return form.requestSubmit();
  }
  try {
    const walk = await record(sender);
    const chosen = purpose();
    show({ mood: "neutral", text: navigator.onLine ? SENDING : WAITING, detail: keptText(chosen) });
    const outcome = await sender.send(chosen, walk);
    if (outcome) tell(outcome);
  } catch (error) {
    show(failure(error));
  }
}

function keptText(chosen: Purpose): string {
  return chosen === "identify" ? "" : "The walk is kept on this phone until the service has it.";
}

async function erase(): Promise<void> {
  const user = userField.value;
  const { client, queue, device } = sender!;
  await queue.forget(user);
  await device.forget();
  try {
    await client.deleteUser(user);
  } catch (error) {
    if (!(error instanceof Problem && error.code === "unknown-user")) {
      const { text, detail } = failure(error);
      return say("erase-text", `What waited on this phone is deleted. The service did not delete its data: ${text}. ${detail}`);
    }
  }
  forgetAccount();
  element("answer").hidden = true;
  element<HTMLProgressElement>("progress").value = 0;
  say("progress-text", "Not enrolled yet");
  say("erase-text", `Everything about ${user} is deleted.`);
}

function showNetwork(): void {
  say("network", navigator.onLine ? "" : "Offline");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const account = { user: userField.value, token: tokenField.value.trim() };
  rememberAccount(account);
  use(account);
});
tokenField.addEventListener("change", () => {
  userField.value ||= userOf(tokenField.value.trim()) ?? "";
});
purposes.addEventListener("change", showPurpose);
recordButton.addEventListener("click", () => (recorder === null ? void recordAndSend() : recorder.stop()));
element("flush").addEventListener("click", () => void sender?.queue.flush());
const dialog = element<HTMLDialogElement>("erase-dialog");
element("erase").addEventListener("click", () => {
  if (sender === null) return form.requestSubmit();
  say("erase-user", userField.value);
  dialog.returnValue = "keep";
  dialog.showModal();
});
dialog.addEventListener("close", () => void (dialog.returnValue === "delete" && erase()));
// A link with another token was opened in the same tab.
addEventListener("hashchange", useRemembered);
addEventListener("online", showNetwork);
addEventListener("offline", showNetwork);

showNetwork();
showPurpose();
useRemembered();
// A browser refuses it if the certificate is self-signed. The page then needs a network.
navigator.serviceWorker?.register("/phone/worker.js", { scope: "/phone" }).catch(() => undefined);
