"""`/v1/tracks`: list and search the library; add and remove tracks."""

import re
import shutil
from hashlib import blake2b, file_digest
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.security import HTTPBearer
from starlette.responses import Response

from fingerprint.answers import track_record
from fingerprint.audio.files import display_name, is_control
from fingerprint.audio.formats import AUDIO_SUFFIXES, suffix_of
from fingerprint.audio.objects import path_of
from fingerprint.errors import LibraryError
from fingerprint.library.identity import twin_in_library
from fingerprint.library.indexing import index_files
from fingerprint.library.records import Listed, hop_block
from fingerprint.library.writer import Changes
from fingerprint.serving import recordings, records, wire
from fingerprint.serving.bodies import media_type, receive
from fingerprint.serving.cover import cover
from fingerprint.serving.problems import Problem, documented, library_unavailable
from fingerprint.serving.records import BINARY, json_response
from fingerprint.serving.service import Served, Service
from fingerprint.serving.slots import client_of

router = APIRouter(prefix="/v1/tracks", tags=["library"])
MAX_ID = (1 << 63) - 1
MAX_NAME = 80  # characters of an uploaded file's name that are kept
UNFINISHED = ".unfinished"  # a marker file beside an upload until it is a track or is refused
Id = Annotated[int, InPath(ge=1, le=MAX_ID)]
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording in any container; or the embeddings, spectral peaks and tags "
        "that a client has computed.",
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
    path: Annotated[str, Query(max_length=4096, description="The exact path of a track.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[
        int, Query(ge=0, le=MAX_ID, description="The `cursor` of the previous page.")
    ] = 0,
) -> Response:
    """Ordered by id; pass the answer's `cursor` to get the next page."""
    try:
        catalog = service.library.catalog
        if path:
            known = catalog.by_path(path_of(path)) if "\0" not in path else None
            found = [known] if known else []
        else:
            found = catalog.search(q, after=cursor, limit=limit)
        listed = [_record(service, one) for one in found]
    except LibraryError as error:
        raise library_unavailable(error) from error
    more = len(found) == limit and not path
    return json_response({"tracks": listed, "cursor": found[-1].id if more else None})


@router.get(
    "/{number}",
    summary="Get a track",
    response_class=Response,
    responses={
        200: {
            "model": records.TrackSchema,
            "content": {"application/json": {"example": records.TRACK}},
        },
        **documented("not-found", "library-unavailable"),
    },
)
def track(service: Served, number: Id) -> Response:
    """By its id."""
    return json_response(_record(service, _listed(service, number)))


@router.get(
    "/{number}/cover",
    summary="Get the cover of a track",
    response_class=Response,
    responses={
        200: {
            "description": "The picture in its tags, re-encoded.",
            "content": {"image/jpeg": BINARY},
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
    response = (
        Problem("not-found", "the track has no cover").response()
        if found is None
        else Response(found, media_type="image/jpeg")
    )
    # Most files have no cover, and looking for it costs as much.
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


@router.get(
    "/{number}/fingerprint",
    summary="Get the embeddings of a track",
    response_class=Response,
    responses={
        200: {"content": {wire.ROWS_MEDIA_TYPE: BINARY}},
        **documented("not-found", "library-unavailable"),
    },
)
def track_fingerprint(service: Served, number: Id) -> Response:
    """A client that scans a recording finds the track's begin and end in it with them."""
    listed = _listed(service, number)
    try:
        found = service.library.fingerprint(listed.track)
    except (LibraryError, OSError) as error:
        raise library_unavailable(error) from error
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
            "model": records.TrackSchema,
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
            "library-unavailable",
            "no-room",
        ),
    },
)
async def add(
    request: Request,
    service: Served,
    name: Annotated[str, Query(max_length=200, description="The file's name.")] = "recording",
) -> Response:
    """The file is kept beside the library. 409 if the library has the same recording already."""
    service.authorise(request)
    service.changes.check(client_of(request))
    computed = media_type(request) == recordings.MEDIA_TYPE
    file = await receive(request, service, service.settings.limits.long_body)

    def job() -> dict[str, object]:
        with file:
            return (
                _add_computed(service, file.read())
                if computed
                else _add_upload(service, file, name)
            )

    record = await service.changes.run(client_of(request), job)
    return json_response(record, 201, {"Location": f"/v1/tracks/{record['id']}"})


@router.delete(
    "/{number}",
    summary="Remove a track",
    status_code=204,
    dependencies=TOKEN,
    response_class=Response,
    responses={
        204: {"description": "Removed. If the file was uploaded, it is deleted."},
        **documented("token-needed", "changes-off", "not-found", "library-unavailable"),
    },
)
async def remove(request: Request, service: Served, number: Id) -> Response:
    """Files that were not uploaded are left where they are."""
    service.authorise(request)
    await service.changes.run(client_of(request), lambda: _remove_track(service, number))
    return Response(status_code=204)


