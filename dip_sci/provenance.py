"""The record of a run: enough to repeat it, nothing about the patient."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

from dip_sci.tasks import DONE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dip_sci.image import Image
    from dip_sci.restoration import Report

LIBRARIES = ("dip-sci", "torch", "numpy", "scipy", "nibabel", "pydicom", "tifffile", "zarr")
CURVE = 500


def record(image: Image, report: Report, *, digest: str | None = None) -> dict[str, Any]:
    """Describe a restoration as plain JSON values.

    Parameters
    ----------
    image
        The input. Its path is left out: file names may hold patient data.
    report
        How the restoration came about.
    digest
        Hash of the input's files, from `digest`.

    Returns
    -------
    dict
        Recipe, reasons, seed, versions, input, stop reason, times. Curves are thinned to 500 points.
    """
    return {
        **conversion(image, digest=digest),
        "task": report.task,
        "asked": report.asked,
        "recipe": report.recipe.model_dump(mode="json"),
        "seed": report.recipe.seed,
        "decided": report.reasons,
        "noise": list(report.noise),
        "stop_reason": report.reason.name,
        "stop_sentence": report.reason.value,
        "complete": report.complete,
        "steps": report.steps,
        "best_step": report.best_step,
        "data_terms": _thinned(report.data_terms),
        "stop_curve": [list(point) for point in _thinned(report.stop_curve)],
        "weights": report.weights,
        "risks": report.risks,
        "clipped_voxels": report.clipped,
        "seconds": round(report.seconds, 2),
        "memory_bytes": report.memory,
        "device": report.device,
        "notes": list(report.notes),
        "advice": list(report.advice),
    }


def summary(report: Report) -> str:
    """Say in one line how a restoration came about, for file formats that keep such a line.

    Parameters
    ----------
    report
        How the restoration came about.

    Returns
    -------
    str
        Method, version, seed, steps and noise model; no path, no user, no patient.

    Examples
    --------
    >>> dip_sci.write("clean", result.image, description=summary(result.report))  # doctest: +SKIP
    """
    recipe = report.recipe
    taught = recipe.supervision.recorrupt if recipe.supervision.kind == "recorrupted" else recipe.supervision.kind
    method = f"{recipe.generator.kind} {recipe.generator.ndim}, supervision {taught}"
    made_of = ", ".join(f"{name} {weight:.2f}" for name, weight in report.weights.items() if weight > 0)
    parts = [
        f"{DONE[report.task]} by dip-sci {_version('dip-sci')}: deep image prior, {method}, {report.steps} steps",
        f"seed {recipe.seed}",
        f"blend of {made_of}" if made_of else "",
        *report.noise,
    ]
    return "; ".join(part.rstrip(".") for part in parts if part)


def conversion(image: Image, *, digest: str | None = None) -> dict[str, Any]:
    """Describe an image that was read, and what made the record; the image's notes say what was not kept."""
    return {
        "made_by": "dip-sci",
        "versions": {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "input": {
            "sha256": digest,
            "format": image.source.format,
            "axes": image.axes,
            "shape": list(image.shape),
            "dtype": str(image.dtype),
            "spacing": list(image.spacing),
            "units": list(image.units),
        },
        "notes": list(image.source.notes),
    }


def digest(path: Path, files: Iterable[Path] = ()) -> str:
    """Return the SHA-256 of a file, or of the files of a folder in the order of their names.

    Parameters
    ----------
    path
        A file or a folder.
    files
        The files of the folder that count; by default all of them.
    """
    if path.is_file():
        return _digest(path)
    total = hashlib.sha256()
    for file in sorted(files) or sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(bytes.fromhex(_digest(file)))
    return total.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _thinned(values: list[Any]) -> list[Any]:
    stride = max(1, -(-len(values) // CURVE))
    return values[::stride]
