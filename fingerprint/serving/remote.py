"""The client: a library on a server, with the interface of a local one.

Fingerprints are computed on this machine, and only they are sent; no audio is.
"""

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from fingerprint import __version__
from fingerprint.audio.files import without_password
from fingerprint.audio.objects import path_of, spelled
from fingerprint.errors import LibraryError
from fingerprint.library.embedding import Recording
from fingerprint.library.library import Embedder
from fingerprint.recognition.recognise import Result, Speeds, query_part
from fingerprint.recognition.signal_check import nothing_in
from fingerprint.search import SearchConfig
from fingerprint.serving import recordings, wire
from fingerprint.types import Clip, Fingerprint, Match, Tags, Track

TIMEOUT = 30.0  # s for a connection, and for each response
ATTEMPTS = 4  # of a request that may be repeated
PAUSE = 0.5  # s before the second attempt; it doubles with each further one
LONGEST_PAUSE = 10.0  # s, whatever Retry-After says
ROUNDS = 8  # in which a server may request the query at further speeds
UNAUTHORISED, CONFLICT = 401, 409
UNUSABLE = (413, 422)  # statuses for a body that the server cannot use, whoever sends it
RETRY_STATUSES = (429, 502, 503, 504)
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")  # errors of OpenSSL
MAX_BYTES = 256 << 20  # of a response


class Connection:
    """HTTP requests to one server, over one persistent connection."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """Raises LibraryError if it is not the address of a server."""
        parts = urlsplit(address)
        self.name = without_password(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LibraryError(f"{self.name} is no address of a server: as in https://host:8765")
        try:
            port = parts.port
        except ValueError as error:
            raise LibraryError(f"{self.name} is no address of a server: {error}") from error
        self._path, self._token = parts.path.rstrip("/"), token
        if parts.scheme == "https":
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=TIMEOUT, context=ssl.create_default_context()
            )
        else:
            self._http = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT)

    def close(self) -> None:
        self._http.close()

    def json(self, route: str, **query: object) -> Any:
        """GET an object."""
        return self._parsed(self.request("GET", f"{route}?{urlencode(query)}" if query else route))

    def post(self, route: str, body: bytes, media_type: str, **query: object) -> Any:
        """POST a query, which changes nothing on the server, and get an object."""
        return self._parsed(self.request("POST", f"{route}?{urlencode(query)}", body, media_type))

    def request(
        self, method: str, path: str, body: bytes | None = None, media_type: str = ""
    ) -> bytes:
        """Send a request and return the content of its response.

        It is repeated, with growing pauses, when the connection fails or the server is busy. So
        every request must be idempotent: one that failed may have been carried out.

        Args:
            method: of the request.
            path: with its query string.
            body: of the request.
            media_type: of the body.

        Raises:
            LibraryError: the server does not answer, stays busy, or refuses.
        """
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, headers, content = self._send(method, path, body, media_type)
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                if _is_final(error) or attempt == ATTEMPTS:
                    raise self._failure(error) from error
            else:
                if status < 400:
                    return content
                if status not in RETRY_STATUSES or attempt == ATTEMPTS:
                    raise self._refusal(status, content)
                pause = max(pause, _seconds(headers.get("Retry-After")))
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _send(
        self, method: str, path: str, body: bytes | None, media_type: str
    ) -> tuple[int, Any, bytes]:
        headers = {"User-Agent": f"fingerprint/{__version__}", "Accept": "*/*"}
        if media_type:
            headers["Content-Type"] = media_type
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._http.request(method, self._path + path, body, headers)
        response = self._http.getresponse()
        content = response.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise LibraryError(f"the server {self.name} answers without end")
        return response.status, response.headers, content

    def _failure(self, error: Exception) -> LibraryError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return LibraryError(
                f"the certificate of {self.name} is not trusted: {error.verify_message}; "
                "set SSL_CERT_FILE to the server's certificate.pem"
            )
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if _is_final(error):
            why = "it does not speak https; try http:// in its address"
        return LibraryError(f"the server {self.name} does not answer: {why}")

    def _refusal(self, status: int, content: bytes) -> LibraryError:
        try:
            problem = json.loads(content)
            why = f"{problem['detail']}; {problem['hint']}"
        except (ValueError, KeyError, TypeError):
            why = f"status {status}; is it a fingerprint server?"
        if status == UNAUTHORISED:
            why = "a change needs the token of its --token-file: set FINGERPRINT_TOKEN"
        kind: type[LibraryError] = UnusableError if status in UNUSABLE else LibraryError
        if status == CONFLICT and "track" in str(content):
            kind = KnownError
        return kind(f"the server {self.name} refuses: {why.rstrip('.')}")

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise LibraryError(f"{self.name} is no fingerprint server") from error


class RemoteLibrary:
    """A library on a server, with the methods of `Library` that recognition needs."""

    def __init__(self, address: str, model: Embedder, token: str | None = None) -> None:
        """Connect, and check that both sides have the same model.

        Raises:
            LibraryError: there is no server, or its library is of another model.
        """
        self.model = model
        self.server = Connection(address, token)
        try:
            theirs = str(self.server.json("/v1/model").get("model_id", ""))
        except BaseException:
            self.close()
            raise
        if theirs != model.id:
            self.close()
            raise LibraryError(
                f"the library on {self.server.name} was made with model {theirs[:12]}, this is "
                f"model {model.id[:12]}: use that model, with --model"
            )
        self._rows = lru_cache(maxsize=64)(self._fetched)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.server.close()

    def recognise(
        self, clip: Clip, *, top: int = 5, speeds: Speeds = "in doubt", parts: bool = False
    ) -> Result:
        """As `Library.recognise`; the query is computed on this machine.

        It is first sent at its own speed only. If the server's answer is `doubtful`, it is also
        computed at the speeds that the answer lists, and sent again. Without audio the server finds
        `parts` only where two tracks are mixed, not where one follows the other.
        """
        part, begin = query_part(clip)
        if (nothing := nothing_in(part)) is not None:
            return Result(nothing=nothing)
        views = {1.0: wire.outline(part, self.model)}
        rows = views[1.0].rows
        if not rows.vectors.any():
            return Result(nothing="too short")
        found = self._identified(views, top, speeds)
        for _ in range(ROUNDS):
            if found["status"] != "doubtful" or len(views) >= wire.MAX_VIEWS:
                break
            for speed in found["speeds"][: wire.MAX_VIEWS - len(views)]:
                views[float(speed)] = wire.outline(part, self.model, float(speed))
            found = self._identified(views, top, speeds)
        if found["status"] == "doubtful":  # it needs more speeds than a query may hold
            found = self._identified(views, top, "as it is")
        matches = tuple(_match(one, begin) for one in found["matches"])
        if not parts:
            matches = tuple(replace(one, part=None) for one in matches)
        return Result(matches, None if matches else "nothing near enough", rows)

    def _identified(self, views: dict[float, Any], top: int, speeds: Speeds) -> dict[str, Any]:
        body = wire.encode(self.model.id, views)
        options = {"top": min(top, 50), "min_confidence": 0, "speeds": speeds.replace(" ", "-")}
        found: dict[str, Any] = self.server.post("/v1/identify", body, wire.MEDIA_TYPE, **options)
        return found

    def identify(
        self, clip: Clip, *, top: int = 5, min_confidence: float | None = None
    ) -> list[Match]:
        """As `Library.identify`."""
        least = SearchConfig().min_confidence if min_confidence is None else min_confidence
        return self.recognise(clip, top=top).at_least(least)

    def fingerprint(self, track: Track) -> Fingerprint | None:
        """As `Library.fingerprint`."""
        return self._rows(spelled(track.path))

    def _fetched(self, path: str) -> Fingerprint | None:
        found = self.server.json("/v1/tracks", path=path)["tracks"]
        if not found:
            return None
        content = self.server.request("GET", f"/v1/tracks/{found[0]['id']}/fingerprint")
        try:
            return wire.decode_rows(content)
        except ValueError as error:
            raise LibraryError(f"the server {self.server.name} sends no rows: {error}") from error


class KnownError(LibraryError):
    """The server's library has the recording already."""


