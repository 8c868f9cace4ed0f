"""YAML files as frozen records.

An unknown key, a wrong type or an impossible value is a `ConfigError` that names the file and the
key.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from fingerprint.config import Record
from fingerprint.errors import ConfigError

T = TypeVar("T", bound=Record)


def load_config(path: Path, kind: type[T]) -> T:
    """Read a YAML file into a record.

    The key `base` names another file beside it, whose keys hold where this one has none.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is wrong.
    """
    return validated(path, kind, read(path))


def read(path: Path) -> Any:
    """The document of a file, over that of its base; errors as `load_config`."""
    try:
        return _document(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {_one_line(error)}") from error


def validated(path: Path, kind: type[T], document: Any) -> T:
    """The document of the file `path` as a record; errors as `load_config`."""
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
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(document, dict) or "base" not in document:
        return document
    base = path.parent / str(document.pop("base"))
    below = yaml.safe_load(base.read_text(encoding="utf-8")) or {}
    if "base" in below:
        raise ConfigError(f"{path}: its base {base} has a base itself")
    return over(below, document)


def over(below: Any, above: Any) -> Any:
    """The keys of `above`, and of `below` where it has none, at every depth."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: over(below.get(key), value) for key, value in above.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
