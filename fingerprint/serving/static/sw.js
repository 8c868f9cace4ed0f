// Takes what a phone's share sheet posts to /share, and hands it to the page. It caches nothing else.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "POST" && url.origin === location.origin && url.pathname === "/share") {
    event.respondWith(shared(event.request));
  }
});

async function shared(request) {
  const file = (await request.formData()).get("recording");
  if (file) {
    const headers = { "x-name": encodeURIComponent(file.name ?? "shared") };
    await (await caches.open("shared")).put("/shared", new Response(file, { headers }));
  }
  return Response.redirect("/?shared=1", 303);
}
