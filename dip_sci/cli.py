"""The command line: read, restore with a bar, write."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, CycloptsError, Group, Parameter, validators
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from dip_sci import __version__, io, logs, samples
from dip_sci.errors import DipSciError, RecipeError, WriteError
from dip_sci.io.files import refuse_target
from dip_sci.io.target import Target
from dip_sci.job import Job, Opened
from dip_sci.recipe import Recipe, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from dip_sci.batch.loop import Standing
    from dip_sci.fit import Progress
    from dip_sci.image import Image
    from dip_sci.restoration import Restoration

# Threads that spin while they wait slow a fit down several times wherever something else uses the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_STOPPED, EXIT_ABORTED = 0, 1, 2, 3, 130

EPILOGUE = """\
Exit codes: 0 done; 1 nothing written (the message says why); 2 wrong options or recipe;
3 stopped by Ctrl-C, best result so far written and marked as such; 130 abandoned, nothing written.
"""

T = TypeVar("T")

screen = Console(stderr=True)

app = App(
    name="dip-sci",
    help="Restore one noisy scan without training data.",
    help_epilogue=EPILOGUE,
    version=__version__,
    default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
    console=screen,
)

RUN = Group("Options of the restoration", sort_key=1)
Options = Annotated[Recipe | None, Parameter(name="*", group=RUN)]
RecipeFile = Annotated[Path | None, Parameter(name="--recipe")]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Switch = Annotated[bool, Parameter(negative=())]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())]
AT_LEAST_ONE = validators.Number(gte=1)

STOPPING = "Stopping; the best result so far will be written. Ctrl-C again abandons it."
STOPPING_BATCH = "Stopping; the scans at work are finished first. Ctrl-C again abandons them."


def _factors(text: str) -> int | tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"Factors are whole numbers, one or one per axis, as in 4 or 3,1,1; found {text!r}."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


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
    resample_region: Annotated[bool, Parameter(negative=())] = False
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
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False
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
def batch(
    *sources: str,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    status: Path | None = None,
    recipe: RecipeFile = None,
    workers: Annotated[int | None, Parameter(validator=AT_LEAST_ONE)] = None,
    threads: Annotated[int | None, Parameter(validator=AT_LEAST_ONE)] = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    axes: str | None = None,
    report: Switch = False,
    overwrite: bool = False,
    verbose: Verbose = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    options: Options = None,
) -> int:
    """Remove the noise of many scans, each on its own; what is done stays done when it is run again.

    Parameters
    ----------
    sources
        Files, patterns in quotes ('IN/**/*.nii.gz') and folders: of a BIDS dataset its scans, of any other folder all
        images in it, DICOM files series by series.
    output
        Folder of the results, which get their scans' names; for scans of a BIDS dataset, of the derivative dataset.
        It also holds manifest.jsonl (what became of each scan) and batch.log.
    status
        Say where the batch with this output folder stands, and do nothing.
    recipe
        YAML or JSON file with options; those given here win.
    workers
        Scans that are restored at once; by default one per GPU, or as many as the cores and the memory allow.
    threads
        Threads for each of them; by default an equal share of the cores.
    scheduler
        Address of a running dask scheduler (tcp://host:8786) whose workers do the work.
    slurm
        Let SLURM jobs do the work: partition=gpu,cores=8,memory=32GB,walltime=08:00:00,gres=gpu:1
    axes
        Meaning of the scans' dimensions (for instance TYX), where their files do not say.
    report
        Draw a report beside each result, and report.html of all.
    overwrite
        Replace results that no batch has made.
    verbose
        Say what happens.
    as_json
        Print what became of each scan, and nothing else.
    """
    from dip_sci import batch as batches

    if status is not None:
        return _show_status(batches.status(status), as_json=as_json)
    if output is None or not sources:
        raise RecipeError("Give the scans and a folder for the results: dip-sci batch 'IN/**/*.nii.gz' -o OUT.")
    chosen = _recipe(recipe, options)
    stop, abandon = threading.Event(), threading.Event()
    with logs.shown(_say, wanted=verbose), _ctrl_c(stop, abandon, STOPPING_BATCH), _batch_bar(as_json) as show:
        end = batches.run(
            sources,
            output,
            chosen,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            slurm=slurm,
            axes=axes,
            overwrite=overwrite,
            report=report,
            stop=stop,
            abandon=abandon,
            show=show,
        )
    if as_json:
        print(json.dumps(batches.status(output), indent=1))  # noqa: T201
    else:
        _tell_batch(end, output)
    if abandon.is_set():
        return EXIT_ABORTED
    return EXIT_STOPPED if end.left else EXIT_ERROR if end.failed else EXIT_OK


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
    normalise: Annotated[bool, Parameter(negative=())] = False,
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


@app.command
def convert(
    source: Path,
    output: Path,
    /,
    *,
    axes: str | None = None,
    series: str | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Write a scan in another format, values and geometry unchanged, and say what the format does not hold.

    Parameters
    ----------
    source
        A file, a folder with a DICOM series, or a DICOMDIR.
    output
        Result; its suffix names the format. A record is written beside it, as .json.
    axes
        Meaning of the scan's dimensions (for instance TYX), where its file does not say.
    series
        Which DICOM series of a folder, or which image of a microscope's file, to read, where there are several.
    overwrite
        Replace an existing result.
    as_json
        Print the record, and nothing else.
    """
    from dip_sci import provenance

    image = io.read(source, axes=axes, series=series, lazy=True)
    target = Target(io.completed(output, image))
    image = image.with_notes(*io.not_kept(target.file, image))
    target.refuse(image, __version__, overwrite=overwrite, inputs=[source])
    record = provenance.conversion(image, digest=provenance.digest(source))
    target.write(image, record, overwrite=overwrite)
    if as_json:
        print(json.dumps(record, indent=1))  # noqa: T201
        return EXIT_OK
    for line in (*image.source.notes, f"Wrote {target.file}."):
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_OK


@app.command
def info(
    source: Path,
    /,
    *,
    recipe: RecipeFile = None,
    axes: str | None = None,
    series: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    options: Options = None,
) -> int:
    """Say what a scan is, which noise it has, and what restoring it would take here.

    Parameters
    ----------
    source
        A file, a folder with a DICOM series, or a DICOMDIR.
    recipe
        YAML or JSON file with options; those given here win.
    axes
        Meaning of the scan's dimensions (for instance TYX), where its file does not say.
    series
        Which DICOM series of a folder, or which image of a microscope's file, to read, where there are several.
    as_json
        Print it as JSON.
    """
    image = io.read(source, axes=axes, series=series)
    facts = _facts(image, _recipe(recipe, options))
    if as_json:
        print(json.dumps(facts, indent=1))  # noqa: T201
        return EXIT_OK
    out = Console()
    width = max(map(len, facts))
    for name, value in facts.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            out.print(f"[bold]{'' if number else name:<{width}}[/bold]  {line}", highlight=False, soft_wrap=True)
    return EXIT_OK


@app.command
def demo(*, output: Output = Path("demo"), options: Options = None) -> int:
    """Denoise a real sample and draw it before and after.

    Parameters
    ----------
    output
        Folder for the result and the picture.
    """
    from dip_sci import report
    from dip_sci.restore import iter_restore

    noisy_file, truth_file = (samples.folder() / "microscopy" / name for name in DEMO)
    image = io.read(noisy_file)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"The folder {output} cannot be made: {error.strerror}.") from None
    screen.print("A two-photon image of a cell, one shot; the mean of five shots serves as truth.")
    chosen, cancel = Recipe.parse({"preset": "fast"}).merged(_given(options)), threading.Event()
    result = _watch(iter_restore(image, chosen, cancel=cancel), cancel, quiet=False)
    target, picture = output / "clean.tif", output / "before_after.png"
    io.write(target, result.image, overwrite=True)
    report.comparison(image, result.image, picture)
    _tell(result, target)
    truth = io.read(truth_file)
    before, after = _psnr(image, truth), _psnr(result.image, truth)
    screen.print(f"PSNR against the mean of five shots: {before:.1f} dB before, {after:.1f} dB after.")
    Console().print(f"Result:   {target}\nPicture:  {picture}", highlight=False, soft_wrap=True)
    return EXIT_OK


