"""The cover in a recording's tags, decoded and made anew by a confined process.

Pictures are strangers' data as much as sound is: the process may open no file and no connection,
gets little memory and little time, and is used once. It imports this module: hence no NumPy here.
"""

import subprocess
import sys
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fingerprint.library.records import Stamp

SIZE = 512  # pixels, either way
MOST_PIXELS = 40_000_000
MEMORY = 1 << 30  # bytes
PATIENCE = 10.0  # s
LARGEST = 1 << 20  # bytes of an answer


@lru_cache(maxsize=1024)
def cover(path: Path, _stamp: "Stamp") -> bytes | None:
    """The cover of a recording as JPEG; None if it has none that can be read.

    Raises:
        subprocess.TimeoutExpired: the machine has other things to do; it may be asked again.
    """
    from fingerprint.audio.decode import open_recording

    boot = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    try:
        with open_recording(path) as file:
            done = subprocess.run(
                [sys.executable, "-c", boot],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = done.stdout
    return found if found.startswith(b"\xff\xd8") and len(found) <= LARGEST else None


def main() -> None:
    """In the process: a recording on standard input, its cover on standard output."""
    import resource

    from PIL import Image
    from tinytag import TinyTag

    from fingerprint.audio import sandbox

    Image.init()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(PATIENCE), int(PATIENCE)))
    sandbox.confine()
    with open(0, "rb", closefd=False) as file:
        tags = TinyTag.get(file_obj=file, image=True, duration=False)
    picture = tags.images.any
    if picture is None:
        return
    with Image.open(BytesIO(picture.data), formats=("JPEG", "PNG", "GIF", "WEBP")) as image:
        image.thumbnail((SIZE, SIZE))
        image.convert("RGB").save(out := BytesIO(), "JPEG", quality=85)
    with open(1, "wb", closefd=False) as answer:
        answer.write(out.getvalue())
