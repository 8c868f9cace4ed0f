"""All settings with their units, and the strict YAML loader.

A configuration is a tree of frozen records. An unknown key, a wrong type or an impossible value
is a `ConfigError` that names the file and the key. This module imports nothing heavy.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fingerprint.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"the low end {span[0]} is above the high end {span[1]}")
    return span


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]  # low, high


# Roles of the corpus: its own training music, and what `scripts/corpus.py --add` makes beside it.
TrainingMusic = Literal["train", "rendered", "generated"]


def _distinct(roles: tuple[TrainingMusic, ...]) -> tuple[TrainingMusic, ...]:
    if not roles or len(set(roles)) < len(roles):
        raise ValueError(f"name at least one role, and each once; got {list(roles)}")
    return roles


class Record(BaseModel):
    """Frozen, strict and closed: the base of every configuration section."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class FrontendConfig(Record):
    """Waveform to level-invariant spectrogram."""

    kind: Literal["log_mel", "pcen", "cqt", "stft"] = "log_mel"
    sample_rate: PositiveInt = 8_000  # Hz
    n_fft: PositiveInt = 1_024  # samples
    hop: PositiveInt = 256  # samples between frames
    n_bands: PositiveInt = 128
    f_min: float = Field(default=250.0, ge=0)  # Hz
    f_max: Positive = 3_900.0  # Hz
    floor_db: float = Field(default=-50.0, lt=0)  # dB relative to the local mean power
    context: Positive = 2.0  # s over which level and contrast are normalised

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"need f_min < f_max <= {self.sample_rate / 2}, got {self.f_min} and {self.f_max}"
            )
        return self

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop


KEY = 128  # Matryoshka dimensions: the first of an embedding, which are indexed


class EmbedderConfig(Record):
    """Spectrogram to unit vectors: a stem, one stage a width, and a linear head."""

    stem: PositiveInt = 32  # channels
    widths: tuple[PositiveInt, ...] = (96, 192, 384)  # channels of each stage
    depth: PositiveInt = 2  # residual blocks a stage
    dim: PositiveInt = 128  # if more than KEY, the first KEY are an embedding of their own
    head_frames: PositiveInt = 3  # trunk outputs that make one embedding; sets the window's length


class ModelConfig(Record):
    """Front-end and embedder; the digest of these settings and the weights is the model's id."""

    frontend: FrontendConfig = FrontendConfig()
    embedder: EmbedderConfig = EmbedderConfig()


class Effort(Record):
    """The effort of one search for a query."""

    windows: PositiveInt  # query windows searched, at most; scores use all windows
    nodes: PositiveInt  # index nodes inspected, shared by the windows
    candidates: PositiveInt  # (track, offset) pairs scored


class SearchConfig(Record):
    """How a query is searched for. Part of the code, not of a model."""

    at_first: Effort = Effort(windows=8, nodes=30_000, candidates=20)
    in_doubt: Effort = Effort(windows=32, nodes=200_000, candidates=50)
    landmarks: PositiveInt = 150  # candidates taken from landmarks when in doubt
    at_other_speeds: Effort = Effort(windows=6, nodes=20_000, candidates=10)  # at each of them
    neighbours: PositiveInt = 20  # hits per query window
    rates: Range = (0.8, 1.2)  # playback speeds tried when the best candidates are refined
    semitones: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)  # changes of speed undone when in doubt
    far_semitones: tuple[float, ...] = (-5.5, -4.25, -3.0, 3.0, 4.25)  # when still in doubt
    far_rates: Range = (0.53, 1.47)  # tempos tried when still in doubt
    handicap: Probability = 0.05  # taken off the score of candidates at another speed
    min_confidence: Probability = 0.98  # below it the answer is "not in the library"


class DegradeConfig(Record):
    """Degradations of a clean clip into a phone recording in a room. Probabilities are per clip."""

    past: Positive = 1.0  # s of context before the clip, so that reverberation has a past
    time_offset: Positive = 0.25  # s, uniform within +- this
    tempo: Probability = 0.0  # another tempo at the same pitch
    tempo_range: Range = (0.77, 1.3)
    speed: Probability = 0.4  # another tempo and pitch
    speed_range: Range = (0.95, 1.05)
    device: Probability = 0.2  # a loudspeaker cabinet
    loudspeaker: Probability = 0.0  # a small one, which plays no bass
    loudspeaker_cut: Range = (150.0, 1_000.0)  # Hz, below which it falls off
    music: Probability = 0.0  # of noise: other music in the background instead
    room: Probability = 0.7
    room_scale: Range = (1.0, 1.0)  # a room is made so many times as large, in log-uniform measure
    wall: Probability = 0.0  # between the music and the microphone
    wall_cut: Range = (200.0, 1_000.0)  # Hz, above which it lets little through
    noise: Probability = 0.95
    noise_room: Probability = 0.0  # of noise: it is heard in a room too
    noise_tilt_db: Range = (0.0, 0.0)  # dB an octave, beside its own spectrum
    noise_eq_db: float = Field(default=0.0, ge=0)  # standard deviation of its own smooth response
    snr_db: Range = (-6.0, 12.0)
    microphone: Probability = 0.8
    low_cut: Range = (50.0, 500.0)  # Hz
    high_cut: Range = (2_000.0, 4_000.0)  # Hz
    eq_db: float = Field(default=8.0, ge=0)  # standard deviation of the smooth random response
    gain_control: Probability = 0.0
    suppression: Probability = 0.0  # a noise suppressor
    suppression_db: Range = (6.0, 20.0)  # maximum attenuation
    clip: Probability = 0.3
    clip_drive_db: Range = (0.0, 18.0)
    codec: Probability = 0.0  # a transform codec at a low bit rate
    codec_step: Range = (0.2, 1.5)  # its quantisation step, in RMS of a band
    band_cut: Probability = 0.5  # spectrogram cutout: a band of frequencies
    time_cut: Probability = 0.3  # spectrogram cutout: a stretch of time
    short: Probability = 0.1  # the positive is only part of a window, as for 1 s queries


