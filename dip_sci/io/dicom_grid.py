"""The grid of a derived DICOM image where it is finer or coarser than its source's: spacing and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.valuerep import format_number_as_ds

from dip_sci.errors import WriteError
from dip_sci.io.axes import LENGTHS, convert
from dip_sci.io.dicom_planes import ORIENTATION_TOLERANCE, affine_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from dip_sci.image import Image
    from dip_sci.io.dicom_planes import Plane

TOLERANCE = 1e-3
"""How far, in source pixels, a corner may be off before the grid counts as another one."""

IN_PLANE = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def same_grid(image: Image, planes: list[Plane], shape: tuple[int, ...]) -> bool:
    """Whether an image lies on the grid of the planes it was read from.

    Parameters
    ----------
    image
        As it will be written.
    planes
        Of its source, in the image's order.
    shape
        Rows and columns of the source.
    """
    if counts(image) != (len(planes), *shape):
        return False
    before = _affine(planes)
    if image.affine is None or before is None:
        return True
    corners = np.array([[0, 0, 0, 1], [*counts(image)[::-1], 1]])
    off = np.abs((image.affine - before) @ corners.T).max()
    return bool(off <= TOLERANCE * min(planes[0].spacing or (1.0,)))


def _affine(planes: list[Plane]) -> NDArray[np.float64] | None:
    # The step between several planes follows from their positions.
    return affine_of(planes, 1.0 if len(planes) > 1 else None)


def counts(image: Image) -> tuple[int, int, int]:
    """Return the number of planes, rows and columns."""
    return image.size_of(lead(image)), image.size_of("Y"), image.size_of("X")


def lead(image: Image) -> str:
    """Return the axis that counts planes; ``Z`` where there is one plane."""
    return next((a for a in image.axes if a not in "YXS"), "Z")


def nearest(count: int, planes: int) -> NDArray[np.int64]:
    """Return, for each of `count` slices, the slice of the source that lies nearest to it.

    Examples
    --------
    >>> nearest(6, 3).tolist(), nearest(3, 3).tolist()
    ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    """
    places = np.floor((np.arange(count) + 0.5) * planes / count).astype(np.int64)
    return np.asarray(places.clip(0, planes - 1))


def refuse_odd(path: Path, image: Image, planes: list[Plane]) -> None:
    """Raise a `WriteError` where a new grid is turned against its source, or its parts contradict each other."""
    before = _affine(planes)
    if before is not None and image.affine is None:
        raise WriteError(f"{path} cannot be written: the image has a new grid but no affine to say where it lies.")
    if image.affine is None or before is None:
        return
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    for axis, step in zip("XYZ", steps, strict=True):
        said = _millimetres(image, axis)
        if said is not None and abs(said - step) > 1e-3 * step:
            raise WriteError(
                f"{path} cannot be written: along {axis} the image's spacing is {said:.6g} mm, its affine's {step:.6g} mm."
            )
    turned = image.affine[:3, :3] / steps - before[:3, :3] / np.linalg.norm(before[:3, :3], axis=0)
    if np.abs(turned).max() > 10 * ORIENTATION_TOLERANCE:
        raise WriteError(f"{path} cannot be written: the image is turned against the DICOM series it came from.")


def regrid(dataset: Dataset, image: Image, places: list[int], planes: int) -> None:
    """Set a header's rows, columns, spacing and positions to the image's.

    Parameters
    ----------
    dataset
        Changed in place.
    image
        On its new grid.
    places
        Which of the image's planes the file holds, in the order of its frames.
    planes
        Number of planes of the source.
    """
    count, rows, columns = counts(image)
    ratio = (int(dataset.Rows) / rows, int(dataset.Columns) / columns)
    dataset.Rows, dataset.Columns = rows, columns
    _drop_overlays(dataset)
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    for group in (*shared, *frames):
        for item in group.get("PixelMeasuresSequence") or []:
            _rescale(item, image, ratio, planes / count)
    _rescale(dataset, image, ratio, planes / count)
    if count != planes:
        dataset.InstanceNumber = places[0] + 1
        if "SliceLocation" in dataset:
            # Its zero and sign are the scanner's own.
            del dataset.SliceLocation
    if image.affine is None:
        return
    for k, groups in zip(places, frames, strict=False):
        for item in groups.get("PlanePositionSequence") or []:
            item.ImagePositionPatient = _position(image.affine, k)
    if "ImagePositionPatient" in dataset:
        dataset.ImagePositionPatient = _position(image.affine, places[0])


def _position(affine: NDArray[np.float64], k: int) -> list[str]:
    x, y, z = affine[:3] @ (0, 0, k, 1)
    return [format_number_as_ds(float(v)) for v in (-x, -y, z)]


def _rescale(dataset: Dataset, image: Image, in_plane: tuple[float, float], along: float) -> None:
    """Set what is known in millimetres, scale what is not."""
    for name in IN_PLANE:
        if dataset.get(name):
            known = (_millimetres(image, "Y"), _millimetres(image, "X")) if name == "PixelSpacing" else (None, None)
            scaled = [float(v) * ratio for v, ratio in zip(dataset[name].value, in_plane, strict=True)]
            setattr(dataset, name, [format_number_as_ds(float(k or s)) for k, s in zip(known, scaled, strict=True)])
    for name in ("SliceThickness", "SpacingBetweenSlices"):
        if along != 1 and dataset.get(name):
            setattr(dataset, name, format_number_as_ds(float(dataset[name].value) * along))


def _millimetres(image: Image, axis: str) -> float | None:
    step = image.spacing_of(axis)
    unit = image.units[image.axes.index(axis)] if step is not None else None
    return convert(step, unit, "millimeter") if step is not None and unit in LENGTHS else None


def _drop_overlays(dataset: Dataset) -> None:
    for tag in [t for t in dataset.keys() if 0x6000 <= t.group <= 0x60FF]:  # noqa: SIM118
        del dataset[tag]
