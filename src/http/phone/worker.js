// Keeps the files of the page, so that it opens without a network. A new version replaces all at once.
const CACHE = "bipedalnet-phone-VERSION";
const FILES = ["/phone", "/phone/style.css", "/phone/page.js", "/phone/manifest.json", "/phone/icon.svg", "/phone/bipedalnet.wasm"];

addEventListener("install", (event) => {
  const fresh = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const isOld = (name) => name.startsWith("bipedalnet-phone-") && name !== CACHE;
  const removed = caches.keys().then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name))));
  event.waitUntil(removed.then(() => clients.claim()));
});

// Requests to the API never come here.
addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== location.origin || !FILES.includes(pathname)) return;
  const kept = caches.open(CACHE).then((cache) => cache.match(pathname));
  event.respondWith(kept.then((response) => response ?? fetch(event.request)));
});
