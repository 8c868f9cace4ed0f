"""The spectral peaks of a recording, in a few bytes a second. Pure NumPy.

A peak is a local maximum of the whitened spectrogram (log power minus its local mean). Every block
of frames stores the same number of peaks, its strongest, so the peaks of any passage can be read
by position. `recognition.verification` looks them up in a query's spectrogram, and
`index.landmarks` finds candidates by hashes of pairs of them (Wang, "An industrial-strength audio
search algorithm", ISMIR 2003).

Frame i is a window of `SIZE` samples from `i * HOP` on, at `RATE`.
"""

import numpy as np
import soxr

from fingerprint.types import Clip, Floats, Ints, PeakCodes

RATE = 8_000  # Hz
SIZE = 512  # samples of a window: 64 ms
HOP = 128  # samples: 16 ms
FRAME_RATE = RATE / HOP
BINS = (2, 250)  # of the spectrum: 31 Hz to 3.9 kHz
HEIGHT = BINS[1] - BINS[0]
FLOOR = 1e-9  # added to the power of each bin
MEAN_FRAMES = 15  # the local mean is taken over this many frames on both sides
MEAN_BINS = 7  # and over this many bins
PEAK_FRAMES = 3  # a peak is the maximum over this many frames on both sides
PEAK_BINS = 4  # and over this many bins
LEAST = 0.5  # height of a peak above the local mean, in nepers of power
BLOCK = 16  # frames of a block: 256 ms
PER_FRAME = 0.5  # peaks stored per frame, on average over a block
EMPTY = np.uint16(0xFFFF)  # the code of a missing peak
MARGIN = MEAN_FRAMES + PEAK_FRAMES  # frames on both sides on which a frame's peaks depend
BATCH = 256  # frames processed at a time, which fit a processor's cache
FFTS = 64  # windows transformed at a time
_WINDOW = np.hanning(SIZE + 1)[:-1]