class UnusableError(LibraryError):
    """The server cannot use what was sent; it may use the next thing."""


def add(server: Connection, recording: Recording, model_id: str, host: str) -> None:
    """Add a recording on this machine, whose name is `host`, to a server's library.

    Raises:
        KnownError: its library has the recording; also after a repeated request that succeeded.
        UnusableError: it cannot use this recording.
        LibraryError: the server does not answer, or refuses.
    """
    body = recordings.encode(recording, model_id, host)
    server.request("POST", "/v1/tracks", body, recordings.MEDIA_TYPE)


def remove(server: Connection, number: int) -> None:
    """Remove a track. Raises LibraryError if there is none, or the server refuses."""
    server.request("DELETE", f"/v1/tracks/{number}")


def tracks(server: Connection) -> Iterator[dict[str, Any]]:
    """Every track, as the objects of `fingerprint list --json`."""
    cursor: int | None = 0
    while cursor is not None:
        page = server.json("/v1/tracks", limit=500, cursor=cursor)
        yield from page["tracks"]
        cursor = page["cursor"]


def _match(found: dict[str, Any], begin: float) -> Match:
    """The match of a JSON record, for a clip whose query begins `begin` s into it."""
    track = Track(path_of(found["path"]), 0.0, Tags(found["title"], found["artist"]))
    rate = float(found["rate"])
    return Match(
        track=track,
        offset=float(found["offset"]) - rate * begin,
        rate=rate,
        confidence=float(found["confidence"]),
        score=float(found["score"]),
        repeats=tuple(float(one) - rate * begin for one in found["repeats"]),
        part=(part[0] + begin, part[1] + begin) if (part := found.get("part")) else None,
    )


def _is_final(error: Exception) -> bool:
    """Whether another attempt would fail in the same way: no trust, or no https at all."""
    untrusted = isinstance(error, ssl.SSLCertVerificationError)
    return untrusted or (isinstance(error, ssl.SSLError) and error.reason in NOT_TLS)


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
