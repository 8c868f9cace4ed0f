"""Put ONNX Runtime for browsers beside the page, so that it computes fingerprints itself.

    python -m fingerprint.lab onnxruntime-web

Run it before a wheel is built, or in an install: without the files the page sends audio. The
package comes from npm, in one pinned version whose content is checked. The module needs click
alone, so that the image of `deploy` can run it as a file.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import click

VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
TARGET = Path(__file__).parents[2] / "serving" / "static" / "ort"
LICENSE = """\
ONNX Runtime Web, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Put ONNX Runtime for browsers beside the page.

    It is fetched with npm and checked. With it the page of `fingerprint serve` computes
    fingerprints itself; without it the page sends audio.
    """
    if shutil.which("npm") is None:
        raise click.ClickException("npm is needed: apt-get install npm")
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        command = ["npm", "pack", "--silent", f"onnxruntime-web@{VERSION}"]
        if subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode:
            raise click.ClickException("npm cannot fetch onnxruntime-web")
        (package,) = Path(folder).glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if found != SHA512:
            raise click.ClickException(
                f"onnxruntime-web {VERSION} is not what was pinned: sha512-{found}"
            )
        TARGET.mkdir(exist_ok=True)
        with tarfile.open(package) as archive:
            for name in FILES:
                content = archive.extractfile(f"package/dist/{name}")
                assert content is not None  # noqa: S101 - a file
                (TARGET / name).write_bytes(content.read())
    (TARGET / "LICENSE.txt").write_text(LICENSE, encoding="utf-8")
    click.echo(f"onnxruntime-web {VERSION} is in {TARGET}")


if __name__ == "__main__":
    main()