class PeakExtractor:
    """Extracts the peaks of a recording from chunks; chunk sizes do not change the result.

    Args:
        sample_rate: Hz of the chunks.
        block: frames of a block.
        kept: peaks of a block; None: `PER_FRAME` for each of its frames.
    """

    def __init__(
        self, sample_rate: int = RATE, *, block: int = BLOCK, kept: int | None = None
    ) -> None:
        self._block, self._kept = block, kept_of(block) if kept is None else kept
        self._batch = -(-BATCH // block) * block  # frames
        self._resampler = (
            soxr.ResampleStream(sample_rate, RATE, 1, dtype="float32")
            if sample_rate != RATE
            else None
        )
        self._samples = np.empty(0, np.float32)
        self._levels: list[Floats] = []  # frames to be processed, after `MARGIN` frames of context
        self._waiting = 0  # frames in `_levels`
        self._before = 0  # how many of them are context
        self._codes: list[PeakCodes] = []

    def take(self, samples: Floats) -> None:
        """Add the next samples (T,), mono."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        self._take(samples)

    def _take(self, samples: Floats) -> None:
        joined = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        count = max(0, (len(joined) - SIZE) // HOP + 1)
        self._samples = joined[count * HOP :]
        self._add(joined, count)

    def end(self) -> PeakCodes:
        """Codes of the peaks, (blocks, kept) uint16, ascending in each block, padded with `EMPTY`.

        A code is 256 times the frame's number in the block, plus its bin, from `BINS[0]` on.
        """
        if self._resampler is not None:
            self._take(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
        if not self._levels and len(self._samples):  # shorter than a window
            padded = np.pad(self._samples, (0, SIZE - len(self._samples)))
            self._add(padded, 1)
        if self._waiting > self._before:
            self._work(last=True)
        return np.concatenate([np.empty((0, self._kept), np.uint16), *self._codes])

    def _add(self, samples: Floats, count: int) -> None:
        for first in range(0, count, BATCH):
            some = min(BATCH, count - first)
            rows = log_power(samples[first * HOP : (first + some - 1) * HOP + SIZE])
            if not self._levels:  # the context before the beginning repeats the first frame
                rows = np.concatenate([np.repeat(rows[:1], MARGIN, axis=0), rows])
                self._before = MARGIN
            self._levels.append(rows)
            self._waiting += len(rows)
            while self._waiting >= self._before + self._batch + MARGIN:
                self._work(last=False)

    def _work(self, *, last: bool) -> None:
        levels = np.concatenate(self._levels)
        frames = len(levels) - MARGIN if last else self._batch
        if last:
            levels = np.concatenate([levels, np.repeat(levels[-1:], MARGIN, axis=0)])
        part = levels[: frames + 2 * MARGIN]
        self._codes.append(_codes_of(part, self._block, self._kept))
        rest = levels[frames:] if not last else levels[:0]
        self._levels, self._waiting = [rest], len(rest)


def kept_of(block: int) -> int:
    """The number of peaks stored for a block of `block` frames."""
    return round(block * PER_FRAME)


def peaks_of(clip: Clip, *, block: int = BLOCK, kept: int | None = None) -> PeakCodes:
    """The peaks of a whole recording, (blocks, kept); see `PeakExtractor`."""
    extractor = PeakExtractor(clip.sample_rate, block=block, kept=kept)
    extractor.take(clip.samples)
    return extractor.end()


def joined(codes: PeakCodes, step: int, block: int) -> PeakCodes:
    """Merge every `step` blocks into one: (blocks, kept) to (rows, step * kept)."""
    count = -(-len(codes) // step)
    padded = np.full((count * step, codes.shape[1]), EMPTY, np.uint16)
    padded[: len(codes)] = codes
    later = (np.arange(len(padded)) % step * block).astype(np.uint16)[:, None] << np.uint16(8)
    padded = np.where(padded == EMPTY, EMPTY, padded + later)
    return padded.reshape(count, -1)


def are_sound(codes: PeakCodes, block: int) -> bool:
    """Whether all codes are valid for blocks of `block` frames."""
    return bool(np.all((codes == EMPTY) | ((codes >> 8 < block) & (codes & 255 < HEIGHT))))


def positions(codes: PeakCodes, block: int) -> tuple[Ints, Ints]:
    """Frames, from the first block's on, and bins of the peaks (blocks, kept), in order."""
    row, column = np.nonzero(codes != EMPTY)
    code = codes[row, column].astype(np.int64)
    return row * block + (code >> 8), code & 255


def log_power(samples: Floats) -> Floats:
    """Log power spectrogram of all whole windows in the samples, (frames, bins)."""
    # In double precision, because NumPy's FFT takes longer in single precision.
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), SIZE)[::HOP]
    levels = np.empty((len(windows), HEIGHT), np.float32)
    windowed = np.empty((FFTS, SIZE))
    spectrum = np.empty((FFTS, SIZE // 2 + 1), np.complex128)
    for first in range(0, len(windows), FFTS):
        part = windows[first : first + FFTS]
        count = len(part)
        np.multiply(part, _WINDOW, out=windowed[:count])
        np.fft.rfft(windowed[:count], axis=1, out=spectrum[:count])
        squares = spectrum.view(np.float64)[:count, 2 * BINS[0] : 2 * BINS[1]]
        squares *= squares
        power = levels[first : first + count]
        np.add(squares[:, ::2], squares[:, 1::2], out=power, casting="same_kind")
        power += np.float32(FLOOR)
        np.log(power, out=power)
    return levels


def whitened(levels: Floats) -> Floats:
    """Log powers (F + 2 * MEAN_FRAMES, bins) minus their local mean, (F, bins)."""
    total = _over_bins(_over_frames(levels, MEAN_FRAMES, np.add), MEAN_BINS, np.add)
    total *= np.float32(1 / ((2 * MEAN_FRAMES + 1) * (2 * MEAN_BINS + 1)))
    return np.subtract(levels[MEAN_FRAMES : len(levels) - MEAN_FRAMES], total, out=total)


def _over_frames(values: Floats, reach: int, join: np.ufunc) -> Floats:
    """The sum or maximum (`join`) over `reach` frames on both sides: (F + 2 * reach, B), (F, B)."""
    width = values.shape[1]
    return _running(values.ravel(), 2 * reach + 1, width, join).reshape(-1, width)


def _over_bins(values: Floats, reach: int, join: np.ufunc) -> Floats:
    """The same over bins, (F, B) to (F, B); the outermost ones stand for those beyond."""
    frames, width = values.shape
    padded = np.empty((frames + 1, width + 2 * reach), np.float32)  # a row more, for whole rows
    padded[:frames, :reach] = values[:, :1]
    padded[:frames, reach : reach + width] = values
    padded[:frames, reach + width :] = values[:, -1:]
    padded[frames:] = 0
    flat = padded.ravel()[: frames * padded.shape[1] + 2 * reach]
    return _running(flat, 2 * reach + 1, 1, join).reshape(frames, -1)[:, :width]


def _running(values: Floats, length: int, step: int, join: np.ufunc) -> Floats:
    """A running sum or maximum (`join`) of every `length` values that are `step` apart.

    The values are in one dimension, in which neither rows nor copies take time. Windows are
    combined by doubling (as in exponentiation by squaring), so the order of additions, and with it
    rounding, does not depend on a window's position.
    """
    result = np.empty(len(values) - (length - 1) * step, np.float32)
    power, scratch = values, np.empty((2, len(values)), np.float32)
    done, size = 0, 1  # values in `result`, in each element of `power`
    while True:
        if length & size:
            part = power[done * step : done * step + len(result)]
            if done:
                join(result, part, out=result)
            else:
                result[:] = part
            done += size
        if done == length:
            return result
        wide = len(power) - size * step
        power = join(power[:wide], power[size * step :], out=scratch[0, :wide])
        scratch, size = scratch[::-1], 2 * size


def _codes_of(levels: Floats, block_frames: int, most: int) -> PeakCodes:
    """The codes (blocks, most) of the peaks in log powers (F + 2 * MARGIN, bins)."""
    height = whitened(levels)  # (F + 2 * PEAK_FRAMES, bins)
    top = _over_frames(_over_bins(height, PEAK_BINS, np.maximum), PEAK_FRAMES, np.maximum)
    inner = height[PEAK_FRAMES : len(height) - PEAK_FRAMES]
    frame, bin_ = np.divmod(np.flatnonzero((inner == top) & (inner > LEAST)), inner.shape[1])
    block = frame // block_frames
    order = np.lexsort((-inner[frame, bin_], block))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(block[order], block[order])
    kept = rank < most
    frame, bin_, block = frame[kept], bin_[kept], block[kept]
    codes = np.full((-(-len(inner) // block_frames), most), EMPTY, np.uint16)
    column = np.arange(len(block)) - np.searchsorted(block, block)  # `block` is sorted
    codes[block, column] = frame % block_frames * 256 + bin_
    return codes