@app.command
def calibrate(
    *,
    dark: Path,
    flat: list[Path],
    output: Output,
    axes: str | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Measure a camera's gain, offset and read noise, for `--recipe` of the other commands.

    Parameters
    ----------
    dark
        Stack of two or more frames taken without light.
    flat
        Stack of two or more frames of a steady light, short of saturation; give one for each level of light.
    output
        Recipe with the noise of this camera, .yaml.
    axes
        Meaning of the stacks' dimensions (for instance TYX), where their files do not say.
    overwrite
        Replace an existing result.
    as_json
        Print what was measured, and nothing else.
    """
    from dip_sci import calibration

    calibration.check_name(output)
    refuse_target(output, [dark, *flat], overwrite=overwrite)
    stacks = [calibration.frames(io.read(path, axes=axes), str(path)) for path in (dark, *flat)]
    found = calibration.calibrate(stacks[0], stacks[1:])
    io.write_text(output, found.text())
    if as_json:
        print(json.dumps(asdict(found), indent=1))  # noqa: T201
        return EXIT_OK
    screen.print(found.sentence, highlight=False, soft_wrap=True)
    screen.print(f"Wrote {output}; use it with --recipe {output}.", highlight=False, soft_wrap=True)
    return EXIT_OK


@app.command
def compress(
    source: Path,
    /,
    *,
    output: Output,
    factor: float = 8.0,
    weights: Literal["float16", "float32"] = "float16",
    steps: int = 2000,
    seed: int = 0,
    device: str = "auto",
    axes: str | None = None,
    series: str | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Keep a scan as the weights of a small network (Deep Decoder), with a loss.

    Parameters
    ----------
    source
        A file, a folder with a DICOM series, or a DICOMDIR.
    output
        Result, .npz: weights, grid and type of the scan, and no other of its metadata.
    factor
        How many times smaller than the scan's values the file is to be.
    weights
        Type of the stored weights: float16, or float32 for a narrower network stored exactly.
    steps
        Steps of the fit.
    seed
        Seed of everything random.
    device
        auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    axes
        Meaning of the scan's dimensions (for instance TYX), where its file does not say.
    series
        Number of the DICOM series to read, where a folder holds several.
    overwrite
        Replace an existing result.
    as_json
        Print the factor and the loss, and nothing else.
    """
    from dip_sci import compression

    compression.check_target(output, overwrite=overwrite, inputs=(source,))
    image = io.read(source, axes=axes, series=series)
    cancel = threading.Event()
    run = compression.iter_compress(
        image, factor=factor, weights=weights, steps=steps, seed=seed, device=device, cancel=cancel
    )
    result = _watch(run, cancel, quiet=as_json)
    result.save(output, overwrite=overwrite)
    if as_json:
        names = ("factor", "psnr", "width", "steps", "seconds")
        print(json.dumps({name: getattr(result, name) for name in names}, indent=1))  # noqa: T201
    else:
        screen.print(
            f"{len(result.content)} bytes, {result.factor:.1f} times smaller than the values of the scan; "
            f"what comes out again differs by {result.psnr:.1f} dB PSNR.\nWrote {output}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return EXIT_STOPPED if result.reason.name == "CANCELLED" else EXIT_OK


@app.command
def decompress(source: Path, /, *, output: Output, overwrite: bool = False) -> int:
    """Make an image out of what compress wrote.

    Parameters
    ----------
    source
        File written by compress.
    output
        Result; its suffix names the format.
    overwrite
        Replace an existing result.
    """
    from dip_sci.decompression import decompress as expand

    image = expand(source)
    io.check_target(output, image, overwrite=overwrite, inputs=[source])
    written = io.write(output, image, overwrite=overwrite)
    for line in (*image.source.notes, f"Wrote {written}."):
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_OK


DEMO = ("bpae_flim_noisy.tif", "bpae_flim_mean_of_5.tif")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every foreseen failure ends in one sentence and an exit code."""
    try:
        code = app(
            sys.argv[1:] if arguments is None else arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        code = _fail(_usage(error), EXIT_USAGE)
    except RecipeError as error:
        code = _fail(str(error), EXIT_USAGE)
    except DipSciError as error:
        code = _fail(str(error), EXIT_ERROR)
    except MemoryError:
        code = _fail("There is not enough memory for this image here.", EXIT_ERROR)
    except KeyboardInterrupt:
        code = _fail("Abandoned: nothing was written.", EXIT_ABORTED)
    sys.exit(code or EXIT_OK)


def _fail(message: str, code: int) -> int:
    screen.print(f"[bold red]Error:[/bold red] {message.replace('[', chr(92) + '[')}", highlight=False, soft_wrap=True)
    return code


def _usage(error: CycloptsError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return f"{explain(cause)}."
        cause = cause.__cause__
    return str(error)


def _recipe(file: Path | None, options: Recipe | None) -> Recipe:
    return (Recipe() if file is None else Recipe.load(file)).merged(_given(options))


def _given(options: Recipe | None) -> dict[str, Any]:
    return {} if options is None else options.model_dump(exclude_unset=True)


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
    job = Job(source, recipe=_recipe(common.recipe, options), **given, **task)
    with logs.shown(_say, wanted=common.verbose):
        opened, cancel = Opened(job), threading.Event()
        result = _watch(opened.restore(cancel), cancel, quiet=common.as_json)
        record = opened.write(result)
    if common.as_json:
        print(json.dumps(record, indent=1))  # noqa: T201
    else:
        _tell(result, opened.target.file)
    return EXIT_OK if result.report.complete or result.report.reason.name == "TIME" else EXIT_STOPPED


def _watch(run: Generator[Progress[Any], None, T], cancel: threading.Event, *, quiet: bool) -> T:
    """Go through a run with a bar, and return what it returns."""
    with _ctrl_c(cancel, None, STOPPING), _bar(quiet) as show:
        while True:
            try:
                show(next(run))
            except StopIteration as end:
                result: T = end.value
                return result


@contextmanager
def _ctrl_c(first: threading.Event, second: threading.Event | None, words: str) -> Iterator[None]:
    """Let the first Ctrl-C stop in good order, and the second set its event or, without one, interrupt."""

    def handle(number: int, frame: object) -> None:
        if first.is_set():
            if second is None:
                raise KeyboardInterrupt
            second.set()
            return
        first.set()
        screen.print(words)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    if quiet:
        yield lambda progress: None
        return
    columns = TextColumn("fitting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
    with Bar(*columns, console=screen, transient=not screen.is_terminal) as bar:
        task = bar.add_task("", note="starting")

        def show(progress: Progress[Any]) -> None:
            note = f"data term {progress.data_term:.4f}, {_time(progress.eta)} left"
            bar.update(task, total=progress.steps, completed=progress.step, note=note)

        yield show


def _tell(result: Restoration, output: Path) -> None:
    report = result.report
    screen.print(report.reason.value, highlight=False)
    made_of = [f"Made of {report.reasons['output.classical']}."] if len(report.weights) > 1 else []
    for line in (*report.noise[:4], *made_of, *report.notes):
        screen.print(line, highlight=False, soft_wrap=True)
    screen.print(f"Wrote {output} after {_time(report.seconds)} ({report.device}).", highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    screen.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _batch_bar(quiet: bool) -> Iterator[Callable[[Standing], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    if quiet:
        yield lambda standing: None
        return
    columns = (
        TextColumn("restoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=screen, transient=not screen.is_terminal) as bar:
        task = bar.add_task("", note="starting")

        def show(standing: Standing) -> None:
            note = f"{len(standing.running)} at work" if standing.workers else "waiting for workers"
            note += f", {len(standing.failed)} failed" if standing.failed else ""
            under_way = standing.total - standing.left + sum(standing.running.values())
            bar.update(task, total=standing.total, completed=under_way, note=note)

        yield show


def _tell_batch(end: Standing, output: Path) -> None:
    for name, why in sorted(end.failed.items()):
        _say(f"Failed: {name}: {why}")
    said = (
        f"{len(end.done)} done, {end.skipped} done before, {len(end.failed)} failed, {end.left} left, of {end.total}."
    )
    _say(f"{said} Results, manifest.jsonl and batch.log are in {output}.")
    if end.left or end.failed:
        _say("The same command goes on where this one ended, and tries again what failed.")


def _show_status(found: dict[str, dict[str, Any]], *, as_json: bool) -> int:
    """Print where a batch stands: an exit code that says whether anything failed."""
    failed = [entry for entry in found.values() if entry["state"] == "failed"]
    if as_json:
        print(json.dumps(found, indent=1))  # noqa: T201
        return EXIT_ERROR if failed else EXIT_OK
    out = Console()
    for name, entry in sorted(found.items()):
        more = entry.get("error") or entry.get("stop_reason") or ""
        out.print(f"{entry['state']:<12}{name}  {more}", highlight=False, markup=False, soft_wrap=True)
    counts = Counter(entry["state"] for entry in found.values())
    out.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())), highlight=False)
    return EXIT_ERROR if failed else EXIT_OK


def _facts(image: Image, recipe: Recipe) -> dict[str, Any]:
    from dip_sci import choices, device
    from dip_sci.cost import expected_cost
    from dip_sci.preparation import Preparation

    where = device.pick(recipe.device)
    choice = choices.decide(recipe, image, fast_bfloat16=device.fast_bfloat16(where))
    prepared = Preparation(image, choice.recipe, None)
    seen = image.array[image.measured()]
    facts: dict[str, Any] = {
        "format": image.source.format,
        "axes": image.axes,
        "shape": " x ".join(map(str, image.shape)),
        "type": str(image.dtype),
        **({"channels": list(image.source.channels)} if image.source.channels else {}),
        "spacing": [
            f"{axis}: unknown" if step is None else f"{axis}: {step:.6g} {unit or '(unit unknown)'}"
            for axis, step, unit in zip(image.axes, image.spacing, image.units, strict=True)
            if axis not in "CS"
        ],
        "values": f"{seen.min():.6g} to {seen.max():.6g}, mean {seen.mean():.6g}",
        "not measured": f"{image.array.size - seen.size} voxels",
        "noise": [e.sentence for e in prepared.estimates],
        "choices": list(choice.reasons.values()),
        "device": device.describe(where),
    }
    if not prepared.constant:
        cost = expected_cost(image, recipe)
        facts["time"] = f"about {_time(cost.seconds)} with preset {recipe.preset}"
        facts["memory"] = f"about {cost.memory / 2**30:.1f} GB"
    if image.source.notes:
        facts["notes"] = list(image.source.notes)
    return facts


def _psnr(image: Image, truth: Image) -> float:
    import numpy as np

    reference = truth.array.astype(np.float64)
    error = np.mean((image.array - reference) ** 2)
    return float(10 * np.log10(np.ptp(reference) ** 2 / error))


def _time(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


if __name__ == "__main__":
    main()
