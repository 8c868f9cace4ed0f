"""ONNX Runtime for browsers is fetched, checked and put beside the page."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fingerprint.lab.__main__ import main
from fingerprint.lab.commands import onnxruntime_web


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that gets the files, in place of the installed page's."""
    folder = tmp_path / "ort"
    monkeypatch.setattr(onnxruntime_web, "TARGET", folder)
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that a stand-in for npm fetches."""
    file = tmp_path / "onnxruntime-web.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name in onnxruntime_web.FILES:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n/bin/cp '{file}' .\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    return file


def run() -> Result:
    return CliRunner().invoke(main, ["onnxruntime-web"])


def test_the_files_and_their_licence_are_written(
    target: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    monkeypatch.setattr(onnxruntime_web, "SHA512", digest)
    result = run()
    assert result.exit_code == 0, result.output
    assert {one.name for one in target.iterdir()} == {*onnxruntime_web.FILES, "LICENSE.txt"}
    assert all((target / name).read_text() == name for name in onnxruntime_web.FILES)


@pytest.mark.usefixtures("package")
def test_another_package_than_the_pinned_one_is_refused(target: Path) -> None:
    result = run()
    assert result.exit_code == 1
    assert "is not what was pinned" in result.stderr
    assert not target.exists()


def test_a_missing_npm_is_one_line(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run()
    assert result.exit_code == 1
    assert result.stderr == "Error: npm is needed: apt-get install npm\n"
    assert not target.exists()


def test_the_files_go_where_the_server_looks_for_them() -> None:
    page = pytest.importorskip("fingerprint.serving.page", reason="needs fingerprint[serve]")
    assert onnxruntime_web.TARGET == page.STATIC / "ort"
