"""The page, as files of the package: read once, sent as they are."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
KINDS = {
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
ENTRIES = {"/": "index.html", "/docs": "docs.html", "/share": "index.html"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    tag: str


def install(app: FastAPI) -> None:
    """Serve every file of the page under its name, and its entries under theirs."""
    files = {
        path.relative_to(STATIC).as_posix(): _read(path)
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in KINDS
    }
    places = {f"/{name}": file for name, file in files.items()}
    places |= {place: files[name] for place, name in ENTRIES.items() if name in files}

    async def send(request: Request) -> Response:
        file = places[request.url.path]
        return unless_known(request, file.content, file.kind, file.tag)

    for place in places:
        app.add_route(place, send, methods=["GET", "HEAD"], include_in_schema=False)


def unless_known(request: Request, content: bytes, kind: str, tag: str) -> Response:
    """A file, or 304 where the client has it as `tag`; a proxy may have made that a weak one."""
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "").split(",")
    if {one.strip().removeprefix("W/") for one in known} & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _File(content, KINDS[path.suffix], f'"{digest}"')
