"""A library on a server, asked as if it were here: queries are computed here, sound stays here."""

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
from fingerprint.config import SearchConfig
from fingerprint.errors import LibraryError
from fingerprint.library.embedding import Recording
from fingerprint.library.library import Embedder
from fingerprint.recognition.recognise import Result, Speeds, query_part
from fingerprint.recognition.signal_check import nothing_in
from fingerprint.serving import recordings, wire
from fingerprint.types import Clip, Fingerprint, Match, Tags, Track

TIMEOUT = 30.0  # s for a connection, and for each answer
ATTEMPTS = 4  # of what may be asked again
PAUSE = 0.5  # s before the second; each next one is twice as long
LONGEST_PAUSE = 10.0  # s, whatever a server asks for
ROUNDS = 8  # of other speeds that a server may want
CONFLICT = 409
AGAIN = (429, 502, 503, 504)  # statuses with which a server asks to come back
LARGEST = 256 << 20  # bytes of an answer


class Connection:
    """One server, over one connection that is kept."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """Raises LibraryError if the address is none."""
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
            self._link: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=TIMEOUT, context=ssl.create_default_context()
            )
        else:
            self._link = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT)

    def close(self) -> None:
        self._link.close()

    def json(self, place: str, **query: object) -> Any:
        """The object that a GET gives."""
        return self._parsed(self.ask("GET", f"{place}?{urlencode(query)}" if query else place))

    def post(self, place: str, body: bytes, kind: str, **query: object) -> Any:
        """The object that a query gives: it changes nothing, and may be repeated."""
        return self._parsed(self.ask("POST", f"{place}?{urlencode(query)}", body, kind))

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "", again: bool = True
    ) -> bytes:
        """The content of an answer.

        Args:
            method: of the request.
            path: with its query.
            body: of the request.
            kind: the media type of the body.
            again: whether it may be asked again where it is not known whether it was done.

        Raises:
            LibraryError: the server is away, stays busy, or refuses.
        """
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, headers, content = self._once(method, path, body, kind)
            except ssl.SSLCertVerificationError as error:
                raise LibraryError(
                    f"the certificate of {self.name} is not trusted: {error.verify_message}; "
                    "set SSL_CERT_FILE to the server's certificate.pem"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self._link.close()
                if not again or attempt == ATTEMPTS:
                    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    raise LibraryError(f"the server {self.name} does not answer: {why}") from error
            else:
                if status < 400:
                    return content
                if status not in AGAIN or attempt == ATTEMPTS:
                    raise self._refusal(status, content)
                pause = max(pause, _seconds(headers.get("Retry-After")))
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self, method: str, path: str, body: bytes | None, kind: str
    ) -> tuple[int, Any, bytes]:
        headers = {"User-Agent": f"fingerprint/{__version__}", "Accept": "*/*"}
        if kind:
            headers["Content-Type"] = kind
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._link.request(method, self._path + path, body, headers)
        answer = self._link.getresponse()
        content = answer.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise LibraryError(f"the server {self.name} answers without end")
        return answer.status, answer.headers, content

    def _refusal(self, status: int, content: bytes) -> LibraryError:
        try:
            problem = json.loads(content)
            why = f"{problem['detail']}; {problem['hint']}"
        except (ValueError, KeyError, TypeError):
            why = f"status {status}; is it a fingerprint server?"
        kind = KnownError if status == CONFLICT and "track" in str(content) else LibraryError
        return kind(f"the server {self.name} refuses: {why.rstrip('.')}")

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise LibraryError(f"{self.name} is no fingerprint server") from error


class RemoteLibrary:
    """A library on a server; what it is asked with is what `Library` is asked with."""

    def __init__(self, address: str, model: Embedder, token: str | None = None) -> None:
        """Open it.

        Raises:
            LibraryError: there is none, or it is of another model.
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
        """As `Library.recognise`. The query is computed here; at other speeds when it is wanted.

        A server that gets no sound finds `parts` only of two tracks that are mixed.
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
            if found["status"] != "doubtful" or len(views) >= wire.MOST_VIEWS:
                break
            for speed in found["speeds"][: wire.MOST_VIEWS - len(views)]:
                views[float(speed)] = wire.outline(part, self.model, float(speed))
            found = self._identified(views, top, speeds)
        if found["status"] == "doubtful":  # at more speeds than a query may have
            found = self._identified(views, top, "as it is")
        matches = tuple(_match(one, begin) for one in found["matches"])
        if not parts:
            matches = tuple(replace(one, part=None) for one in matches)
        return Result(matches, None if matches else "nothing near enough", rows)

    def _identified(self, views: dict[float, Any], top: int, speeds: Speeds) -> dict[str, Any]:
        body = wire.encode(self.model.id, views)
        asked = {"top": min(top, 50), "min_confidence": 0, "speeds": speeds.replace(" ", "-")}
        found: dict[str, Any] = self.server.post("/v1/identify", body, wire.MEDIA_TYPE, **asked)
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
        content = self.server.ask("GET", f"/v1/tracks/{found[0]['id']}/fingerprint")
        try:
            return wire.decode_rows(content)
        except ValueError as error:
            raise LibraryError(f"the server {self.server.name} sends no rows: {error}") from error


class KnownError(LibraryError):
    """The server's library has the recording."""


def add(server: Connection, recording: Recording, model_id: str, host: str) -> None:
    """Add a recording of this machine to a server's library. It may be repeated: it is known then.

    Raises:
        KnownError: its library has it.
        LibraryError: the server is away, or refuses.
    """
    body = recordings.encode(recording, model_id, host)
    server.ask("POST", "/v1/tracks", body, recordings.MEDIA_TYPE)


def remove(server: Connection, number: int) -> None:
    """Remove a track. Raises LibraryError if there is none, or the server refuses."""
    server.ask("DELETE", f"/v1/tracks/{number}")


def tracks(server: Connection) -> Iterator[dict[str, Any]]:
    """Every track, as `fingerprint list --json` has it."""
    cursor: int | None = 0
    while cursor is not None:
        page = server.json("/v1/tracks", limit=500, cursor=cursor)
        yield from page["tracks"]
        cursor = page["cursor"]


def _match(found: dict[str, Any], begin: float) -> Match:
    """A match of the record, for a clip that began `begin` s before its query."""
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


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
