// Keeps the site's files, so that it answers without a network, and gives them the headers that
// several threads need (cross-origin isolation), whatever the server sends. FILES, {name: SHA-256},
// and RELEASE stand above. A newer release is kept beside, and served once no page shows this one.
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
// Of the scripts that the page starts, which its own policy does not bind: no request to others.
const POLICY = "default-src 'none'; connect-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
  "worker-src 'self'";
const HERE = new URL("./", location.href).href;
const CACHE = `${HERE} ${RELEASE}`;

const added = name =>
  name.endsWith(".js") ? { ...HEADERS, "Content-Security-Policy": POLICY } : HEADERS;
const hex = buffer =>
  Array.from(new Uint8Array(buffer), byte => byte.toString(16).padStart(2, "0")).join("");

async function keep(name) {
  const response = await fetch(name, { cache: "no-cache" });
  const body = await response.arrayBuffer();
  if (hex(await crypto.subtle.digest("SHA-256", body)) !== FILES[name]) {
    throw new Error(`${name} is of another release, or cut short`);
  }
  const type = response.headers.get("Content-Type") ?? "application/octet-stream";
  const kept = new Response(body, { headers: { ...added(name), "Content-Type": type } });
  await (await caches.open(CACHE)).put(name, kept);
}

async function served(name, request) {
  const kept = await (await caches.open(CACHE)).match(name);
  if (kept) return kept;
  const response = await fetch(request); // the browser has made room
  const headers = new Headers(response.headers);
  for (const [key, value] of Object.entries(added(name))) headers.set(key, value);
  return new Response(response.body, { status: response.status, headers });
}

self.addEventListener("install", event => {
  const all = async () => {
    for (const name of Object.keys(FILES)) await keep(name);
  };
  event.waitUntil(all());
});
self.addEventListener("activate", event => {
  const old = names => names.filter(name => name.startsWith(`${HERE} `) && name !== CACHE);
  event.waitUntil(caches.keys().then(names => Promise.all(old(names).map(n => caches.delete(n)))));
});
self.addEventListener("fetch", event => {
  const { href } = new URL(event.request.url);
  if (event.request.method !== "GET" || !href.startsWith(HERE)) return;
  const name = href.slice(HERE.length).replace(/[?#].*/s, "") || "index.html";
  if (Object.hasOwn(FILES, name)) event.respondWith(served(name, event.request));
});
