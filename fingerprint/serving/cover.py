"""The cover picture in a recording's tags, decoded and re-encoded by a confined process.

Pictures are untrusted input, just as audio is. The process handles one picture, may open no file
and no connection, and is limited in memory and time. It imports this module, which for that reason
does not import NumPy.
"""

import subprocess
import sys
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fingerprint.library.records import Stamp

SIZE = 512  # pixels, greatest width and height
MAX_PIXELS = 40_000_000  # of the original
MEMORY = 1 << 30  # bytes
TIMEOUT = 10.0  # s
MAX_BYTES = 1 << 20  # of the re-encoded picture


@lru_cache(maxsize=1024)
def cover(path: Path, _stamp: "Stamp") -> bytes | None:
    """The cover of a recording as JPEG; None if it has none, or none that can be read.

    Raises:
        subprocess.TimeoutExpired: the machine is too busy; a later call may succeed.
    """
    from fingerprint.audio.source import open_recording

    boot = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    try:
        with open_recording(path) as file:
            done = subprocess.run(
                [sys.executable, "-c", boot],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    jpeg = done.stdout
    return jpeg if jpeg.startswith(b"\xff\xd8") and len(jpeg) <= MAX_BYTES else None


def main() -> None:
    """Run in the confined process: read a recording on stdin, write its cover to stdout."""
    import resource

    from PIL import Image
    from tinytag import TinyTag

    from fingerprint.audio import sandbox

    Image.init()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(TIMEOUT), int(TIMEOUT)))
    sandbox.confine()
    with open(0, "rb", closefd=False) as file:
        tags = TinyTag.get(file_obj=file, image=True, duration=False)
    picture = tags.images.any
    if picture is None:
        return
    with Image.open(BytesIO(picture.data), formats=("JPEG", "PNG", "GIF", "WEBP")) as image:
        image.thumbnail((SIZE, SIZE))
        image.convert("RGB").save(out := BytesIO(), "JPEG", quality=85)
    with open(1, "wb", closefd=False) as stdout:
        stdout.write(out.getvalue())
