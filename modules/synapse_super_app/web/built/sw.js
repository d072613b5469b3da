// The service worker of the app: the app opens without a connection too, and says that there is none.
//
// It keeps the document as it came last and files whose names hold the hash of their content. What people have is never
// kept: questions to the homeserver pass it by.

const DOCUMENT = "superapp-document";
const ASSETS = "superapp-assets";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  const assets = new URL("./assets/", location.href).pathname;
  if (request.mode === "navigate") event.respondWith(document(request));
  else if (url.pathname.startsWith(assets)) event.respondWith(asset(request));
});

/** The newest that can be had. */
async function document(request) {
  const kept = await caches.open(DOCUMENT);
  // Without what a sign-in may have brought along in the address.
  const address = request.url.split(/[?#]/)[0];
  try {
    const response = await fetch(request);
    // A full disk keeps nothing, and nobody from the page.
    if (response.ok) await keep(kept, address, response.clone()).catch(() => undefined);
    return response;
  } catch (thrown) {
    const found = await kept.match(address);
    if (found === undefined) throw thrown;
    return found;
  }
}

/** With another document come other files; those of the former one are not needed any more. */
async function keep(kept, address, response) {
  const before = await kept.match(address);
  const text = await response.clone().text();
  if (before !== undefined && (await before.text()) !== text) await caches.delete(ASSETS);
  await kept.put(address, response);
}

async function asset(request) {
  const kept = await caches.open(ASSETS);
  const found = await kept.match(request);
  if (found !== undefined) return found;
  const response = await fetch(request);
  if (response.ok) await kept.put(request, response.clone()).catch(() => undefined);
  return response;
}
