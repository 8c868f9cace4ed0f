"""The address of a library in Milvus: a server and a collection, or a file of Milvus Lite.

    milvus://host:port/collection        a server or a cluster
    milvus+tls://host:port/collection    the same over TLS
    milvus:///folder/file.db/collection  Milvus Lite in this process, for one process at a time

`?index=HNSW` after any of them names the index that a new library gets; see `server.INDICES`.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from fingerprint.audio.files import without_password
from fingerprint.errors import LibraryError

PORT = 19_530
SCHEMES = ("milvus", "milvus+tls")
_FILE = re.compile(r"/.+\.db", re.DOTALL)
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def is_address(text: str) -> bool:
    """Whether a text looks like the address of a library in Milvus, valid or not."""
    return text.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES))


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a library. `uri` is for pymilvus; `index` is empty unless given."""

    uri: str
    collection: str
    index: str = ""
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address; raises LibraryError, with an example, if it is none."""
        try:
            parts = urlsplit(text)
            port = parts.port or PORT
        except ValueError as error:
            raise _wrong(text, str(error)) from error
        if parts.username is not None or parts.password is not None:
            raise _wrong(
                text,
                "user and password belong in FINGERPRINT_MILVUS_USER and FINGERPRINT_MILVUS_TOKEN",
            )
        place, _, collection = unquote(parts.path).rpartition("/")
        if not _COLLECTION.fullmatch(collection):
            raise _wrong(text, "its last part must name a collection: letters, digits and _")
        query = dict(parse_qsl(parts.query))
        index = query.pop("index", "").upper()
        if query or parts.fragment:
            raise _wrong(text, "only ?index=... may follow")
        if parts.hostname and not place:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            scheme = "https" if parts.scheme == "milvus+tls" else "http"
            return cls(f"{scheme}://{host}:{port}", collection, index, text)
        if parts.hostname or parts.scheme != "milvus" or not _FILE.fullmatch(place):
            raise _wrong(text, "a file of Milvus Lite is absolute and ends in .db")
        return cls(place, collection, index, text)

    @property
    def embedded(self) -> bool:
        """Whether it is a file of Milvus Lite."""
        return self.uri.startswith("/")

    def named(self, collection: str) -> Self:
        """The address of another collection in the same place."""
        return replace(self, collection=collection, text="")

    def __str__(self) -> str:
        scheme, rest = ("milvus://", self.uri) if self.embedded else self._remote()
        return f"{scheme}{rest}/{self.collection}"

    def _remote(self) -> tuple[str, str]:
        scheme, _, rest = self.uri.partition("://")
        return ("milvus+tls://" if scheme == "https" else "milvus://"), rest


def _wrong(text: str, why: str) -> LibraryError:
    return LibraryError(
        f"{without_password(text)} is no address of a library in Milvus: {why}; as in "
        "milvus://host:19530/music or milvus:///home/me/songs.db/music"
    )
