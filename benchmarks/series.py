"""Noisy time series and stacks of thick slices with their truth: the sources of the groups `movie_*` and `thick_*`."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import nibabel
import numpy as np
import pydicom
import scipy.io
import tifffile
from PIL import Image
from scipy.ndimage import shift

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FRAMES, EDGE = 16, 128
"""Frames of a simulated series, and the edge of each."""

PHOTONS, SD = 20, 20.0
"""Photons at the brightest voxel of a series; standard deviation of normal noise, of a range of 255."""


class Series(NamedTuple):
    """A series ``(frames, Y, X)``, noisy and as it is."""

    name: str
    noisy: Array
    truth: Array
    kind: str


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _photons(name: str, light: Array) -> Series:
    light = np.clip(light, 0, None) * (PHOTONS / light.max())
    # A camera's gain, offset and read noise: no photons to be counted one by one.
    rng = _rng(name)
    noisy = 12 * rng.poisson(light) + 100 + rng.normal(0, 15, light.shape)
    return Series(name, np.rint(noisy), 12 * light + 100, "counts")


def _normal(name: str, values: Array, sd: float = SD) -> Series:
    values = values * (255 / values.max())
    return Series(name, values + _rng(name).normal(0, sd, values.shape), values, "white")


def _sources(root: Path) -> dict[str, Array]:
    micro = root / "microscopy"
    found = {
        "BPAE_G": tifffile.imread(micro / "fmd_confocal/BPAE_G_gt.tif"),
        "mice": tifffile.imread(micro / "fmd_confocal/mice_gt.tif"),
        "w2s_104_0": tifffile.imread(micro / "w2s/target_avg400_104_0.tif"),
        "w2s_010_1": tifffile.imread(micro / "w2s/target_avg400_010_1.tif"),
    }
    for name, file in {"boat": "10", "couple": "12"}.items():
        with Image.open(root / f"classic/set12/{file}.png") as picture:
            found[name] = np.asarray(picture)
    return {name: np.squeeze(values).astype(np.float64) for name, values in found.items()}


def _window(picture: Array, at: tuple[float, float]) -> Array:
    """Cut a window out of a picture at a place between its pixels."""
    y, x = (int(np.floor(a)) for a in at)
    wide = picture[y - 8 : y + EDGE + 8, x - 8 : x + EDGE + 8]
    found: Array = shift(wide, (y - at[0], x - at[1]), order=3, mode="reflect")[8:-8, 8:-8]
    return found


def still(root: Path) -> Iterator[Series]:
    """Nothing moves."""
    for name, picture in _sources(root).items():
        frames = np.repeat(picture[None, 192 : 192 + EDGE, 192 : 192 + EDGE], FRAMES, axis=0)
        make = _normal if name in ("boat", "couple") else _photons
        yield make(f"movie_still/{name}", frames)


def drift(root: Path) -> Iterator[Series]:
    """All moves, by 1.5 to 3 pixels a frame."""
    for name, picture in _sources(root).items():
        steps = _rng(name).normal(0, 0.3, (FRAMES, 2)).cumsum(axis=0)
        frames = np.stack(
            [_window(picture, (160 + 1.3 * t + dy, 220 - 2.1 * t + dx)) for t, (dy, dx) in enumerate(steps)]
        )
        make = _normal if name in ("boat", "couple") else _photons
        yield make(f"movie_drift/{name}", frames)


def _spots(rng: np.random.Generator, count: int, speed: float) -> Array:
    """Spots that go their ways; they turn back at the border."""
    places = rng.uniform(4, EDGE - 4, (count, 2))
    ways = rng.normal(0, speed, (count, 2))
    widths, lights = rng.uniform(1.2, 3.0, count), rng.uniform(0.3, 1.0, count)
    y, x = np.mgrid[:EDGE, :EDGE]
    frames = np.zeros((FRAMES, EDGE, EDGE))
    for frame in frames:
        for (py, px), width, light in zip(places, widths, lights, strict=True):
            frame += light * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * width**2))
        places += ways + rng.normal(0, 0.5, places.shape)
        out = (places < 4) | (places > EDGE - 4)
        ways[out] *= -1
    return frames


def spots(root: Path) -> Iterator[Series]:
    """Vesicles before cells that stay: slow (1 pixel a frame) and fast (4), and cells that light up one by one."""
    cells = _sources(root)["w2s_010_1"][100 : 100 + EDGE, 100 : 100 + EDGE]
    cells = 0.4 * (cells - cells.min()) / np.ptp(cells) + 0.05
    for name, speed in {"slow": 1.0, "fast": 4.0}.items():
        yield _photons(f"movie_spots/{name}", cells + _spots(_rng(name), 40, speed))
    rng = _rng("flashes")
    y, x = np.mgrid[:EDGE, :EDGE]
    frames = np.repeat(cells[None], FRAMES, axis=0)
    for py, px, begin in zip(*rng.uniform(6, EDGE - 6, (2, 30)), rng.integers(0, FRAMES, 30), strict=True):
        body = np.exp(-((((y - py) ** 2 + (x - px) ** 2) / 36) ** 2))
        for t in range(begin, FRAMES):
            frames[t] += 0.6 * np.exp(-(t - begin) / 3) * body
    yield _photons("movie_spots/flashes", frames)


def brain(root: Path) -> Iterator[Series]:
    """Planes of a brain one after another: all changes its shape."""
    volume = scipy.io.loadmat(root / "mri/brainweb/T1data.mat")["ima"].astype(np.float64)
    start = [(n - EDGE) // 2 for n in volume.shape[1:]]
    frames = volume[60 : 60 + FRAMES, start[0] : start[0] + EDGE, start[1] : start[1] + EDGE]
    yield _normal("movie_brain/brainweb", frames)


def real(root: Path) -> Iterator[Series]:
    """Frames that are measured; the truth is the mean of others, where nothing is known to move."""
    stuck = np.squeeze(tifffile.imread(root / "microscopy/stuck.tif")).astype(np.float64)
    truth = stuck[3:, 128:384, 128:384].mean(axis=0)
    yield Series("movie_real/stuck", stuck[:3, 128:384, 128:384], np.repeat(truth[None], 3, axis=0), "counts")
    run = np.asarray(nibabel.load(root / "mri/sct/fmri.nii.gz").dataobj).astype(np.float64)  # type: ignore[attr-defined]
    plane = np.moveaxis(run[:, :, 3], -1, 0)
    truth = plane[1::2].mean(axis=0)
    yield Series("movie_real/fmri", plane[::2], np.repeat(truth[None], len(plane[::2]), axis=0), "rician")
    calcium = np.squeeze(tifffile.imread(root / "microscopy/calcium_imaging.tif")).astype(np.float64)[:64]
    truth = calcium[1::2].mean(axis=0)
    yield Series("movie_real/calcium", calcium[::2], np.repeat(truth[None], len(calcium[::2]), axis=0), "counts")


def thick(root: Path) -> Iterator[Series]:
    """Slices of 4 mm of three brains, each the mean of thin ones, with Rician noise of 5 % of the maximum."""
    volume = scipy.io.loadmat(root / "mri/brainweb/T1data.mat")["ima"].astype(np.float64)
    mean = nibabel.load(root / "mri/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    files = sorted((root / "mri/studyforrest_t1").glob("*.dcm"))
    brains = {
        "brainweb": volume[50:98],
        "mean152": np.moveaxis(np.asarray(mean.dataobj), -1, 0)[60:108],  # type: ignore[attr-defined]
        "7t": np.stack([pydicom.dcmread(file).pixel_array for file in files])[8:56],
    }
    for stem, thin in brains.items():
        name = f"thick_5/{stem}"
        start = [(n - EDGE) // 2 for n in thin.shape[1:]]
        part = thin[:, start[0] : start[0] + EDGE, start[1] : start[1] + EDGE].astype(np.float64)
        slices = part.reshape(-1, 4, EDGE, EDGE).mean(axis=1)
        slices *= 255 / slices.max()
        re, im = _rng(name).normal(0, 0.05 * 255, (2, *slices.shape))
        yield Series(name, np.hypot(slices + re, im), slices, "rician")


SERIES: dict[str, Any] = {
    "movie_still": still,
    "movie_drift": drift,
    "movie_spots": spots,
    "movie_brain": brain,
    "movie_real": real,
    "thick_5": thick,
}
