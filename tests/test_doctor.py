"""`fingerprint doctor` says what works and what mends the rest."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from fingerprint.cli import main


def run(library: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--library", str(library), *options])


def test_a_library_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    result = run(tmp_path / "none", "--json")
    found = {one["what"]: one for one in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0
    assert found["model"]["state"] == "ok"
    assert found["library"]["state"] == "missing"
    assert found["library"]["mend"] == "fingerprint index FOLDER"


def test_a_damaged_library_is_one(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"no catalog")
    result = run(tmp_path)
    assert result.exit_code == 1
    (line,) = [one for one in result.stdout.splitlines() if " library " in one]
    assert line.startswith("broken")
    assert "fingerprint verify --repair" in result.stdout
