"""Impulse responses of rooms, simulated and measured, and of loudspeaker cabinets."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from fingerprint.disk import locked
from fingerprint.errors import ConfigError, CorpusError
from fingerprint.lab.corpus.config import RESPONSE_ROLES, Kind, RoomsConfig, Split
from fingerprint.lab.corpus.manifest import Corpus, CorpusFile
from fingerprint.lab.corpus.recordings import cache_folder, content_key, remove_stale, save_array
from fingerprint.types import Floats

ROOM_SECONDS = 1.0
DEVICE_SECONDS = 0.1
DIRECT = 0.5  # of the largest peak: the first to reach it is the direct path
WALL_MARGIN = 0.3  # m from source and microphone to the nearest wall
IMAGE_ORDER = 6  # reflections found exactly; rays trace the rest
RAYS = 5_000
EAR_RADIUS = 0.3  # m, the sphere that catches rays
ATTEMPTS = 10_000  # draws after which the ranges are taken to be impossible


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """Impulse responses with the direct path at sample 0 and an energy of 1.

    `rooms` (R, L) holds simulated rooms, then real spaces; `devices` (D, L2) loudspeaker cabinets.
    """

    rooms: Floats
    devices: Floats


def load_responses(corpus: Corpus, split: Split, sample_rate: int) -> Responses:
    """The responses of a split at `sample_rate` (Hz): rooms 1 s long, devices 0.1 s.

    Without measured devices there is one, a perfect loudspeaker (an impulse). Made at the first
    call and kept in the corpus's cache.

    Raises:
        AudioError: a measured response is gone or damaged since the corpus was assembled.
    """
    files = corpus.role(RESPONSE_ROLES[split])
    rooms = corpus.rooms[split]
    key = content_key([rooms.model_dump_json(), *(file.digest for file in files)])
    folder = cache_folder(corpus.root, sample_rate)
    paths = {kind: folder / f"{kind}-{split}.{key}.npy" for kind in ("rooms", "devices")}
    with locked(folder):
        if not all(path.exists() for path in paths.values()):
            simulated = [simulate_room(rooms, i, sample_rate) for i in range(rooms.count)]
            spaces = simulated + _measured(files, "room", sample_rate)
            devices = _measured(files, "device", sample_rate) or [np.ones(1, np.float32)]
            made = {
                "rooms": stack_aligned(spaces, round(ROOM_SECONDS * sample_rate)),
                "devices": stack_aligned(devices, round(DEVICE_SECONDS * sample_rate)),
            }
            for kind, path in paths.items():
                remove_stale(folder, f"{kind}-{split}")
                save_array(path, made[kind])
    return Responses(rooms=np.load(paths["rooms"]), devices=np.load(paths["devices"]))


def _measured(files: Sequence[CorpusFile], kind: Kind, sample_rate: int) -> list[Floats]:
    from fingerprint.audio.decode import load_clip

    return [load_clip(file.path, sample_rate).samples for file in files if file.kind == kind]


def stack_aligned(responses: Sequence[Floats], length: int) -> Floats:
    """Responses of any lengths to (n, length): direct path at sample 0, energy 1."""
    stacked = np.zeros((len(responses), length), np.float32)
    for row, response in zip(stacked, responses, strict=True):
        tail = response[direct_path(response) :][:length]
        row[: len(tail)] = tail / np.sqrt(np.sum(np.square(tail, dtype=np.float64)))
    return stacked


def direct_path(response: Floats) -> int:
    """The sample of the first strong peak."""
    size = np.abs(response)
    i = int(np.argmax(size >= DIRECT * size.max()))
    while i + 1 < len(size) and size[i + 1] > size[i]:
        i += 1
    return i


def simulate_room(config: RoomsConfig, number: int, sample_rate: int) -> Floats:
    """Response number `number` of a shoebox room, source and microphone drawn from the ranges.

    Early reflections by the image source method (Allen & Berkley 1979), late ones by ray tracing
    (Schröder 2011), which alone reaches a long reverberation in a small room at a small cost.

    Raises:
        ConfigError: the ranges leave no possible room.
        CorpusError: the simulator is not installed.
    """
    pra = _simulator()
    rng = np.random.default_rng([config.seed, number])
    size, absorption = _draw_walls(config, rng)
    source, microphone = _draw_places(config, size, rng)
    # The library draws the fine structure of the tail from a generator of its own.
    pra.random.seed(int(rng.integers(2**31)))
    room = pra.ShoeBox(
        size,
        fs=sample_rate,
        materials=pra.Material(absorption),
        max_order=IMAGE_ORDER,
        ray_tracing=True,
        air_absorption=True,
    )
    room.set_ray_tracing(receiver_radius=EAR_RADIUS, n_rays=RAYS, energy_thres=1e-5)
    room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    return np.asarray(room.rir[0][0], np.float32)


def _simulator() -> ModuleType:
    try:
        import pyroomacoustics
    except ImportError:
        raise CorpusError("rooms need pyroomacoustics: pip install 'fingerprint[train]'") from None
    return pyroomacoustics  # type: ignore[no-any-return]


def _draw_walls(config: RoomsConfig, rng: np.random.Generator) -> tuple[Floats, float]:
    """A room's size (3,) in m, and the absorption that gives it a drawn reverberation time."""
    for _ in range(ATTEMPTS):
        size = np.array([rng.uniform(*r) for r in (config.length, config.width, config.height)])
        try:
            absorption, _ = _simulator().inverse_sabine(rng.uniform(*config.reverberation), size)
        except ValueError:  # no wall absorbs enough for a large room that dry: draw another
            continue
        return size.astype(np.float32), float(absorption)
    raise ConfigError(f"no room of these sizes has a reverberation of {config.reverberation} s")


def _draw_places(
    config: RoomsConfig, size: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Source and microphone (3,) in m, in any direction at a drawn distance, off the walls."""
    for _ in range(ATTEMPTS):
        microphone = rng.uniform(WALL_MARGIN, size - WALL_MARGIN)
        direction = rng.standard_normal(3)
        distance = rng.uniform(*config.distance)
        source = microphone + distance * direction / np.linalg.norm(direction)
        if np.all((source > WALL_MARGIN) & (source < size - WALL_MARGIN)):
            return source.astype(np.float32), microphone.astype(np.float32)
    raise ConfigError(f"a room of {size} m has no two places {config.distance} m apart")
