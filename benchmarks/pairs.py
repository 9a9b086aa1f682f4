"""Noisy images with their truth, built the same way for every benchmark.

The files lie in the folder named by the environment variable ``DIP_SCI_DATA``. How each truth is made:

========== ========= ===========================================================================================
group      truth fit truth
========== ========= ===========================================================================================
fmd        no        mean of 50 confocal shots of the same field
w2s        yes       mean of 400 widefield shots; noisy and truth were stretched to 8 bit each on its own
flim       yes       mean of 5 two-photon shots, not of the noisy one: the two share no noise, though stripes of hum
phasor     no        its two coordinates of the decay's phase, where there is light
oct        yes       registered mean of repeated B-scans
bacteria   yes       mean of many widefield shots
lcd        no        mean of the repeats at 55 and 100 % dose without the noisy ones, weighted by dose. The clean phantom
                     is no truth here: its edges are sharper than filtered back-projection can draw, so it caps every
                     method at 33 dB
mayo       no        the full-dose slice (quarter dose was simulated from it); measured in the soft-tissue window
m4raw      yes       mean of the repeats before and after: the head drifts by a third of a pixel from one to the next,
                     and so stays in place; 8-bit files, each stretched on its own
brainweb   no        the noise-free phantom, Rician noise of 3, 7, 11 % of its maximum; measured in the foreground
cset9      no        the picture, white noise of SD 25, not clipped; `cset9_s5`, `_s10`, `_s15`, `_s50`: of SD 5 to 50
set12      no        the same, grey
cset9_*    no        noise of SD 20 that the colours share: `_jpeg`: white, then whole numbers from 0 to 255, then JPEG of quality
                     85, whose colours are half as fine; `_mixed`: white, mixed by a camera's colour matrix; `_shot`: of photons,
                     60 at 255, mixed likewise
set12_rgb  no        `set12` three times over: a grey picture saved in colour
set14_*    no        the 14 pictures of Set14, grey: `_s5`, `_s15`: white noise of that SD; `_rising`: from SD 8 at the left
                     to 40 at the right; `_magnitude_5`, `_12`: Rician noise of 5, 12 % of 255; `_shared_15`, `_25`: SD 25 or
                     15 that neighbours share (FWHM 1.5, 2.5 pixels); `_mottled`: SD 12 that they share (2.5) over white noise
                     of SD 8, as in computed tomography with a sharp kernel; `_cut`: SD 50, cut off at 0 and 255, whole numbers;
                     `_turned`: white noise of SD 20, then turned by 7 degrees, bilinear
finer_*    no        slices of three brains (BrainWeb, mean of 152, 7 T), as scanners hand them out, interpolated: complex
                     noise of SD 12 (of 255), only the middle of the spectrum kept, the rest 0, magnitude (`finer_13`, `_15`,
                     `_20`: the voxels 1.33, 1.5, 2 times finer than measured); `finer_volume`: BrainWeb's by 1.5 along Y and X
parallel   no        the same brains as parallel imaging shows them: Rician noise of SD 8 in the background, 1.5 or 2.5 times as
                     strong in the middle (`_15`, `_25`)
movie_*    no        series of 16 frames of 128²: `_still`: nothing moves; `_drift`: all does, by 1.5 to 3 pixels a frame; `_spots`:
                     vesicles or flashes before cells that stay (all under 20 photons and read noise, or SD 20); `_brain`:
                     planes of BrainWeb one after another, SD 20; `_real`: measured frames, the truth is the mean of others
thick_5    no        slices of 4 mm of three brains, the mean of four thin ones, Rician noise of 5 %
counts     no        whole photons, at most 1, 3 or 10 a voxel (`counts_1`, `_3`, `_10`), behind the truths of `fmd`, every
                     third of `w2s`, and three grey pictures
camera     no        the same of 5, 20 or 60 photons at most, read by a camera: 12 grey levels a photon, offset 100, read noise 15
ground     no        400 or 600 photons at most behind `fmd` and `w2s` stretched to 0, read noise .5, cut off at 0: where there
                     are three or four in the dark, they scatter as magnitudes without signal do
========== ========= ===========================================================================================

A fitted truth is ``a * truth + b`` with `a` and `b` from least squares over the crop: what is left is noise alone, and
every image keeps the noisy one's units. PSNR is over the truth's own range in the crop, except for the 8-bit pictures,
where it is over 255 as everywhere in print.

What no method can mend: three `fmd` truths lie 0.3 to 0.5 pixels off the noisy shot (a perfect estimate of that shot has
45, 38 and 35 dB on BPAE_B, _G and _R), `fmd` shots are up to 9 % brighter than the mean (bleaching), and ``oct/1``
shows another section than its truth.
"""

