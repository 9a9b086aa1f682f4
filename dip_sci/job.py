"""Job: one scan from file to file, the same for the command line and for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dip_sci import __version__, io, provenance
from dip_sci.errors import ReadError
from dip_sci.io.target import Target
from dip_sci.logs import event
from dip_sci.region import on_grid
from dip_sci.tasks import DONE, Deconvolve, Fuse, Inpaint, SuperResolve, Task, normalised

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.progress import Progress
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration


@dataclass(frozen=True)
class Job:
    """What to restore and where to put it: paths and options, never arrays, so that it can be sent anywhere.

    Attributes
    ----------
    source, axes, series
        As `dip_sci.io.read` takes them.
    output
        The result's place, or what `Target.of` makes one of.
    recipe
        Options of the run.
    region, background
        Masks on the scan's grid.
    resample_region
        Bring masks that lie on another grid onto the scan's.
    overwrite
        Replace an existing result.
    files
        The files of the folder `source` that are read; by default all.
    checkpoint
        File that the run's state is saved in on the way, and gone on from; it is gone once the result is written.
    tiles
        Of a large image, do only these of its tiles, and leave them beside the checkpoint (`restore.iter_tiles`).
    report
        Draw a report beside the result.
    name
        What is asked for: the name of a task.
    missing
        To inpaint: mask of the voxels to fill; ``None`` for all that are not finite.
    factor
        To super-resolve: how many times finer.
    guide
        To fuse: another image of the same object.
    psf, normalise
        To deconvolve: image of the point spread function, and whether to divide it by its sum first.
    """

    source: Path
    output: Path | Target
    recipe: Recipe
    axes: str | None = None
    series: str | None = None
    region: Path | None = None
    background: Path | None = None
    resample_region: bool = False
    overwrite: bool = False
    files: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    tiles: slice | None = None
    report: bool = False
    name: Literal["denoise", "inpaint", "super_resolve", "fuse", "deconvolve"] = "denoise"
    missing: Path | None = None
    factor: int | tuple[int, ...] = 1
    guide: Path | None = None
    psf: Path | None = None
    normalise: bool = False


class Opened:
    """A job whose scan is read and whose target is free.

    Raises
    ------
    DipSciError
        If the scan or a mask cannot be read, or the result could not be written.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        image = io.read(job.source, axes=job.axes, series=job.series, lazy=job.name == "denoise")
        self.region = self._mask(image, job.region, "region of interest")
        self.background = self._mask(image, job.background, "background region")
        done = DONE[job.name].lower().replace("-", "")
        self.target = job.output if isinstance(job.output, Target) else Target.of(job.source, job.output, image, done)
        self.image = image.with_notes(*io.not_kept(self.target.file, image))
        self.task = self._task(self.image)
        inputs = [p for p in (job.source, job.region, job.background, job.missing, job.guide, job.psf) if p is not None]
        promised = _promised(self.task.canvas(self.image), job.recipe)
        self.target.refuse(promised, __version__, overwrite=job.overwrite, inputs=inputs)
        event("read", format=image.source.format, axes=image.axes, shape=list(image.shape), dtype=str(image.dtype))

    def _mask(self, image: Image, path: Path | None, name: str) -> Image | None:
        return None if path is None else on_grid(image, io.read(path), resample=self.job.resample_region, name=name)

    def _task(self, image: Image) -> Task:
        job = self.job
        match job.name:
            case "inpaint":
                return Inpaint.of(image, self._mask(image, job.missing, "mask of missing voxels"))
            case "super_resolve":
                return SuperResolve.of(image, job.factor)
            case "fuse":
                return Fuse.of(image, io.read(_needed(job.guide, "guide")))
            case "deconvolve":
                psf = io.read(_needed(job.psf, "point spread function"))
                return Deconvolve.of(image, normalised(psf) if job.normalise else psf)
            case _:
                return Task()

    def restore(self, cancel: threading.Event | None = None) -> Generator[Progress[NDArray[Any]], None, Restoration]:
        """Restore the scan step by step, as `dip_sci.restore.iter_restore` does."""
        from dip_sci.restore import iter_restore

        result = yield from iter_restore(
            self.image,
            self.job.recipe,
            task=self.task,
            region=self.region,
            background=self.background,
            cancel=cancel,
            checkpoint=self.job.checkpoint,
            scratch=self.target.file.parent,
        )
        report = result.report
        event("restored", reason=report.reason.name, steps=report.steps, seconds=report.seconds, device=report.device)
        for option, why in report.reasons.items():
            event("decided", option=option, why=why)
        return result

    def is_shared(self) -> bool:
        """Whether only a part of the work is to be done, and can be."""
        from dip_sci.restore import is_large

        return self.job.tiles is not None and is_large(self.image, self.job.recipe, self.task)

    def make_tiles(self) -> Generator[Progress[NDArray[Any]], None, int]:
        """Do a part of a large image's work, step by step, as `dip_sci.restore.iter_tiles` does."""
        from dip_sci.restore import iter_tiles

        job = self.job
        assert job.tiles is not None
        assert job.checkpoint is not None
        masks = {"region": self.region, "background": self.background}
        count = yield from iter_tiles(self.image, job.recipe, job.tiles, job.checkpoint, **masks)
        event("tiles", first=job.tiles.start, last=job.tiles.stop, of=count)
        return count

    def write(self, result: Restoration) -> dict[str, Any]:
        """Write the result and its record.

        Returns
        -------
        dict
            The record.

        Raises
        ------
        WriteError
            If that cannot be done; the result may be there without its record then.
        """
        from dip_sci import finished, report
        from dip_sci.stopping import StopReason

        digest = provenance.digest(self.job.source, self.job.files)
        record = provenance.record(self.image, result.report, digest=digest)
        said = provenance.summary(result.report)
        self.target.write(result.image, record, overwrite=self.job.overwrite, description=said)
        if self.job.report:
            io.write_text(self.target.report, report.page(self.task.canvas(self.image.loaded()), result, record))
        # Whoever has stopped a run may go on with it.
        if self.job.checkpoint is not None and result.report.reason is not StopReason.CANCELLED:
            finished.remove(self.job.checkpoint)
        event("written", sha256=digest)
        return record


def _needed(path: Path | None, name: str) -> Path:
    if path is None:
        raise ReadError(f"No {name} is given: name its file.")
    return path


def _promised(image: Image, recipe: Recipe) -> Image:
    """Return an image of the kind that will be written, to check the target before the fit."""
    return image.with_array(image.array.astype("float32")) if recipe.output.dtype == "float32" else image
