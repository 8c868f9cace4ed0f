"""The model on ONNX Runtime, from the file that `lab.export.onnx` writes. Needs no torch."""

import hashlib
import os
from base64 import b64decode
from pathlib import Path
from typing import Any, Self

import numpy as np

from fingerprint.config import ModelConfig
from fingerprint.disk import atomic_write
from fingerprint.errors import ModelError
from fingerprint.model.network import About, card_beside
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Floats

FORMAT = 2  # 1 had no lengths
QUIET = 3  # log severity: errors only, no warnings about inputs that have a default


class OnnxNetwork:
    """A `Network` from an ONNX file, on the CPU. `source`: digest of its checkpoint."""

    suffix = ".onnx"
    device = "cpu"
    block_rows = 240  # about a minute

    def __init__(self, content: bytes, threads: int, card: str = "") -> None:
        """`card` takes the place of the model card that it holds.

        Raises:
            ModelError: it is not a model of this package and format.
        """
        self.content = content
        self._session = _session(content, threads)
        values = self._session.get_modelmeta().custom_metadata_map
        if "model_id" not in values:
            raise ModelError("it is not a fingerprint model")
        if values["format"] != str(FORMAT):
            raise ModelError(f"it has format {values['format']}; this version reads {FORMAT}")
        try:
            self.about = About(
                values["model_id"],
                ModelConfig.model_validate_json(values["config"]),
                Calibration.model_validate_json(values["calibration"]),
                card or values["card"],
                b64decode(values.get("background", ""), validate=True),
            )
        except (KeyError, ValueError) as error:
            raise ModelError(f"{type(error).__name__} in its metadata") from error
        self.source = values.get("source", "")

    @classmethod
    def load(cls, path: Path, *, threads: int) -> Self:
        """Read an ONNX file; one call uses `threads` threads. A card beside it replaces its own.

        Raises:
            ModelError: missing, damaged, not a model, or of another format version.
        """
        try:
            return cls(path.read_bytes(), threads, card_beside(path))
        except OSError as error:
            raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error
        except ModelError as error:
            raise ModelError(f"cannot use the model {path}: {error}") from error

    def rows(self, samples: Floats, *, first: int, count: int, step: int) -> tuple[Floats, Floats]:
        numbers = {"first": first, "rows": count, "step": step}
        feed: dict[str, Any] = {name: np.array(number) for name, number in numbers.items()}
        feed["waveform"] = np.asarray(samples, np.float32)[None]
        embeddings, lengths = self._session.run(["embeddings", "lengths"], feed)
        return embeddings[0], lengths[0]

    def save(self, path: Path) -> None:
        write_whole(self.content, path)


def digest_of(path: Path) -> str:
    """Hex SHA-256 of a checkpoint's file; an ONNX file stores that of the checkpoint it is made of.

    Raises:
        ModelError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error


def write_whole(content: bytes, path: Path) -> None:
    """Write a model file, whole or not at all."""
    try:
        with atomic_write(path, shared=True) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise ModelError(f"cannot write the model {path}: {error.strerror or error}") from error


def _session(content: bytes, threads: int) -> Any:
    # From version 1.32 on it would report its use to Microsoft.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = QUIET
    # Waiting threads must not spin, because the decoders need the cores, too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise ModelError("it is damaged or not an ONNX model") from error
