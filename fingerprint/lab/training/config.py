"""The configuration of training: degradations, mining, a run, and the recipe of several runs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fingerprint.config import ModelConfig, Positive, PositiveInt, Probability, Range, Record
from fingerprint.errors import ConfigError
from fingerprint.lab.yaml_files import load_config, over, read, validated

# Roles of the corpus: its own training music, and what `fingerprint.lab corpus --add` makes.
TrainingMusic = Literal["train", "rendered", "generated"]


def _distinct(roles: tuple[TrainingMusic, ...]) -> tuple[TrainingMusic, ...]:
    if not roles or len(set(roles)) < len(roles):
        raise ValueError(f"name at least one role, and each once; got {list(roles)}")
    return roles


class DegradeConfig(Record):
    """Degradations of a clean clip into a phone recording in a room. Probabilities are per clip."""

    past: Positive = 1.0  # s of context before the clip, which reverberates into it
    time_offset: Positive = 0.25  # s, uniform within +- this
    tempo: Probability = 0.0  # another tempo at the same pitch
    tempo_range: Range = (0.77, 1.3)
    speed: Probability = 0.4  # another tempo and pitch
    speed_range: Range = (0.95, 1.05)
    device: Probability = 0.2  # a loudspeaker cabinet
    loudspeaker: Probability = 0.0  # a small one, without bass
    loudspeaker_cut: Range = (150.0, 1_000.0)  # Hz, below which it falls off
    wall: Probability = 0.0  # a wall between music and room, instead of a small loudspeaker
    wall_cut: Range = (200.0, 1_000.0)  # Hz, above which it attenuates
    music: Probability = 0.0  # of noise: other music in the background instead
    room: Probability = 0.7
    room_scale: Range = (1.0, 1.0)  # factor by which a room's size is multiplied, log-uniform
    noise: Probability = 0.95
    noise_room: Probability = 0.0  # of noise: a room of its own
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


class Recipe(Record):
    """Stages of training by name, in the order in which they run.

    A stage may start from a file of an earlier one: `start` is then relative to the run's folder.
    """

    stages: dict[str, TrainConfig]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe, or a single training run as a recipe of one stage.

    Under `stages`, each stage lists what differs from the stage before it, other than `start`.

    Raises:
        ConfigError: as `load_config`.
    """
    document = read(path)
    if not isinstance(document, dict) or "stages" not in document:
        return Recipe(stages={path.stem: load_config(path, TrainConfig)})
    stages: dict[str, Any] = {}
    before: dict[str, Any] = {}
    try:
        for name, stage in document["stages"].items():
            before = {key: value for key, value in before.items() if key != "start"}
            stages[name] = before = over(before, stage or {})
    except AttributeError as error:
        raise ConfigError(f"{path}: stages: need a name and settings for each stage") from error
    return validated(path, Recipe, document | {"stages": stages})
