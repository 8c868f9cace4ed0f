// The library: search, and with the token uploading and removing tracks.
import { $, about, clock, cover, el, problemOf, shortened, titleOf } from "./dom.js";
import { t } from "./texts.js";

let cursor = 0, asked = 0;

export function clear() { asked++; $("tracks").replaceChildren(); }

export async function search(more = false) {
  const own = ++asked;
  const query = new URLSearchParams({ q: $("q").value, limit: 30, cursor: more ? cursor : 0 });
  const response = await fetch(`v1/tracks?${query}`).catch(() => null);
  if (own !== asked) return;
  if (!response?.ok) { $("found").textContent = response ? await problemOf(response) : t("no_server"); return; }
  const page = await response.json();
  cursor = page.cursor;
  const rows = page.tracks.map(row);
  if (more) $("tracks").append(...rows); else $("tracks").replaceChildren(...rows);
  $("more").hidden = cursor === null;
  $("found").textContent = $("tracks").children.length ? t("found", { count: $("tracks").children.length }) : t("none");
  if (more && rows.length) rows[0].focus();
}

function row(track) {
  const name = titleOf(track);
  const remove = el("button", { type: "button", className: "plain", "aria-label": t("remove_name", { name }) }, t("remove"));
  const item = el("li", { tabIndex: -1 }, cover(track, 48),
    el("div", {}, name, el("small", {}, about(track.artist, track.album, clock(track.duration)))), remove);
  remove.addEventListener("click", async () => {
    if (!confirm(t("sure_remove", { name }))) return;
    const response = await fetch(`v1/tracks/${track.id}`, { method: "DELETE", headers: authorisation() }).catch(() => null);
    if (response?.ok) item.remove();
    $("found").textContent = response?.ok ? t("removed", { name })
      : t("failed", { name, why: response ? await problemOf(response) : t("no_server") });
  });
  return item;
}

const authorisation = () => ($("token").value ? { Authorization: `Bearer ${$("token").value}` } : {});

export async function upload(files) {
  for (const file of files) {
    const line = el("li", {}, t("uploading", { name: file.name }));
    $("uploads").append(line);
    const response = await fetch(`v1/tracks?name=${encodeURIComponent(shortened(file.name))}`, {
      method: "POST", body: file, headers: { "Content-Type": "application/octet-stream", ...authorisation() },
    }).catch(() => null);
    const key = response?.status === 201 ? "uploaded" : response?.status === 409 ? "known" : "failed";
    const why = key !== "failed" ? "" : response ? await problemOf(response) : t("no_server");
    line.textContent = t(key, { name: file.name, why });
  }
  await search();
}
