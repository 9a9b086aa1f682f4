"""Commands about a scan as it is: what it holds, and the same in another format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dip_sci import __version__, io
from dip_sci.cli.program import EXIT_OK, AsJson, Options, RecipeFile, app, doubted, recipe_of
from dip_sci.cli.screen import duration, screen
from dip_sci.io.target import Target

if TYPE_CHECKING:
    from dip_sci.image import Image
    from dip_sci.recipe import Recipe


@app.command
def convert(
    source: Path,
    output: Path,
    /,
    *,
    axes: str | None = None,
    series: str | None = None,
    overwrite: bool = False,
    as_json: AsJson = False,
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
    as_json: AsJson = False,
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
    chosen = recipe_of(recipe, options)
    facts = _facts(doubted(image, recipe, chosen), chosen)
    if as_json:
        print(json.dumps(facts, indent=1))  # noqa: T201
        return EXIT_OK
    out = Console()
    width = max(map(len, facts))
    for name, value in facts.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            out.print(f"[bold]{'' if number else name:<{width}}[/bold]  {line}", highlight=False, soft_wrap=True)
    return EXIT_OK


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
        "noise": list(prepared.found.sentences),
        "choices": list(choice.reasons.values()),
        "device": device.describe(where),
    }
    if not prepared.constant:
        cost = expected_cost(image, recipe)
        facts["time"] = f"about {duration(cost.seconds)} with preset {recipe.preset}"
        facts["memory"] = f"about {cost.memory / 2**30:.1f} GB"
    if image.source.notes:
        facts["notes"] = list(image.source.notes)
    return facts
