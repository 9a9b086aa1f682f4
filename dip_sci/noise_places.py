"""Where in an image noise is strong, and how many of its blocks hold the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.noise_blocks import EDGE, HALVES, STEP, Blocks, finest
from dip_sci.noise_spectrum import measured_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PATCHY = 1.25
"""Ratio of the strong to the weak parts' standard deviation (95th and 5th percentile) from which a map is kept."""

PLACED = 1.3
"""How many times more blocks must be alike by where they are than by their brightness: of photons, at most 1.2 times more are.
"""

FEW = 0.1
"""Share of the blocks that count as flat at least where the noise is correlated."""

LEAST, LEAST_SCORE = 0.01, 2.33
"""Share of the blocks with the least power, and how many standard deviations below the mean noise alone has it."""

UNEVEN = 4.0
"""How much stronger or weaker than in the median the noise is taken to be anywhere: scanners stay within that."""

CELL = 8
"""Edge, in steps, of the cells in which the local strength is measured."""

STEEP = 3
"""Ratio of coarse to fine power, over that of the cells with least, from which on a cell holds content."""


def is_patchy(strength: Array) -> bool:
    """Whether the noise's local strengths are so different that a map of them is worth it."""
    return bool(np.quantile(strength, 0.95) > PATCHY * np.quantile(strength, 0.05))


def by_place(blocks: Blocks, shape: tuple[int, ...], variance: Array) -> bool:
    """Say whether where blocks are tells the strength of their noise better than their brightness does.

    Parameters
    ----------
    blocks
        Of planes of a shape ``(N, Y, X)``.
    variance
        Of the noise in each block by its brightness.
    """
    by_brightness = np.sqrt(np.maximum(variance, 1e-9 * float(variance.max())))
    return alike(over_place(blocks, shape)[-1]) > PLACED * alike(blocks.over(by_brightness))


def over_place(blocks: Blocks, shape: tuple[int, ...]) -> tuple[Array, Array, Blocks]:
    """Return the noise's local strength, in cells and at the pixels ``(N, Y, X)``, and blocks over it."""
    strength = _local_strength(blocks, shape)
    relative = _enlarged(strength, shape)
    return strength, relative, blocks.over(at(blocks, relative))


def at(blocks: Blocks, places: Array) -> Array:
    """Return what places ``(N, Y, X)`` hold in the middle of each block."""
    plane, row, column = blocks.place.T * np.array([[1], [STEP], [STEP]])
    found: Array = places[plane, row + EDGE // 2, column + EDGE // 2]
    return found


def alike(blocks: Blocks) -> float:
    """Count the share of the blocks that have no more power than the least of them may have by chance."""
    power = blocks.power.mean(axis=(1, 2))
    scatter = scatter_of(measured_power(blocks, FEW))
    least = np.quantile(power, LEAST) / max(1 - LEAST_SCORE * scatter, 0.05)
    return float(np.mean(power <= least * (1 + 2 * scatter)))


def scatter_of(spectrum: Array) -> float:
    """Relative standard deviation of a block's power under noise of a spectrum."""
    total = float(spectrum.sum())
    return math.sqrt(2 * float((spectrum**2).sum())) / total if total > 0 else 0.0


def _local_strength(blocks: Blocks, shape: tuple[int, ...]) -> Array:
    """Measure where the noise is strong: its standard deviation in cells ``(N, rows, columns)``, 1 in the median.

    In each cell the flattest quarter of the blocks counts, at the finest frequencies, unless they hold
    content. Through the cells' logarithms goes a smooth surface, as the noise of a scanner varies.
    """
    steps = (shape[0], *((n - EDGE) // STEP + 1 for n in shape[1:]))
    # A cell has as many blocks, of however many planes.
    depth = math.ceil(CELL**2 * shape[0] / len(blocks))
    cells = tuple(max(1, round(n / edge)) for n, edge in zip(steps, (depth, CELL, CELL), strict=True))
    place = [np.minimum(p * m // n, m - 1) for p, m, n in zip(blocks.place.T, cells, steps, strict=True)]
    cell = np.ravel_multi_index(place, cells)
    order = np.argsort(cell, kind="stable")
    band = finest(blocks)
    fine, coarse = np.zeros(cells), np.zeros(cells)
    for index in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        group = blocks[index]
        if len(group) < CELL:
            continue
        at = np.unravel_index(cell[index[0]], cells)
        for judge, measure in HALVES:
            power = group.power[group.flattest(judge, 0.25, CELL)].mean(axis=0)
            fine[at] += power[measure & band].mean()
            coarse[at] += power[measure & ~band].mean()
    known = fine > 0
    if known.sum() < 2 * CELL:
        return np.ones(cells)
    steep = coarse / np.where(known, fine, 1.0)
    known &= steep <= STEEP * np.quantile(steep[known], 0.2)
    logs = _surface(np.log(np.where(known, fine, 1.0)) / 2, known)
    found: Array = np.clip(np.exp(logs - np.median(logs[known])), 1 / UNEVEN, UNEVEN)
    return found


def _surface(logs: Array, known: NDArray[np.bool_]) -> Array:
    """Fit a smooth surface from below: what is far above it is content."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in logs.shape), indexing="ij")
    degree = 4 if known.sum() >= 60 else 2
    terms = [x**i * y**j for i in range(degree + 1) for j in range(degree + 1 - i)]
    if len(logs) > 2:
        terms += [z, z**2]
    design = np.stack(terms, axis=-1)
    inner, values = design[known], logs[known]
    weight = np.ones_like(values)
    for _ in range(8):
        root = np.sqrt(weight)
        fit = np.linalg.lstsq(inner * root[:, None], values * root, rcond=None)[0]
        off = values - inner @ fit
        scale = 1.4826 * float(np.median(np.abs(off - np.median(off)))) + 1e-12
        weight = (scale / np.maximum(off, scale)) ** 2
    low, high = np.quantile(inner @ fit, (0.01, 0.99))
    surface: Array = np.clip(design @ fit, low, high)
    return surface


def _enlarged(cells: Array, shape: tuple[int, ...]) -> Array:
    """Interpolate what is known of the cells of an image at its pixels."""
    from scipy.ndimage import map_coordinates

    inner = (shape[0], *(n - EDGE + STEP for n in shape[1:]))
    first = (0.0, (EDGE - STEP) / 2, (EDGE - STEP) / 2)
    where = [
        (np.arange(n) - low + 0.5) * m / size - 0.5
        for n, low, size, m in zip(shape, first, inner, cells.shape, strict=True)
    ]
    found: Array = map_coordinates(cells, np.meshgrid(*where, indexing="ij"), order=1, mode="nearest")
    return found