from __future__ import annotations

import io
import math
import os
import re
import zlib
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel
import numpy as np
import pydicom
import scipy.io
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate
from skimage.metrics import structural_similarity

from benchmarks import series

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

Array = np.ndarray[Any, np.dtype[np.float32]]
Kind = Literal["white", "counts", "correlated", "rician", "speckle"]

SOFT_TISSUE = (-200.0, 300.0)
PICTURE_SDS = (25, 5, 10, 15, 50)
PHOTONS, CAMERA_PHOTONS, GROUND_PHOTONS = (1, 3, 10), (5, 20, 60), (400, 600)
FINER = (1.33, 1.5, 2.0)
CAMERA = ((1.6, -0.45, -0.15), (-0.3, 1.5, -0.2), (-0.05, -0.55, 1.6))
COUNTED = ("set12/01", "set12/02", "set12/08")
BRAINWEB_SHAPE = (64, 128, 128)
VOLUMES = ("brainweb", "finer_volume", *series.SERIES)


@dataclass(frozen=True, eq=False)
class Pair:
    """A noisy image and its truth, on the same grid and in the same units.

    Attributes
    ----------
    name
        Unique over all groups, for instance ``"fmd/BPAE_R"``.
    noisy, truth
        float32, shape ``(Y, X)``, ``(Y, X, 3)`` for colour, ``(Z, Y, X)`` for a volume.
    data_range
        The range that PSNR and SSIM are taken over.
    ndim
        Number of spatial axes.
    crop
        Side of the centred crop it was asked for; ``None``: whole, as volumes always are.
    spacing
        Distance between samples along each spatial axis, in millimetres; ``None`` where unknown.
    kind
        ``"white"`` noise of one SD, ``"counts"`` whose variance grows with the signal, ``"correlated"`` between
        neighbours, or ``"rician"``.
    window
        Values are clipped to it before they are compared; ``None``: not clipped.
    mask
        Where values are compared; ``None``: everywhere.
    axes
        Their names, where they are not those of space.
    """

    name: str
    noisy: Array
    truth: Array
    data_range: float
    ndim: int
    crop: int | None = None
    spacing: tuple[float, ...] | None = None
    kind: Kind = "white"
    window: tuple[float, float] | None = None
    mask: NDArray[np.bool_] | None = None
    axes: str | None = None

    @property
    def group(self) -> str:
        """The data set."""
        return group_of(self.name)

    @property
    def colour(self) -> bool:
        """Whether the last axis holds colour samples."""
        return self.truth.ndim > self.ndim

    def psnr(self, estimate: NDArray[Any]) -> float:
        """Peak signal-to-noise ratio of an estimate of the truth, in dB."""
        error = np.square(self._clip(estimate) - self._clip(self.truth), dtype=np.float64)
        mse = error.mean() if self.mask is None else error[self.mask].mean()
        return 10 * math.log10(self.data_range**2 / mse)

    def ssim(self, estimate: NDArray[Any]) -> float:
        """Structural similarity of an estimate of the truth, 7-sample windows (scikit-image); of a series, frame by frame."""
        truth, found = self._clip(self.truth), self._clip(estimate).astype(np.float32)
        frames = zip(truth, found, strict=True) if self.axes else [(truth, found)]
        similarity = np.squeeze(np.stack([self._similarity(*frame) for frame in frames]))
        return float(similarity.mean() if self.mask is None else similarity[self.mask].mean())

    def _similarity(self, truth: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
        axis = -1 if self.colour else None
        _, found = structural_similarity(truth, found, data_range=self.data_range, channel_axis=axis, full=True)
        return found

    def _clip(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.window is None else np.clip(values, *self.window)


def group_of(name: str) -> str:
    """Return the group of a pair's name: what stands before the slash, and the noise's SD where it stands at the end."""
    head, _, stem = name.partition("/")
    sd = re.search(r"_s\d+$", stem)
    return head + (sd.group() if sd else "")


def pairs(
    root: Path | None = None, group: str | Collection[str] | None = None, crop: int | None = None
) -> Iterator[Pair]:
    """Yield the pairs of the named groups, each read when its turn comes.

    Parameters
    ----------
    root
        The data folder; the one that ``DIP_SCI_DATA`` names by default.
    group
        Name or names out of `GROUPS`; all of them by default.
    crop
        Side of a centred crop; volumes and smaller images stay whole.

    Raises
    ------
    ValueError
        If a group is unknown.
    KeyError
        If neither `root` nor ``DIP_SCI_DATA`` says where the data are.
    """
    root = Path(os.environ["DIP_SCI_DATA"]) if root is None else root
    names = GROUPS if group is None else [group] if isinstance(group, str) else group
    unknown = sorted(set(names) - set(GROUPS))
    if unknown:
        raise ValueError(f"No group is named {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
    return chain.from_iterable(GROUPS[name](root, crop) for name in names)


def _pair(
    name: str,
    noisy: NDArray[Any],
    truth: NDArray[Any],
    crop: int | None,
    *,
    fit: bool = False,
    data_range: float | None = None,
    window: tuple[float, float] | None = None,
    foreground: bool = False,
    **rest: Any,
) -> Pair:
    ndim = rest.setdefault("ndim", 2)
    crop = crop if ndim == 2 else None
    noisy, truth = (_centre(a.astype(np.float64), crop) for a in (noisy, truth))
    if fit:
        truth = _fitted(truth, noisy)
    if data_range is None:
        data_range = float(np.ptp(truth if window is None else np.clip(truth, *window)))
    return Pair(
        name=name,
        crop=crop,
        noisy=noisy.astype(np.float32),
        truth=truth.astype(np.float32),
        data_range=data_range,
        window=window,
        mask=truth > 0 if foreground else None,
        **rest,
    )


def _centre(array: NDArray[Any], crop: int | None) -> NDArray[Any]:
    if crop is None:
        return array
    starts = [max(0, size - crop) // 2 for size in array.shape[:2]]
    return array[tuple(slice(start, start + crop) for start in starts)]


def _fitted(truth: NDArray[Any], noisy: NDArray[Any]) -> NDArray[Any]:
    slope, offset = np.polyfit(truth.ravel(), noisy.ravel(), 1)
    return slope * truth + offset


def _picture(path: Path) -> NDArray[Any]:
    if path.suffix == ".tif":
        return np.squeeze(tifffile.imread(path))
    with Image.open(path) as file:
        return np.asarray(file)


def _fmd(root: Path, crop: int | None) -> Iterator[Pair]:
    folder = root / "microscopy/fmd_confocal"
    for path in sorted(folder.glob("*_noisy.tif")):
        stem = path.name.removesuffix("_noisy.tif")
        yield _pair(f"fmd/{stem}", _picture(path), _picture(folder / f"{stem}_gt.tif"), crop, kind="counts")


def _w2s(root: Path, crop: int | None) -> Iterator[Pair]:
    folder = root / "microscopy/w2s"
    for path in sorted(folder.glob("input_avg1_*.tif")):
        stem = path.stem.removeprefix("input_avg1_")
        truth = _picture(folder / f"target_avg400_{stem}.tif")
        yield _pair(f"w2s/{stem}", _picture(path), truth, crop, fit=True, kind="counts")


def _flim(root: Path, crop: int | None) -> Iterator[Pair]:
    folder = root / "microscopy/flim_bpae1"
    noisy, truth = (_picture(folder / f"W800_P200_5mW_{k}.tif") for k in ("Ax1_I_t5", "Ax5_I"))
    yield _pair("flim/bpae1", noisy, truth, crop, fit=True, kind="correlated")


def _phasor(root: Path, crop: int | None) -> Iterator[Pair]:
    folder = root / "microscopy/flim_bpae1"
    light = _picture(folder / "W800_P200_5mW_Ax5_I.tif")
    lit = _centre(light > np.quantile(light, 0.3), crop)
    for k in "GS":
        noisy, truth = (_picture(folder / f"W800_P200_5mW_{shots}.tif") for shots in (f"Ax1_{k}_t5", f"Ax5_{k}"))
        yield replace(_pair(f"phasor/{k}", noisy, truth, crop, kind="correlated"), mask=lit)


def _oct(root: Path, crop: int | None) -> Iterator[Pair]:
    for path in sorted((root / "microscopy/oct_duke").glob("*_test.tif")):
        eye = path.name.removesuffix("_test.tif")
        truth = _picture(path.with_name(f"{eye}_average.tif"))
        yield _pair(f"oct/{eye}", _picture(path), truth, crop, fit=True, kind="correlated")


def _bacteria(root: Path, crop: int | None) -> Iterator[Pair]:
    folder = root / "microscopy/bacteria16"
    (truth,) = folder.glob("AVG_*_target.png")
    noisy = _picture(folder / "Noisy_images_avg1_16bit.png")
    yield _pair("bacteria/myxo", noisy, _picture(truth), crop, fit=True, kind="counts")


def _lcd(root: Path, crop: int | None) -> Iterator[Pair]:
    def repeat(dose: str, number: int) -> NDArray[Any]:
        path = root / f"ct/lcd_ct_fbp/dose_{dose}/signal_present/signal_present_{number:03d}.raw"
        return np.fromfile(path, "<i2").reshape(256, 256)

    means = {dose: np.mean([repeat(dose, number) for number in range(2, 11)], axis=0) for dose in ("055", "100")}
    truth = (0.55 * means["055"] + means["100"]) / 1.55
    for dose in ("010", "055", "100"):
        yield _pair(f"lcd/dose_{dose}", repeat(dose, 1), truth, crop, kind="correlated")


def _mayo(root: Path, crop: int | None) -> Iterator[Pair]:
    for path in sorted((root / "ct/mayo_L286").glob("quarter_*.IMA")):
        number = path.stem.removeprefix("quarter_")
        noisy, truth = (pydicom.dcmread(path.with_name(f"{dose}_{number}.IMA")) for dose in ("quarter", "full"))
        spacing = tuple(float(step) for step in noisy.PixelSpacing)
        yield _pair(
            f"mayo/{number}",
            _hounsfield(noisy),
            _hounsfield(truth),
            crop,
            spacing=spacing,
            kind="correlated",
            window=SOFT_TISSUE,
        )


def _hounsfield(dataset: pydicom.Dataset) -> NDArray[Any]:
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def _m4raw(root: Path, crop: int | None) -> Iterator[Pair]:
    for path in sorted((root / "mri/m4raw_T1").glob("*_T102_slice_*.png")):
        others = [_picture(path.with_name(path.name.replace("_T102_", f"_{k}_"))) for k in ("T101", "T103")]
        stem = path.stem.rpartition("_")[2]
        truth = np.mean(others, axis=0)
        yield _pair(f"m4raw/slice_{stem}", _picture(path), truth, crop, fit=True, kind="correlated")


def _brainweb(root: Path, crop: int | None) -> Iterator[Pair]:
    volume = scipy.io.loadmat(root / "mri/brainweb/T1data.mat")["ima"].astype(np.float64)
    starts = [(size - cut) // 2 for size, cut in zip(volume.shape, BRAINWEB_SHAPE, strict=True)]
    truth = volume[tuple(slice(s, s + cut) for s, cut in zip(starts, BRAINWEB_SHAPE, strict=True))]
    for percent in (3, 7, 11):
        rng = np.random.default_rng(percent)
        real, imaginary = rng.normal(0, percent / 100 * volume.max(), (2, *truth.shape))
        noisy = np.hypot(truth + real, imaginary)
        yield _pair(
            f"brainweb/rician_{percent:02d}",
            noisy,
            truth,
            crop,
            foreground=True,
            ndim=3,
            spacing=(1.0, 1.0, 1.0),
            kind="rician",
        )


def _pictures(group: str, sd: int, root: Path, crop: int | None) -> Iterator[Pair]:
    for number, path in enumerate(sorted((root / "classic" / group).glob("*.png"))):
        truth = _picture(path).astype(np.float64)
        name, seed = f"{group}/{path.stem.removeprefix('image_')}", number
        if sd != PICTURE_SDS[0]:  # the first keeps the name and the seed that older figures were measured with
            name += f"_s{sd}"
            seed = zlib.crc32(name.encode())
        noisy = truth + np.random.default_rng(seed).normal(0, sd, truth.shape)
        yield _pair(name, noisy, truth, crop, data_range=255.0)


def _jpeg(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    file = io.BytesIO()
    whole = np.clip(np.rint(_white(truth, rng, 20)), 0, 255).astype(np.uint8)
    Image.fromarray(whole).save(file, "JPEG", quality=85)
    with Image.open(file) as picture:
        return np.asarray(picture).astype(np.float64)


def _mixed(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    matrix = np.array(CAMERA)
    # Its rows have 1 as their sum: white stays white.
    return truth + rng.normal(0, 20 / np.sqrt(np.square(matrix).sum(axis=1).mean()), truth.shape) @ matrix.T


def _shot(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    photons = rng.poisson(truth / 255 * 60)
    return truth + (photons * 255 / 60 - truth) @ np.array(CAMERA).T


def _coloured(
    group: str, add: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]], root: Path, crop: int | None
) -> Iterator[Pair]:
    for path in sorted((root / "classic/cset9").glob("*.png")):
        name = f"{group}/{path.stem.removeprefix('image_')}"
        truth = _centre(_picture(path).astype(np.float64), crop)
        noisy = add(truth, np.random.default_rng(zlib.crc32(name.encode())))
        yield _pair(name, noisy, truth, crop, data_range=255.0)


def _in_colour(root: Path, crop: int | None) -> Iterator[Pair]:
    for pair in _pictures("set12", PICTURE_SDS[0], root, None):
        noisy, truth = (np.repeat(part[..., None], 3, axis=-1) for part in (pair.noisy, pair.truth))
        yield _pair(pair.name.replace("set12", "set12_rgb"), noisy, truth, crop, data_range=255.0)


def _white(truth: NDArray[Any], rng: np.random.Generator, sd: float) -> NDArray[Any]:
    return truth + rng.normal(0, sd, truth.shape)


def _rising(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return truth + rng.normal(0, np.linspace(8, 40, truth.shape[1]), truth.shape)


def _magnitude(truth: NDArray[Any], rng: np.random.Generator, percent: float) -> NDArray[Any]:
    real, imaginary = rng.normal(0, percent / 100 * 255, (2, *truth.shape))
    return np.hypot(truth + real, imaginary)


def _shared(truth: NDArray[Any], rng: np.random.Generator, sd: float, fwhm: float) -> NDArray[Any]:
    noise = gaussian_filter(rng.normal(size=truth.shape), fwhm / math.sqrt(8 * math.log(2)), mode="wrap")
    return truth + sd / noise.std() * noise


def _mottled(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return _white(_shared(truth, rng, 12, 2.5), rng, 8)


def _cut(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return np.clip(np.rint(_white(truth, rng, 50)), 0, 255)


def _hot(truth: NDArray[Any], rng: np.random.Generator, share: float) -> NDArray[Any]:
    """White noise, and a share of the voxels brighter by anything between a few times that and far out of range."""
    hot = rng.random(truth.shape) < share
    return _white(truth, rng, 15) + hot * rng.uniform(100, 1000, truth.shape)


def _columns(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """White noise, and columns with offsets of their own."""
    return _white(truth, rng, 10) + rng.normal(0, 6, (1, truth.shape[1]))


def _heavy(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Noise of Student's law with three degrees of freedom, of standard deviation 15."""
    return truth + 15 / math.sqrt(3) * rng.standard_t(3, truth.shape)


def _photons(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Count a thousand photons where a picture is white."""
    return np.rint(rng.poisson(truth * 1000 / 255) * 255 / 1000)


def _speckled(truth: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Intensities of coherent light or sound, mean of 25 looks: noise of a fifth of the signal."""
    return truth * rng.gamma(25, 1 / 25, truth.shape)


def _set14(
    group: str,
    add: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]],
    kind: Kind,
    root: Path,
    crop: int | None,
) -> Iterator[Pair]:
    for stem, truth in _grey(root, crop):
        name = f"{group}/{stem}"
        noisy = add(truth, np.random.default_rng(zlib.crc32(name.encode())))
        yield _pair(name, noisy, truth, crop, data_range=255.0, kind=kind)


def _turned(root: Path, crop: int | None) -> Iterator[Pair]:
    for stem, picture in _grey(root, crop):
        name = f"set14_turned/{stem}"
        noisy, truth = (
            rotate(values, 7, reshape=False, order=1, mode="reflect")
            for values in (_white(picture, np.random.default_rng(zlib.crc32(name.encode())), 20), picture)
        )
        yield _pair(name, noisy, truth, crop, data_range=255.0, kind="correlated")


def _grey(root: Path, crop: int | None) -> Iterator[tuple[str, NDArray[Any]]]:
    for path in sorted((root / "classic/set14").glob("*.bmp")):
        with Image.open(path) as file:
            yield path.stem, _centre(np.asarray(file.convert("L")).astype(np.float64), crop)


def _interpolated(truth: NDArray[Any], rng: np.random.Generator, factor: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return magnitudes with noise of SD 12 and without, of which 1 / factor was measured along Y and X."""
    kept = np.ones(1)
    for axis in (-2, -1):
        frequency = np.abs(np.fft.fftfreq(truth.shape[axis])) < 0.5 / factor
        kept = kept * (frequency[:, None] if axis == -2 else frequency)
    signal, noise = (
        np.fft.ifft2(np.fft.fft2(part) * kept)
        for part in (truth, rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))
    )
    return np.abs(signal.real + 12 / noise.real.std() * noise), np.abs(signal.real)


def _brains(root: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    folder = root / "mri"
    yield "brainweb", scipy.io.loadmat(folder / "brainweb/T1data.mat")["ima"][:, :, 90]
    mean = nibabel.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    yield "mean152", np.asarray(mean.dataobj[:, :, 90])  # type: ignore[attr-defined]
    yield "7t", pydicom.dcmread(sorted((folder / "studyforrest_t1").glob("*.dcm"))[32]).pixel_array


def _finer(group: str, factor: float, root: Path, crop: int | None) -> Iterator[Pair]:
    for stem, slice_ in _brains(root):
        name, truth = f"{group}/{stem}", _centre(slice_.astype(np.float64) * 255 / slice_.max(), crop)
        noisy, truth = _interpolated(truth, np.random.default_rng(zlib.crc32(name.encode())), factor)
        yield _pair(name, noisy, truth, crop, data_range=255.0, kind="rician")


def _parallel(root: Path, crop: int | None) -> Iterator[Pair]:
    """Noise of SD 8 that coils unfold: as many times as strong in the middle as a g-factor says."""
    for stem, slice_ in _brains(root):
        truth = _centre(slice_.astype(np.float64) * 255 / slice_.max(), crop)
        y, x = (np.linspace(-1, 1, n) for n in truth.shape)
        middle = np.exp(-(y[:, None] ** 2 + x**2) / 0.3)
        for factor in (1.5, 2.5):
            name = f"parallel/{stem}_{factor * 10:.0f}"
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            sd = 8 * (1 + (factor - 1) * middle)
            noisy = np.hypot(truth + sd * rng.normal(size=truth.shape), sd * rng.normal(size=truth.shape))
            yield _pair(name, noisy, truth, crop, data_range=255.0, kind="rician")


def _finer_volume(root: Path, crop: int | None) -> Iterator[Pair]:
    volume = scipy.io.loadmat(root / "mri/brainweb/T1data.mat")["ima"].astype(np.float64)
    truth = volume[60:108] * 255 / volume.max()
    noisy, truth = _interpolated(truth, np.random.default_rng(0), 1.5)
    yield _pair(
        "finer_volume/brainweb", noisy, truth, crop, data_range=255.0, ndim=3, spacing=(1.0, 1.0, 1.0), kind="rician"
    )


def _counts(peak: int, root: Path, crop: int | None) -> Iterator[Pair]:
    pictures = (p for p in _pictures("set12", PICTURE_SDS[0], root, None) if p.name in COUNTED)
    for source in (*_fmd(root, None), *list(_w2s(root, None))[::3], *pictures):
        name = f"counts_{peak}/{source.name.replace('/', '_')}"
        light = np.clip(source.truth.astype(np.float64), 0, None)
        light *= peak / light.max()
        photons = np.random.default_rng(zlib.crc32(name.encode())).poisson(light)
        yield _pair(name, photons, light, crop, kind="counts")


def _ground(peak: int, root: Path, crop: int | None) -> Iterator[Pair]:
    for source in (*_fmd(root, None), *_w2s(root, None)):
        name = f"ground_{peak}/{source.name.replace('/', '_')}"
        rng, truth = np.random.default_rng(zlib.crc32(name.encode())), source.truth.astype(np.float64)
        light = peak * (truth - truth.min()) / np.ptp(truth)
        noisy = np.maximum(rng.poisson(light) + rng.normal(0, 0.5, light.shape), 0)
        yield _pair(name, noisy, light, crop, kind="counts")


def _series(group: str, root: Path, crop: int | None) -> Iterator[Pair]:
    thick = group.startswith("thick")
    axes, spacing = ("ZYX", (4.0, 1.0, 1.0)) if thick else ("TYX", None)
    for name, noisy, truth, kind in series.SERIES[group](root):
        yield _pair(name, noisy, truth, crop, ndim=3, kind=kind, axes=axes, spacing=spacing)


def _camera(peak: int, root: Path, crop: int | None) -> Iterator[Pair]:
    for pair in _counts(peak, root, crop):
        name = pair.name.replace("counts", "camera")
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noisy = 12 * pair.noisy + 100 + rng.normal(0, 15, pair.noisy.shape)
        yield _pair(name, np.rint(noisy), 12 * pair.truth + 100, crop, kind="counts")


SET14: dict[str, tuple[Callable[[NDArray[Any], np.random.Generator], NDArray[Any]], Kind]] = {
    "set14_s5": (partial(_white, sd=5), "white"),
    "set14_s15": (partial(_white, sd=15), "white"),
    "set14_rising": (_rising, "white"),
    "set14_magnitude_5": (partial(_magnitude, percent=5), "rician"),
    "set14_magnitude_12": (partial(_magnitude, percent=12), "rician"),
    "set14_shared_15": (partial(_shared, sd=25, fwhm=1.5), "correlated"),
    "set14_shared_25": (partial(_shared, sd=15, fwhm=2.5), "correlated"),
    "set14_mottled": (_mottled, "correlated"),
    "set14_cut": (_cut, "white"),
    "set14_hot": (partial(_hot, share=0.002), "white"),
    "set14_hotter": (partial(_hot, share=0.01), "white"),
    "set14_heavy": (_heavy, "white"),
    "set14_columns": (_columns, "white"),
    "set14_photons": (_photons, "counts"),
    "set14_speckled": (_speckled, "speckle"),
}

GROUPS: dict[str, Callable[[Path, int | None], Iterator[Pair]]] = {
    "fmd": _fmd,
    "w2s": _w2s,
    "flim": _flim,
    "phasor": _phasor,
    "oct": _oct,
    "bacteria": _bacteria,
    "lcd": _lcd,
    "mayo": _mayo,
    "m4raw": _m4raw,
    "brainweb": _brainweb,
    **{
        group if sd == PICTURE_SDS[0] else f"{group}_s{sd}": partial(_pictures, group, sd)
        for sd in PICTURE_SDS
        for group in ("cset9", "set12")
    },
    **{f"counts_{peak}": partial(_counts, peak) for peak in PHOTONS},
    **{f"camera_{peak}": partial(_camera, peak) for peak in CAMERA_PHOTONS},
    **{f"ground_{peak}": partial(_ground, peak) for peak in GROUND_PHOTONS},
    **{name: partial(_set14, name, add, kind) for name, (add, kind) in SET14.items()},
    **{f"finer_{factor * 10:.0f}": partial(_finer, f"finer_{factor * 10:.0f}", factor) for factor in FINER},
    "set14_turned": _turned,
    "cset9_jpeg": partial(_coloured, "cset9_jpeg", _jpeg),
    "cset9_mixed": partial(_coloured, "cset9_mixed", _mixed),
    "cset9_shot": partial(_coloured, "cset9_shot", _shot),
    "cset9_cut": partial(_coloured, "cset9_cut", _cut),
    "set12_rgb": _in_colour,
    "finer_volume": _finer_volume,
    "parallel": _parallel,
    **{group: partial(_series, group) for group in series.SERIES},
}
