"""`/v1/tracks`: what is in the library; adding to it and removing from it."""

import re
import shutil
from hashlib import blake2b
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.security import HTTPBearer
from starlette.responses import Response

from fingerprint.answers import json_line, track_record
from fingerprint.audio.files import display_name, is_control
from fingerprint.audio.formats import AUDIO_SUFFIXES
from fingerprint.audio.objects import path_of
from fingerprint.errors import LibraryError
from fingerprint.library.identity import twin_in_library
from fingerprint.library.indexing import index_files
from fingerprint.library.records import Listed, hop_block
from fingerprint.library.writer import Changes
from fingerprint.serving import recordings, records, wire
from fingerprint.serving.bodies import media_type
from fingerprint.serving.cover import cover
from fingerprint.serving.places import client_of
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.queries import BINARY, receive, unavailable
from fingerprint.serving.service import Served, Service

router = APIRouter(prefix="/v1/tracks", tags=["library"])
GREATEST_ID = (1 << 63) - 1
LONGEST_NAME = 80
UNFINISHED = ".unfinished"  # lies beside an upload until it is a track, or is refused
Id = Annotated[int, InPath(ge=1, le=GREATEST_ID)]
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording as it is; or what a client has computed of one.",
        "content": {"application/octet-stream": BINARY, recordings.MEDIA_TYPE: BINARY},
    }
}
TOKEN = [Depends(HTTPBearer(auto_error=False, description="The token of --token-file."))]
_UNSAFE = re.compile(r"[^\w .,()&'+-]")


