"""The flat parts of an image, where its noise can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EDGE = 16
"""Edge of the blocks whose cosine transforms are compared."""

STEP = 4
"""Distance between neighbouring blocks."""

MOST = 16_000
"""Blocks that are looked at; of a volume not all."""

SHARE, FEWEST = 0.05, 200
"""Blocks that count as flat: a share of them, but not fewer than a number."""

CUT = 0.02
"""Share of pixels at the ends of the image's range from which on a block's noise is taken to be cut off."""

_I, _J = np.indices((EDGE, EDGE))

FINE = _I + _J >= 1.25 * EDGE
"""The finest frequencies, which content hardly reaches."""

_EVEN, _ODD = ((_I + _J) % 2 == 0) & (_I + _J > 0), (_I + _J) % 2 == 1
HALVES = ((_EVEN, _ODD), (_ODD, _EVEN))
"""Frequencies to judge by and to measure at."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Overlapping blocks, as squared coefficients of their cosine transforms.

    A block is judged by one half of the frequencies, like the black fields of a chequerboard, and
    measured at the other half; then the other way round. Noise is independent between the two, so
    that the flattest blocks are not those where it happened to be weak; content is in both.

    Attributes
    ----------
    power
        ``(N, 16, 16)``, float32. A slope was taken out of each block before.
    mean
        Mean of each block.
    place
        Plane, row and column of each, in steps, ``(N, 3)``.
    """

    power: Array
    mean: Array
    place: Array

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, which: Array) -> Blocks:
        return Blocks(self.power[which], self.mean[which], self.place[which])

    def over(self, sd: Array) -> Blocks:
        """Divide each block by a number."""
        return Blocks(self.power / np.square(sd, dtype=np.float32)[:, None, None], self.mean, self.place)

    def flattest(self, half: Array, share: float, fewest: int) -> Array:
        """Return the indices of the blocks with least power at one half of the frequencies."""
        count = min(max(int(share * len(self)), fewest), len(self))
        flat: Array = np.argpartition(self.power[:, half].sum(axis=1), count - 1)[:count]
        return flat

    def area(self, share: float = SHARE) -> float:
        """Pixels that the flattest blocks cover."""
        covered = 0
        for judge, _ in HALVES:
            corners = self.place[self.flattest(judge, share, FEWEST)]
            cells = [corners + np.array([0, i, j]) for i in range(EDGE // STEP) for j in range(EDGE // STEP)]
            covered += len(np.unique(np.concatenate(cells), axis=0))
        return covered * STEP**2 / len(HALVES)

    def spectrum(self, share: float = SHARE) -> Array:
        """Variance of the noise at each frequency ``(16, 16)``, from the flattest blocks."""
        found = np.empty((EDGE, EDGE))
        for judge, measure in HALVES:
            found[measure] = self.power[self.flattest(judge, share, FEWEST)][:, measure].mean(axis=0)
        # The slope was taken out of the lowest frequencies.
        found[0, 1], found[1, 0] = found[0, 2], found[2, 0]
        found[0, 0] = (found[0, 1] + found[1, 0]) / 2
        return found


def cut(planes: Array, seen: NDArray[np.bool_]) -> Blocks:
    """Cut planes ``(N, Y, X)`` into blocks that were measured throughout.

    Constant blocks (empty, saturated) are left out, and so are those whose noise is cut off at the
    ends of the image's range, unless there are hardly any others.
    """
    from scipy.fft import dctn

    windows, whole = (
        np.lib.stride_tricks.sliding_window_view(a, (EDGE, EDGE), axis=(1, 2))[:, ::STEP, ::STEP]
        for a in (planes, seen)
    )
    place = np.argwhere(whole.all(axis=(-1, -2)))
    place = place[:: max(1, len(place) // MOST)]
    pixels = windows[tuple(place.T)]
    varied = pixels.min(axis=(1, 2)) < pixels.max(axis=(1, 2))
    pixels, place = pixels[varied], place[varied]
    if len(place) == 0:
        return Blocks(np.empty((0, EDGE, EDGE), np.float32), np.empty(0), place)
    low, high = planes[seen].min(), planes[seen].max()
    sound = ((pixels <= low) | (pixels >= high)).mean(axis=(1, 2)) <= CUT
    if sound.sum() >= FEWEST // 4:
        pixels, place = pixels[sound], place[sound]
    mean = pixels.mean(axis=(1, 2), dtype=np.float64)
    rest = (pixels - mean[:, None, None]).astype(np.float32)
    # A slope goes on at all frequencies, down to the finest; noise has a hundredth of its power in it.
    ramp = np.linspace(-1, 1, EDGE, dtype=np.float32)
    across, down = (rest.mean(axis=axis) @ ramp / (ramp @ ramp) for axis in (1, 2))
    rest -= across[:, None, None] * ramp + down[:, None, None] * ramp[:, None]
    return Blocks(dctn(rest, axes=(1, 2), norm="ortho", overwrite_x=True) ** 2, mean, place)
