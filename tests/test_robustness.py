"""A sample of `python -m fingerprint.lab torture`: faults at system calls, readers and writers."""

from pathlib import Path

import pytest

from fingerprint.lab.robustness.disk import Disk
from fingerprint.lab.robustness.faults import FAULTS, try_faults
from fingerprint.lab.robustness.soak import soak
from fingerprint.lab.robustness.tracer import Call, Fate, supported, traced

traceable = pytest.mark.skipif(not supported(), reason="needs Linux on x86-64")


@pytest.fixture
def _may_trace(tmp_path: Path) -> None:
    try:
        traced(lambda: 0, tmp_path, lambda _call: Fate.PASS)
    except OSError:
        pytest.skip("processes may not be traced here")


@traceable
@pytest.mark.usefixtures("_may_trace")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_leaves_the_library_before_or_after_it(
    tmp_path: Path, fault: str
) -> None:
    trials = list(
        try_faults(tmp_path, "standard", lambda calls: list(range(3, calls, 40)), (fault,))
    )
    assert len(trials) >= 7
    assert [trial for trial in trials if trial.wrong is not None] == []


@pytest.mark.parametrize("life", [0.5, 0.0])
def test_readers_are_right_while_writers_are_killed(tmp_path: Path, life: float) -> None:
    tally = soak(tmp_path / "library", readers=3, seconds=2, life=life, profile="compact")
    assert tally.wrong == ()
    assert tally.answers > 10
    assert bool(tally.kills) == bool(life)


@traceable
@pytest.mark.usefixtures("_may_trace")
def test_tracer_sees_every_change_of_a_writer_and_can_prevent_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def work() -> int:
        try:
            with (folder / "file").open("wb", buffering=0) as file:
                file.write(b"abcdef")
            (folder / "file").rename(folder / "new")
            (folder / "new").unlink()
        except OSError as error:
            return error.errno or 99
        return 0

    seen: list[str] = []

    def note(call: Call) -> Fate:
        seen.append(call.name)
        return Fate.PASS

    assert traced(work, folder, note).status == 0
    assert seen == ["open", "write", "rename", "unlink"]
    for name, fate, status in (
        ("open", Fate.FULL, Fate.FULL.value),
        ("rename", Fate.READ_ONLY, Fate.READ_ONLY.value),
        ("rename", Fate.KILL, None),
        ("write", Fate.TEAR, None),
    ):
        ending = traced(work, folder, lambda c, n=name, f=fate: f if c.name == n else Fate.PASS)  # type: ignore[misc]
        assert ending.status == status
    assert (folder / "file").read_bytes() == b"abc"


def test_power_cut_loses_changes_that_were_not_synced(tmp_path: Path) -> None:
    kept, lost = tmp_path / "kept", tmp_path / "lost"
    kept.write_bytes(b"old")
    disk = Disk(tmp_path)
    kept.write_bytes(b"new")
    disk.after(Call("write", (kept,)))
    lost.write_bytes(b"x")
    for name in ("open", "write", "fsync"):
        disk.after(Call(name, (lost,)))
    disk.lose()
    assert kept.read_bytes() == b"old"  # it was not synced
    assert not lost.exists()  # it was, but not its name in the folder