@router.get(
    "",
    summary="List or search the tracks",
    response_class=Response,
    responses={
        200: {
            "model": records.Tracks,
            "content": {
                "application/json": {"example": {"tracks": [records.TRACK], "cursor": None}}
            },
        },
        **documented("library-unavailable"),
    },
)
def tracks(
    service: Served,
    q: Annotated[
        str, Query(max_length=200, description="Words in artist, title, album, path")
    ] = "",
    path: Annotated[str, Query(max_length=4096, description="Of one track, exactly.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[int, Query(ge=0, le=GREATEST_ID, description="Of the page before.")] = 0,
) -> Response:
    """By their numbers; `cursor` of an answer is for the next one."""
    try:
        catalog = service.library.catalog
        if path:
            known = catalog.by_path(path_of(path)) if "\0" not in path else None
            found = [known] if known else []
        else:
            found = catalog.search(q, after=cursor, limit=limit)
        listed = [_record(service, one) for one in found]
    except LibraryError as error:
        raise unavailable(error) from error
    more = len(found) == limit and not path
    return _json({"tracks": listed, "cursor": found[-1].id if more else None})


@router.get(
    "/{number}",
    summary="One track",
    response_class=Response,
    responses={
        200: {
            "model": records.Track,
            "content": {"application/json": {"example": records.TRACK}},
        },
        **documented("not-found", "library-unavailable"),
    },
)
def track(service: Served, number: Id) -> Response:
    """By its number."""
    return _json(_record(service, _listed(service, number)))


@router.get(
    "/{number}/cover",
    summary="The cover of a track",
    response_class=Response,
    responses={
        200: {
            "description": "The picture in its tags, made anew.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented("not-found", "library-unavailable"),
    },
)
async def track_cover(request: Request, service: Served, number: Id) -> Response:
    """At most 512 pixels wide and high."""
    listed = _listed(service, number)
    try:
        found = await service.pictures.run(
            client_of(request), lambda: cover(listed.track.path, listed.stamp)
        )
    except TimeoutExpired as error:
        raise Problem("busy", "the cover could not be read in time") from error
    if found is None:
        raise Problem("not-found", "the track has no cover")
    caching = {"Cache-Control": "private, max-age=3600"}
    return Response(found, media_type="image/jpeg", headers=caching)


@router.get(
    "/{number}/fingerprint",
    summary="The embeddings of a track",
    response_class=Response,
    responses={
        200: {"content": {wire.ROWS_MEDIA_TYPE: BINARY}},
        **documented("not-found", "library-unavailable"),
    },
)
def track_fingerprint(service: Served, number: Id) -> Response:
    """By which a client that scans a recording finds where in it the track begins and ends."""
    listed = _listed(service, number)
    try:
        found = service.library.fingerprint(listed.track)
    except (LibraryError, OSError) as error:
        raise unavailable(error) from error
    if found is None:
        raise Problem("not-found", f"there is no track {number}")
    return Response(wire.encode_rows(found), media_type=wire.ROWS_MEDIA_TYPE)


@router.post(
    "",
    summary="Add a recording",
    status_code=201,
    openapi_extra=UPLOAD,
    dependencies=TOKEN,
    response_class=Response,
    responses={
        201: {
            "model": records.Track,
            "content": {"application/json": {"example": records.TRACK}},
        },
        **documented(
            "token-needed",
            "changes-off",
            "known-recording",
            "other-model",
            "unreadable",
            "too-large",
            "too-slow",
            "not-a-body",
            "bad-request",
            "library-unavailable",
        ),
    },
)
async def add(
    request: Request,
    service: Served,
    name: Annotated[str, Query(max_length=200, description="Of the file.")] = "recording",
) -> Response:
    """The file is kept beside the library. 409 if its recording is known, by whatever file."""
    service.authorise(request)
    service.changes.check(client_of(request))
    computed = media_type(request) == recordings.MEDIA_TYPE
    file = await receive(request, service, service.settings.limits.long_body)

    def job() -> dict[str, object]:
        with file:
            return _joined(service, file.read()) if computed else _added(service, file, name)

    record = await service.changes.run(client_of(request), job)
    return Response(
        json_line(record),
        201,
        media_type="application/json",
        headers={"Location": f"/v1/tracks/{record['id']}"},
    )


@router.delete(
    "/{number}",
    summary="Remove a track",
    status_code=204,
    dependencies=TOKEN,
    response_class=Response,
    responses={
        204: {"description": "It is removed; a file that was uploaded is deleted."},
        **documented("token-needed", "changes-off", "not-found", "library-unavailable"),
    },
)
async def remove(request: Request, service: Served, number: Id) -> Response:
    """From the library. Files that were not uploaded stay where they are."""
    service.authorise(request)
    await service.changes.run(client_of(request), lambda: _removed(service, number))
    return Response(status_code=204)


def _record(service: Service, listed: Listed) -> dict[str, object]:
    return track_record(listed, service.library.catalog.damage_of(listed.id))


def _listed(service: Service, number: int) -> Listed:
    try:
        found = service.library.catalog.by_id(number)
    except LibraryError as error:
        raise unavailable(error) from error
    if found is None:
        raise Problem("not-found", f"there is no track {number}")
    return found


def _json(record: dict[str, Any]) -> Response:
    return Response(json_line(record), media_type="application/json")


# Changes; one at a time


def _added(service: Service, file: BinaryIO, name: str) -> dict[str, object]:
    """A file appears among the uploads under its name once it is written, or not at all."""
    folder = service.uploads
    try:
        service.library.info()  # where its drive is away, no other library begins in its place
    except (LibraryError, OSError) as error:
        raise unavailable(error) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".new-", dir=folder) as new:
            path = _named(file, Path(new), name)
            place = folder / _digest(path) / path.name
            known = service.library.catalog.by_path(place)
            if known is not None:
                raise Problem("known-recording", "it was uploaded before", track=known.id)
            unfinished = place.parent / UNFINISHED
            if not (kept := place.exists()):  # of a library that has been moved
                place.parent.mkdir(exist_ok=True)
                unfinished.touch()
                path.replace(place)
    except OSError as error:
        raise Problem("library-unavailable", "uploads cannot be written") from error
    try:
        record = _indexed(service, place, name)
    except BaseException:
        if not kept:
            place.unlink(missing_ok=True)
            _forget(unfinished)
        raise
    unfinished.unlink(missing_ok=True)
    return record


def _indexed(service: Service, place: Path, name: str) -> dict[str, object]:
    library = service.library
    try:
        report = index_files(library, [place], jobs=1, on_duplicate="skip")
        if report.failed:
            _, reason = report.failed[0]
            shown = reason.replace(display_name(place), display_name(name))
            raise Problem("unreadable", shown)
        if report.duplicates:
            with library.writing() as writer:
                writer.apply(Changes(forgotten=(place,)))
            known = library.catalog.by_path(report.duplicates[0].of)
            detail = "the same recording is in the library"
            raise Problem("known-recording", detail, track=known.id if known else None)
        listed = library.catalog.by_path(place)
        assert listed is not None  # noqa: S101 - it neither failed nor is it a copy
        return _record(service, listed)
    except LibraryError as error:
        raise unavailable(error) from error


def _joined(service: Service, data: bytes) -> dict[str, object]:
    """Add a track that a client has computed."""
    library = service.library
    try:
        model_id, entry = recordings.decode(data, library.model.dim, hop_block(library.model.hop))
    except ValueError as error:
        raise Problem("unreadable", f"not a recording: {error}") from error
    if model_id != library.model.id:
        raise Problem("other-model", "the recording was made with another model")
    try:
        with library.writing() as writer:
            same = writer.catalog.by_content(entry.content) if entry.content else []
            twin = same[0].id if same else twin_in_library(library, entry.vectors)
            listed = writer.catalog.by_id(twin) if twin is not None else None
            if listed is not None and (same or listed.track.path != entry.track.path):
                detail = "the same recording is in the library"
                raise Problem("known-recording", detail, track=twin)
            writer.add([entry])
            writer.merge()
        found = library.catalog.by_path(entry.track.path)
        assert found is not None  # noqa: S101 - it was just added
        return _record(service, found)
    except LibraryError as error:
        raise unavailable(error) from error


def _removed(service: Service, number: int) -> None:
    listed = _listed(service, number)
    try:
        with service.library.writing() as writer:
            writer.apply(Changes(removed=(number,)))
    except LibraryError as error:
        raise unavailable(error) from error
    if service.uploads in listed.track.path.parents:
        _forget(listed.track.path)


def sweep(service: Service) -> None:
    """Delete what a server that was killed has left of uploads that had not become tracks.

    A file without that mark stays, even if no track is listed by its path: the library may have
    been moved, or be mounted elsewhere.
    """
    folder = service.uploads
    for half in folder.glob(".new-*"):
        shutil.rmtree(half, ignore_errors=True)
    for unfinished in folder.glob(f"*/{UNFINISHED}"):
        for path in unfinished.parent.iterdir():
            if path != unfinished and service.library.catalog.by_path(path) is None:
                path.unlink(missing_ok=True)
        _forget(unfinished)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:
        return  # it holds something else


def _named(file: BinaryIO, folder: Path, name: str) -> Path:
    """The body as a file of about the name that the client gives it."""
    given = Path("".join(" " if is_control(one) else one for one in name).replace("/", " "))
    suffix = given.suffix.lower() if given.suffix.lower() in AUDIO_SUFFIXES else ".audio"
    stem = _UNSAFE.sub("_", given.stem).strip(" .")[:LONGEST_NAME] or "recording"
    path = folder / f"{stem}{suffix}"
    with path.open("wb") as copy:
        while data := file.read(1 << 20):
            copy.write(data)
    return path


def _digest(path: Path) -> str:
    found = blake2b(digest_size=12)
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()
