"""Commands that restore one scan: read, restore with a bar, write."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict

from dip_sci import logs
from dip_sci.cli.program import (
    EXIT_OK,
    EXIT_STOPPED,
    AsJson,
    Options,
    Output,
    RecipeFile,
    Switch,
    Verbose,
    app,
    doubted,
    recipe_of,
)
from dip_sci.cli.screen import say, tell, watch
from dip_sci.errors import RecipeError
from dip_sci.job import Job, Opened
from dip_sci.recipe import Recipe


class Common(BaseModel):
    """What all restorations are told besides their recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    output: Output
    """Result; its suffix names the format, without one the scan's own is taken (DICOM: a folder for a derived
    series). A record of the run is written beside it, as .json. For a scan in a BIDS dataset, a name without
    suffix is the folder of the derivatives."""
    recipe: RecipeFile = None
    """YAML or JSON file with options; those given here win."""
    region: Path | None = None
    """Mask on the scan's grid, in any format: only where it is not zero is restored, the rest stays bit-identical,
    unless output.outside is restore: then it only counts more."""
    resample_region: Switch = False
    """Bring masks that lie on another grid onto the scan's, by their nearest voxels."""
    background: Path | None = None
    """Mask on the scan's grid: the noise is measured where it is not zero, where nothing else varies."""
    axes: str | None = None
    """Meaning of the scan's dimensions (for instance TYX), where its file does not say."""
    series: str | None = None
    """Which DICOM series of a folder, or which image of a microscope's file, to read, where there are several."""
    checkpoint: Path | None = None
    """File (.npz) that a long run is saved in on the way; the same command goes on from it if it was cut off."""
    report: Switch = False
    """Draw a report beside the result, as .html."""
    overwrite: bool = False
    """Replace an existing result."""
    verbose: Verbose = False
    """Say what happens."""
    as_json: AsJson = False
    """Print the record of the run, and nothing else."""


Shared = Annotated[Common, Parameter(name="*")]


@app.command
def denoise(source: Path, /, *, common: Shared, options: Options = None) -> int:
    """Remove the noise of one scan.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    """
    return _restore(source, common, options)


@app.command
def inpaint(source: Path, /, *, missing: Path | None = None, common: Shared, options: Options = None) -> int:
    """Fill in the missing voxels of one scan: dead pixels and lines, overlays, holes, missing slices.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    missing
        Mask on the scan's grid, in any format: not zero where to fill. Left out, all values that are not finite are
        filled. The rest stays bit-identical, unless output.known is restore.
    """
    return _restore(source, common, options, name="inpaint", missing=missing)


@app.command
def super_resolve(source: Path, /, *, factor: str, common: Shared, options: Options = None) -> int:
    """Make the voxels of one scan smaller.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    factor
        How many times finer: one whole number for Y and X, or one for each spatial axis in the order of the scan's
        axes (3,1,1 for slices of a volume that are three times too thick).
    """
    return _restore(source, common, options, name="super_resolve", factor=_factors(factor))


@app.command
def fuse(source: Path, /, *, guide: Path, common: Shared, options: Options = None) -> int:
    """Remove the noise of one scan with the help of another one of the same object.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    guide
        Another channel, exposure or modality, in any format. It may lie on another grid where both say where they lie.
    """
    return _restore(source, common, options, name="fuse", guide=guide)


@app.command
def deconvolve(
    source: Path,
    /,
    *,
    psf: Path,
    normalise: Switch = False,
    common: Shared,
    options: Options = None,
) -> int:
    """Undo a known blur of one scan.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    psf
        Image of the point spread function on the scan's grid, in any format: odd sizes, not negative, of sum 1.
    normalise
        Divide the point spread function by its sum first.
    """
    return _restore(source, common, options, name="deconvolve", psf=psf, normalise=normalise)


def _restore(source: Path, common: Common, options: Recipe | None, **task: Any) -> int:
    """Read, restore with a bar, write: what all restorations have in common.

    Parameters
    ----------
    source, common, options
        From the command line.
    task
        What `Job` says of the task.
    """
    given = common.model_dump(exclude={"recipe", "verbose", "as_json"})
    job = Job(source, recipe=recipe_of(common.recipe, options), **given, **task)
    with logs.shown(say, wanted=common.verbose):
        opened, cancel = Opened(job), threading.Event()
        opened.image = doubted(opened.image, common.recipe, job.recipe)
        result = watch(opened.restore(cancel), cancel, quiet=common.as_json)
        record = opened.write(result)
    if common.as_json:
        print(json.dumps(record, indent=1))  # noqa: T201
    else:
        tell(result, opened.target.file)
    return EXIT_OK if result.report.complete or result.report.reason.name == "TIME" else EXIT_STOPPED


def _factors(text: str) -> int | tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"Factors are whole numbers, one or one per axis, as in 4 or 3,1,1; found {text!r}."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers
