"""The corpus's configuration: `packages.yaml` as frozen records."""

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from fingerprint.config import Positive, PositiveInt, Range, Record

MusicRole = Literal["train", "validation", "test", "test-unknown"]
AdditionRole = Literal["rendered", "generated"]  # more music to train on, made on demand
Split = Literal["train", "test"]
Role = Literal[
    "train",
    "validation",
    "test",
    "test-unknown",
    "rendered",
    "generated",
    "sounds-train",
    "sounds-test",
    "responses-train",
    "responses-test",
]
Kind = Literal["music", "speech", "effect", "room", "device"]
ADDITIONS: tuple[AdditionRole, ...] = get_args(AdditionRole)
SOUND_ROLES: dict[Split, Role] = {"train": "sounds-train", "test": "sounds-test"}
RESPONSE_ROLES: dict[Split, Role] = {"train": "responses-train", "test": "responses-test"}


class ResponseSource(Record):
    """Files of a package (a shell pattern) that hold measured impulse responses."""

    package: str
    files: str
    kind: Literal["room", "device"]


class RoomsConfig(Record):
    """Shoebox rooms to simulate, drawn uniformly from ranges."""

    count: PositiveInt
    seed: int
    length: Range  # m
    width: Range  # m
    height: Range  # m
    reverberation: Range  # s, RT60
    distance: Range  # m between the source and the microphone


class Soundfont(Record):
    """The file of a package (a shell pattern) that holds a soundfont."""

    package: str
    file: str


class RenderedConfig(Record):
    """Scores to play: tracker modules once each, MIDI once with every soundfont."""

    longest: Positive  # s of each; what comes after is left out
    packages: tuple[str, ...]
    without: tuple[str, ...] = ()  # shell patterns of what is left out: package/path.soundfont.flac
    soundfonts: tuple[Soundfont, ...]


class GeneratedConfig(Record):
    """Music by formula: songs whose seeds follow each other, their lengths drawn uniformly."""

    songs: PositiveInt
    first_seed: Annotated[int, Field(ge=0)]
    seconds: Range


class CorpusConfig(Record):
    """Packages by what they are for. A package may give both long music and short sounds."""

    shortest_music: Positive = 20.0  # s
    music: dict[MusicRole, tuple[str, ...]]
    sounds: dict[Split, dict[Literal["speech", "effect"], tuple[str, ...]]]
    responses: dict[Split, tuple[ResponseSource, ...]]
    rooms: dict[Split, RoomsConfig]
    rendered: RenderedConfig | None = None
    generated: GeneratedConfig | None = None

    @model_validator(mode="after")
    def _splits_are_disjoint(self) -> Self:
        owner: dict[str, str] = {}
        rendered = self.rendered.packages if self.rendered else ()
        for role, packages in [*self.music.items(), ("train", rendered)]:
            for package in packages:
                if owner.setdefault(package, role) != role:
                    raise ValueError(f"{package} is both {owner[package]} and {role} music")
        for split, kinds in self.sounds.items():
            for package in (name for names in kinds.values() for name in names):
                if owner.setdefault(package, split) != split:
                    raise ValueError(f"{package} is both {owner[package]} and {split} sounds")
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        """Every package of the corpus without additions once, in the order of the file."""
        names = [name for packages in self.music.values() for name in packages]
        names += [
            n for kinds in self.sounds.values() for packages in kinds.values() for n in packages
        ]
        names += [source.package for sources in self.responses.values() for source in sources]
        return tuple(dict.fromkeys(names))

    def purpose(self, package: str, path: str, seconds: float) -> tuple[Role, Kind] | None:
        """What a file is for, or None where it serves nothing."""
        return next(self._purposes(package, path, seconds), None)

    def _purposes(self, package: str, path: str, seconds: float) -> Iterator[tuple[Role, Kind]]:
        if seconds >= self.shortest_music:
            yield from ((role, "music") for role, names in self.music.items() if package in names)
        for split, kinds in self.sounds.items():
            yield from ((SOUND_ROLES[split], k) for k, names in kinds.items() if package in names)
        for split, sources in self.responses.items():
            for source in sources:
                if package == source.package and fnmatch(path, source.files):
                    yield RESPONSE_ROLES[split], source.kind
