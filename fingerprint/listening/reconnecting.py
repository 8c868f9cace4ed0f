"""Reconnect a network stream that ends or fails, after growing pauses."""

import time
from collections.abc import Callable, Iterator

from fingerprint.errors import AudioError
from fingerprint.types import Clip

FIRST_PAUSE = 1.0  # s
LONGEST_PAUSE = 60.0  # s
STABLE = 30.0  # s of sound after which the next pause is short again


def reconnecting(
    connect: Callable[[], Iterator[Clip]],
    *,
    on_pause: Callable[[str, float], None] = lambda _why, _seconds: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Clip | None]:
    """The clips of a source without end, and None wherever it was interrupted.

    Pauses double from `FIRST_PAUSE` to `LONGEST_PAUSE`. `on_pause` gets the reason why
    the source has ended, and the length of the pause (s).

    Raises:
        AudioError: the first attempt gives no sound, so the address is probably wrong.
    """
    pause, ever = FIRST_PAUSE, False
    while True:
        heard, why = 0.0, "the stream has ended"
        try:
            for clip in connect():
                ever = True
                heard += clip.duration
                yield clip
        except AudioError as error:
            if not ever:
                raise
            why = str(error)
        if not ever:
            raise AudioError("the stream holds no sound")
        yield None
        pause = FIRST_PAUSE if heard >= STABLE else pause
        on_pause(why, pause)
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