def _record(service: Service, listed: Listed) -> dict[str, object]:
    return track_record(listed, service.library.catalog.damage_of(listed.id))


def _listed(service: Service, number: int) -> Listed:
    try:
        found = service.library.catalog.by_id(number)
    except LibraryError as error:
        raise library_unavailable(error) from error
    if found is None:
        raise Problem("not-found", f"there is no track {number}")
    return found


# Changes of the library, which run one at a time (`service.changes`).


def _add_upload(service: Service, file: BinaryIO, name: str) -> dict[str, object]:
    """Save an upload as `uploads/DIGEST/NAME` and index it.

    The file is written elsewhere and renamed, so it is complete or not there. If it is refused, or
    indexing fails, it is deleted.
    """
    folder = service.uploads
    try:
        service.library.info()  # raises if the drive is not mounted, so that no new library is made
    except (LibraryError, OSError) as error:
        raise library_unavailable(error) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".new-", dir=folder) as new:
            saved = _save_upload(file, Path(new), name)
            path = folder / _digest(saved) / saved.name
            known = service.library.catalog.by_path(path)
            if known is not None:
                raise Problem("known-recording", "it was uploaded before", track=known.id)
            unfinished = path.parent / UNFINISHED
            if not (existed := path.exists()):  # it does in a library that has been moved
                path.parent.mkdir(exist_ok=True)
                unfinished.touch()
                saved.replace(path)
    except OSError as error:
        raise Problem("library-unavailable", "uploads cannot be written") from error
    try:
        record = _index_upload(service, path, name)
    except BaseException:
        if not existed:
            path.unlink(missing_ok=True)
            _delete_with_folder(unfinished)
        raise
    unfinished.unlink(missing_ok=True)
    return record


def _index_upload(service: Service, path: Path, name: str) -> dict[str, object]:
    library = service.library
    try:
        report = index_files(library, [path], jobs=1, on_duplicate="skip")
        if report.failed:
            _, reason = report.failed[0]
            raise Problem("unreadable", reason.replace(display_name(path), display_name(name)))
        if report.duplicates:
            with library.writing() as writer:
                writer.apply(Changes(forgotten=(path,)))
            known = library.catalog.by_path(report.duplicates[0].of)
            detail = "the same recording is in the library"
            raise Problem("known-recording", detail, track=known.id if known else None)
        listed = library.catalog.by_path(path)
        assert listed is not None  # noqa: S101 - it neither failed nor is a duplicate
        return _record(service, listed)
    except LibraryError as error:
        raise library_unavailable(error) from error


def _add_computed(service: Service, data: bytes) -> dict[str, object]:
    """Add a track whose embeddings a client has computed (`recordings`)."""
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
        raise library_unavailable(error) from error


def _remove_track(service: Service, number: int) -> None:
    listed = _listed(service, number)
    try:
        with service.library.writing() as writer:
            writer.apply(Changes(removed=(number,)))
    except LibraryError as error:
        raise library_unavailable(error) from error
    if service.uploads in listed.track.path.parents:
        _delete_with_folder(listed.track.path)


def delete_unfinished(service: Service) -> None:
    """Delete the uploads that a killed server has left before they became tracks.

    Only files with the marker `UNFINISHED` are deleted. Others stay, even if the catalog has no
    track of their path: the library may have been moved, or be mounted elsewhere.
    """
    folder = service.uploads
    for partial in folder.glob(".new-*"):
        shutil.rmtree(partial, ignore_errors=True)
    for unfinished in folder.glob(f"*/{UNFINISHED}"):
        for path in unfinished.parent.iterdir():
            if path != unfinished and service.library.catalog.by_path(path) is None:
                path.unlink(missing_ok=True)
        _delete_with_folder(unfinished)


def _delete_with_folder(path: Path) -> None:
    """Delete a file, and its folder if that is empty then."""
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:
        return


def _save_upload(file: BinaryIO, folder: Path, name: str) -> Path:
    """Save the body under the name that the client gives, without unsafe characters."""
    given = Path("".join(" " if is_control(one) else one for one in name).replace("/", " "))
    suffix = suffix_of(given) if suffix_of(given) in AUDIO_SUFFIXES else ".audio"
    stem = _UNSAFE.sub("_", given.stem).strip(" .")[:MAX_NAME] or "recording"
    path = folder / f"{stem}{suffix}"
    with path.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=12)).hexdigest()
