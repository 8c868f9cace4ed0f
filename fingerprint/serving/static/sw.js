// Service worker: passes files that a phone's share sheet posts to /share on to the page. It caches nothing else.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "POST" && event.request.url === new URL("share", registration.scope).href) {
    event.respondWith(shared(event.request));
  }
});

async function shared(request) {
  const file = (await request.formData()).get("recording");
  if (file) {
    const headers = { "x-name": encodeURIComponent(file.name ?? "shared") };
    await (await caches.open("shared")).put("shared", new Response(file, { headers }));
  }
  return Response.redirect(new URL("./?shared=1", registration.scope), 303);
}
