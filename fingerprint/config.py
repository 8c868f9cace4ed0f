"""The settings of a model, with their units: frozen, strict records."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"the low end {span[0]} is above the high end {span[1]}")
    return span


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]  # low, high


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


INDEXED_DIMS = 128  # of a model and of a library that do not say otherwise


class EmbedderConfig(Record):
    """Spectrogram to unit vectors: a stem, one stage a width, and a linear head.

    The first `indexed_dims` dimensions of an embedding are an embedding of their own (Matryoshka
    dimensions), which a library indexes. An embedding that has no more is indexed whole.
    """

    stem: PositiveInt = 32  # channels
    widths: tuple[PositiveInt, ...] = (96, 192, 384)  # channels of each stage
    depth: PositiveInt = 2  # residual blocks a stage
    dim: PositiveInt = 128
    head_frames: PositiveInt = 3  # trunk outputs that make one embedding; sets the window's length
    indexed_dims: Annotated[int, Field(gt=0, multiple_of=8)] = INDEXED_DIMS  # PQ codes take eight

    @model_serializer(mode="wrap")
    def _without_default(self, as_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the default out: a model's id is a digest of this JSON, and the ids must stay."""
        values: dict[str, Any] = as_dict(self)
        if self.indexed_dims == INDEXED_DIMS:
            values.pop("indexed_dims", None)
        return values


class ModelConfig(Record):
    """Front-end and embedder; the digest of these settings and the weights is the model's id."""

    frontend: FrontendConfig = FrontendConfig()
    embedder: EmbedderConfig = EmbedderConfig()
