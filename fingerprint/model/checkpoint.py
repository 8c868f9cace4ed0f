"""The checkpoint file: configuration, weights, calibration, background; read without pickle.

Weights are stored in half precision, which halves the file and changes no embedding by more than
a cosine of 1e-5. A model's id is a digest of its configuration and its stored weights, so what is
read has the id of what was written.
"""

import hashlib
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from fingerprint.config import ModelConfig
from fingerprint.disk import atomic_write
from fingerprint.errors import ModelError
from fingerprint.recognition.confidence import Calibration

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a model file holds. `weights` are float16 tensors by name.

    `background` is a packed background (`network.pack_background`); empty if there is none.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    calibration: Calibration
    background: bytes = b""

    @property
    def id(self) -> str:
        """Hex SHA-256 of configuration and weights, of nothing else."""
        digest = hashlib.sha256(self.config.model_dump_json().encode())
        for name, tensor in sorted(self.weights.items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary as it is stored: float16, on the CPU, without counters."""
    return {
        name: tensor.detach().to("cpu", torch.float16)
        for name, tensor in weights.items()
        if tensor.is_floating_point()
    }


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a model file, whole or not at all."""
    document = {
        "format": FORMAT,
        "config": checkpoint.config.model_dump_json(),
        "weights": checkpoint.weights,
        "calibration": checkpoint.calibration.model_dump_json(),
        "background": torch.frombuffer(bytearray(checkpoint.background), dtype=torch.uint8)
        if checkpoint.background
        else torch.empty(0, dtype=torch.uint8),
    }
    try:
        with atomic_write(path, shared=True) as draft:
            torch.save(document, draft)
    except OSError as error:
        raise ModelError(f"cannot write the model {path}: {error.strerror or error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a model file.

    Raises:
        ModelError: missing, damaged, not a model, or of another format version.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of other programs' pickles
            document = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error
    except Exception as error:  # bytes that are no pickle make it raise whatever they lead it to
        raise ModelError(f"{path} is damaged or not a fingerprint model") from error
    if not isinstance(document, dict) or "format" not in document:
        raise ModelError(f"{path} is not a fingerprint model")
    if document["format"] != FORMAT:
        raise ModelError(
            f"{path} has model format {document['format']}; this version reads format {FORMAT}"
        )
    try:
        return Checkpoint(
            ModelConfig.model_validate_json(document["config"]),
            document["weights"],
            Calibration.model_validate_json(document["calibration"]),
            document["background"].numpy().tobytes() if "background" in document else b"",
        )
    except (KeyError, ValidationError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: {type(error).__name__} in its header") from error
