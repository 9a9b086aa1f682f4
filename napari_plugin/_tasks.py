"""What can be done with an image: the one list that the widget's choice is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from dip_sci.fit import Progress
    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration

    Steps = Generator[Progress[NDArray[Any]], None, Restoration]


@dataclass(frozen=True)
class Role:
    """What a painted region can mean.

    Attributes
    ----------
    title
        As the widget says it.
    options
        What it sets in the recipe, in nested dictionaries.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Task:
    """One thing to do with an image.

    Attributes
    ----------
    name
        The command's name on the command line, and the function's in Python.
    title
        As the widget calls it.
    done
        What is added to the name of the result's layer.
    start
        Begins a run: ``(image, recipe, region, cancel)``.
    roles
        What a painted region can mean for it.
    mask
        What the command line's flag and Python's argument for the region are called.
    """

    name: str
    title: str
    done: str
    start: Callable[[Image, Recipe, NDArray[Any] | None, threading.Event], Steps]
    roles: tuple[Role, ...]
    mask: str = "region"


INSIDE, HOLE = Role("restore only inside"), Role("fill it in, as a hole")


def _denoise(image: Image, recipe: Recipe, region: NDArray[Any] | None, cancel: threading.Event) -> Steps:
    # Imported here: torch takes seconds, and nobody has pressed a button yet when the widget is made.
    from dip_sci.restore import iter_restore

    return iter_restore(image, recipe, region=region, cancel=cancel)


def _inpaint(image: Image, recipe: Recipe, region: NDArray[Any] | None, cancel: threading.Event) -> Steps:
    from dip_sci.restore import iter_restore
    from dip_sci.tasks import Inpaint

    return iter_restore(image, recipe, task=Inpaint.of(image, region), cancel=cancel)


TASKS = {
    task.name: task
    for task in (
        Task("denoise", "Denoise", "denoised", _denoise, (INSIDE,)),
        Task("inpaint", "Inpaint", "inpainted", _inpaint, (HOLE,), mask="missing"),
    )
}
