"""The web page: static files of the package, read once at start and served with ETags."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
ALIASES = {"/": "index.html", "/docs": "docs.html", "/share": "index.html"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def install(app: FastAPI) -> None:
    """Add a route for every file of the page, and for `ALIASES`."""
    files = {
        path.relative_to(STATIC).as_posix(): _read(path)
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }
    routes = {f"/{name}": file for name, file in files.items()}
    routes |= {alias: files[name] for alias, name in ALIASES.items() if name in files}

    async def send(request: Request) -> Response:
        file = routes[request.url.path]
        return with_etag(request, file.content, file.media_type, file.etag)

    for path in routes:
        app.add_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)


def with_etag(request: Request, content: bytes, media_type: str, etag: str) -> Response:
    """A file, or 304 if the client's cached copy has this ETag.

    Weak tags (`W/`) match, too: a proxy that compresses makes them of ours.
    """
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    cached = request.headers.get("if-none-match", "").split(",")
    if {one.strip().removeprefix("W/") for one in cached} & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _File(content, MEDIA_TYPES[path.suffix], f'"{digest}"')