class MiningConfig(Record):
    """Which triplets of a batch count; or, for comparison, NT-Xent instead of triplets."""

    kind: Literal["batch_hard", "semi_hard", "all_active", "nt_xent"] = "batch_hard"
    margin: Positive = 0.4  # squared Euclidean distance between unit vectors, 0..4
    temperature: Positive = 0.05  # of NT-Xent, which has no margin
    warm_up: Range = (0.15, 0.45)  # share of the run: semi-hard before the first, pure after


class TrainConfig(Record):
    """One training run. `model`, `degrade` and `mining` are sections of the same file."""

    model: ModelConfig = ModelConfig()
    degrade: DegradeConfig = DegradeConfig()
    mining: MiningConfig = MiningConfig()
    music: Annotated[tuple[TrainingMusic, ...], AfterValidator(_distinct)] = ("train",)
    start: str = ""  # model file whose weights the run begins with; empty: untrained ones
    steps: PositiveInt = 5_000
    batch: Annotated[int, Field(ge=2)] = 192  # tracks; one anchor each
    positives: PositiveInt = 1  # degraded clips to an anchor
    songs: Annotated[int, Field(ge=0)] = 300  # by formula, where they are made for the run
    virtual: Probability = 0.0  # of a track: another made of it, at another speed and mixed
    windows: PositiveInt = 1  # consecutive windows of each clip, embedded in one pass
    learning_rate: Positive = 1e-3
    weight_decay: float = Field(default=1e-2, ge=0)
    learning_rate_warm_up: PositiveInt = 200  # steps
    average_decay: Probability = 0.999  # of the moving average of the weights
    precision: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: what is faster here
    seed: int = 0
    checkpoint_minutes: Positive = 3.0
    validate_every: PositiveInt = 500  # steps


class Blend(Record):
    """The model of a recipe: `share` of the second stage's last weights, the rest the first's."""

    stages: tuple[str, str]
    share: Probability


class Recipe(Record):
    """Stages of training by name, in the order in which they run, and what is made of them.

    A stage may start from a file of an earlier one: `start` is then relative to the run's folder.
    """

    stages: dict[str, TrainConfig]
    blend: Blend | None = None

    @model_validator(mode="after")
    def _blends_its_stages(self) -> Self:
        if self.blend and not set(self.blend.stages) <= set(self.stages):
            raise ValueError(f"blend names stages that the recipe lacks: {self.blend.stages}")
        return self


T = TypeVar("T", bound=Record)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe, or a single training run as a recipe of one stage.

    Under `stages`, each stage lists what differs from the stage before it, other than `start`.

    Raises:
        ConfigError: as `load_config`.
    """
    document = _read(path)
    if not isinstance(document, dict) or "stages" not in document:
        return Recipe(stages={path.stem: load_config(path, TrainConfig)})
    stages: dict[str, Any] = {}
    before: dict[str, Any] = {}
    try:
        for name, stage in document["stages"].items():
            before = {key: value for key, value in before.items() if key != "start"}
            stages[name] = before = _over(before, stage or {})
    except AttributeError as error:
        raise ConfigError(f"{path}: stages: need a name and settings for each stage") from error
    return _validated(path, Recipe, document | {"stages": stages})


def load_config(path: Path, kind: type[T]) -> T:
    """Read a YAML file into a record.

    The key `base` names another file beside it, whose keys hold where this one has none.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is wrong.
    """
    return _validated(path, kind, _read(path))


def _read(path: Path) -> Any:
    import yaml

    try:
        return _document(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {_one_line(error)}") from error


def _validated(path: Path, kind: type[T], document: Any) -> T:
    try:
        # Through JSON, so that strict mode takes a list for a tuple but not a string for a number.
        return kind.model_validate_json(json.dumps(document))
    except TypeError as error:
        raise ConfigError(f"cannot read the configuration {path}: {_one_line(error)}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigError(f"{path}: {key}: {first['msg']}") from error


def _document(path: Path) -> Any:
    import yaml

    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(document, dict) or "base" not in document:
        return document
    base = path.parent / str(document.pop("base"))
    below = yaml.safe_load(base.read_text(encoding="utf-8")) or {}
    if "base" in below:
        raise ConfigError(f"{path}: its base {base} has a base itself")
    return _over(below, document)


def _over(below: Any, above: Any) -> Any:
    """The keys of `above`, and of `below` where it has none, at every depth."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _over(below.get(key), value) for key, value in above.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
