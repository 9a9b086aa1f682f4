"""What of an image's metadata a format does not hold: said beforehand, never dropped in silence."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from dip_sci.image import Image
    from dip_sci.io.registry import Format

ALL = frozenset({"affine", "spacing", "unitless", "time", "valid", "channels", "own"})
DICOM = ("the DICOM attributes (patient, study, acquisition)",)


def sentences(path: Path, image: Image, form: Format) -> tuple[str, ...]:
    """Return one sentence on what a file of `form` at `path` would not hold of `image`, or nothing."""
    kept = _kept(path, image, form)
    lost = [what for part, what in _present(image) if part not in kept]
    lost += image.source.header.get("lost", ())
    if "own" not in kept:
        lost += DICOM if image.source.format == "dicom" else image.source.header.get("own", ())
    return (f"Not kept in {form.title}: {'; '.join(lost)}.",) if lost else ()


def _kept(path: Path, image: Image, form: Format) -> frozenset[str]:
    """Return which parts a format's files hold; ``own`` is the source's metadata, for its own format."""
    module = import_module(form.module)
    if hasattr(module, "keeps"):
        kept: frozenset[str] = module.keeps(path, image)
        return kept
    given: frozenset[str] | None = getattr(module, "KEEPS", None)
    if given is not None:
        return given
    # A format that says nothing is taken to give back what it read, and of others what every image has.
    return ALL if form.name == image.source.format else ALL - {"own", "channels"}


def _present(image: Image) -> list[tuple[str, str]]:
    """Return what an image has beside its values, by the name of the part."""
    found = []
    if image.affine is not None:
        found.append(("affine", "its orientation and position in the patient"))
    spatial = [(s, u) for a, s, u in zip(image.axes, image.spacing, image.units, strict=True) if a in "ZYX" and s]
    if spatial:
        found.append(("spacing", "the voxel size"))
    if any(u is None for _, u in spatial):
        found.append(("unitless", "the voxel size (its unit is not known)"))
    if image.spacing_of("T") is not None:
        found.append(("time", "the time between frames"))
    if image.valid is not None and not image.valid.all():
        found.append(("valid", "the mark of voxels that are padding"))
    if image.source.channels and "C" in image.axes:
        found.append(("channels", "the names of the channels"))
    return found
