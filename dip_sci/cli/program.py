"""The program: its options' types, its exit codes, and how a failure ends it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import ValidationError

from dip_sci import __version__
from dip_sci.cli.screen import screen
from dip_sci.errors import DipSciError, RecipeError
from dip_sci.recipe import Recipe, explain

if TYPE_CHECKING:
    from dip_sci.image import Image

# Threads that spin while they wait slow a fit down several times wherever something else uses the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_STOPPED, EXIT_ABORTED = 0, 1, 2, 3, 130

EPILOGUE = """\
Exit codes: 0 done; 1 nothing written (the message says why); 2 wrong options or recipe;
3 stopped by Ctrl-C, best result so far written and marked as such; 130 abandoned, nothing written.
"""

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
AsJson = Annotated[bool, Parameter(name="--json", negative=())]


def recipe_of(file: Path | None, options: Recipe | None) -> Recipe:
    """Read a recipe, if there is a file; the options of the command line win."""
    return (Recipe() if file is None else Recipe.load(file)).merged(given(options))


def doubted(image: Image, file: Path | None, recipe: Recipe) -> Image:
    """Return the image with a note, if the recipe's file is a calibration that seems to be of another camera."""
    from dip_sci.calibration import Calibration

    if file is None:
        return image
    try:
        found = Calibration.load(file)
    except RecipeError:
        return image
    used = any(getattr(recipe.noise, name) == getattr(found, name) for name in ("gain", "offset", "read_noise"))
    return image.with_notes(*found.doubts(image)) if used else image


def given(options: Recipe | None) -> dict[str, Any]:
    """Return the options that were given, group by group."""
    return {} if options is None else options.model_dump(exclude_unset=True)


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
