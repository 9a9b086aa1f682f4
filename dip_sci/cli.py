"""The command line: read, restore with a bar, write."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from dip_sci import __version__, io
from dip_sci.errors import DipSciError, ReadError, RecipeError, WriteError
from dip_sci.io.files import refuse_target
from dip_sci.io.target import Target
from dip_sci.recipe import Recipe, explain
from dip_sci.region import on_grid
from dip_sci.tasks import Inpaint, SuperResolve, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

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
    """Mask on the scan's grid, in any format: only where it is not zero is restored, the rest stays bit-identical."""
    resample_region: Annotated[bool, Parameter(negative=())] = False
    """Bring masks that lie on another grid onto the scan's, by their nearest voxels."""
    background: Path | None = None
    """Mask on the scan's grid: the noise is measured where it is not zero, where nothing else varies."""
    axes: str | None = None
    """Meaning of the scan's dimensions (for instance TYX), where its file does not say."""
    series: str | None = None
    """Which DICOM series of a folder, or which image of a microscope's file, to read, where there are several."""
    overwrite: bool = False
    """Replace an existing result."""
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Print the record of the run, and nothing else."""

    def mask(self, image: Image, path: Path | None, name: str) -> Image | None:
        """Read a mask and bring it onto a scan's grid."""
        return None if path is None else on_grid(image, io.read(path), resample=self.resample_region, name=name)


Shared = Annotated[Common, Parameter(name="*")]


@app.command
def denoise(source: Path, /, *, common: Shared, options: Options = None) -> int:
    """Remove the noise of one scan.

    Parameters
    ----------
    source
        Scan to restore: a file, a folder with a DICOM series, or a DICOMDIR.
    """
    return _restore(source, common, options, lambda image: Task(), lazy=True)


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
    return _restore(
        source,
        common,
        options,
        lambda image: Inpaint.of(image, common.mask(image, missing, "mask of missing voxels")),
        missing,
    )


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
    return _restore(source, common, options, lambda image: SuperResolve.of(image, _factors(factor)))


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

    noisy_file, truth_file = (_samples() / "microscopy" / name for name in DEMO)
    image = io.read(noisy_file)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"The folder {output} cannot be made: {error.strerror}.") from None
    screen.print("A two-photon image of a cell, one shot; the mean of five shots serves as truth.")
    result = _run(image, Recipe.parse({"preset": "fast"}).merged(_given(options)), quiet=False)
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


def _restore(
    source: Path,
    common: Common,
    options: Recipe | None,
    task_of: Callable[[Image], Task],
    *others: Path | None,
    lazy: bool = False,
) -> int:
    """Read, restore with a bar, write: what all restorations have in common.

    Parameters
    ----------
    source, common, options
        From the command line.
    task_of
        Makes the task of the image.
    others
        What else is read, and must not be replaced.
    lazy
        Whether the values may stay in their file until they are needed.
    """
    from dip_sci import provenance

    chosen = _recipe(common.recipe, options)
    image = io.read(source, axes=common.axes, series=common.series, lazy=lazy)
    inside = common.mask(image, common.region, "region of interest")
    noise_only = common.mask(image, common.background, "background region")
    target = Target.of(source, common.output, image)
    image = image.with_notes(*io.not_kept(target.file, image))
    task = task_of(image)
    inputs = [p for p in (source, common.region, common.background, *others) if p is not None]
    target.refuse(_promised(task.canvas(image), chosen), __version__, overwrite=common.overwrite, inputs=inputs)
    result = _run(
        image,
        chosen,
        quiet=common.as_json,
        region=inside,
        background=noise_only,
        scratch=target.file.parent,
        task=task,
    )
    record = provenance.record(image, result.report, digest=provenance.digest(source))
    target.write(result.image, record, overwrite=common.overwrite, description=provenance.summary(result.report))
    if common.as_json:
        print(json.dumps(record, indent=1))  # noqa: T201
    else:
        _tell(result, target.file)
    return EXIT_OK if result.report.complete or result.report.reason.name == "TIME" else EXIT_STOPPED


def _promised(image: Image, recipe: Recipe) -> Image:
    """Return an image of the kind that will be written, to check the target before the fit."""
    return image.with_array(image.array.astype("float32")) if recipe.output.dtype == "float32" else image


def _run(
    image: Image,
    recipe: Recipe,
    *,
    quiet: bool,
    region: Image | None = None,
    background: Image | None = None,
    scratch: Path | None = None,
    task: Task | None = None,
) -> Restoration:
    from dip_sci.restore import iter_restore

    cancel = threading.Event()
    run = iter_restore(image, recipe, task=task, region=region, background=background, cancel=cancel, scratch=scratch)
    return _watch(run, cancel, quiet=quiet)


def _watch(run: Generator[Progress[Any], None, T], cancel: threading.Event, *, quiet: bool) -> T:
    """Go through a run with a bar, and return what it returns."""
    with _ctrl_c(cancel), _bar(quiet) as show:
        while True:
            try:
                show(next(run))
            except StopIteration as end:
                result: T = end.value
                return result


@contextmanager
def _ctrl_c(cancel: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C keep the best so far, the second abandon the run."""

    def handle(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        screen.print("Stopping; the best result so far will be written. Ctrl-C again abandons it.")

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


def _samples() -> Path:
    here = Path(__file__).parent
    for folder in (here / "sample_data", here.parent / "sample_data"):
        if folder.is_dir():
            return folder
    raise ReadError(f"The sample images are missing: there is no sample_data folder in {here.parent}.")


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
