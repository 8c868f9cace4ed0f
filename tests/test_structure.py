"""The count of modules and of what they import."""

from pathlib import Path

from click.testing import CliRunner

from fingerprint.lab.tables.structure import imports_of, lines_of, main, name_of


def test_imports_are_found_wherever_they_are_written(tmp_path: Path) -> None:
    package = tmp_path / "fingerprint"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Package."""\n')
    (package / "room" / "__init__.py").write_text('"""Room."""\n')
    (package / "room" / "door.py").write_text("import fingerprint.room\n")
    wall = package / "wall.py"
    wall.write_text(
        "from fingerprint.room import door\n"
        "from fingerprint.room.door import handle\n\n\n"
        "def late():\n    import fingerprint.room, numpy\n    from fingerprint.room import window\n"
    )
    modules = {name_of(tmp_path, path): path for path in package.rglob("*.py")}
    assert set(modules) == {
        "fingerprint", "fingerprint.room", "fingerprint.room.door", "fingerprint.wall"
    }  # fmt: skip
    assert imports_of(wall, modules) == {"fingerprint.room", "fingerprint.room.door"}
    assert lines_of(wall) == 7


def test_identify_loads_the_command_it_runs_and_no_other() -> None:
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 0, done.output
    row = done.output.splitlines()[2].split("|")
    modules, loaded = int(row[2].replace(",", "")), int(row[6])
    assert 20 < loaded < modules / 3
