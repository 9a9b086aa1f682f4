"""What can be done with an image: the one list that the widget's choice is made from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.progress import Progress
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration
    from dip_sci.tasks import Task as Asked

    Mask = NDArray[Any]
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


def _start(image: Image, recipe: Recipe, asked: Asked, region: Mask | None, cancel: threading.Event) -> Steps:
    # Imported here: torch takes seconds, and nobody has pressed a button yet when the widget is made.
    from dip_sci.restore import iter_restore

    return iter_restore(image, recipe, task=asked, region=region, cancel=cancel)


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
    bind
        Makes the engine's task for an image: ``(image, region, given)``.
    roles
        What a painted region can mean for it.
    mask
        What the command line's flag and Python's argument for the region are called.
    needs
        What it has to be given besides the image, by the name of the flag and the argument; empty for nothing.
    start
        Begins a run.
    """

    name: str
    title: str
    done: str
    bind: Callable[[Image, Mask | None, Any], Asked]
    roles: tuple[Role, ...]
    mask: str = "region"
    needs: str = ""
    start: Callable[[Image, Recipe, Asked, Mask | None, threading.Event], Steps] = _start

    @property
    def command(self) -> str:
        """Its name on the command line."""
        return self.name.replace("_", "-")


@dataclass(frozen=True, eq=False)
class Guide:
    """Another image, and where it lies.

    Attributes
    ----------
    image
        What is seen beside the image that is restored.
    matrix
        From voxels ``(x, y, z, 1)`` of the image that is restored to those of the guide; ``None`` where both say
        themselves where they lie.
    """

    image: Image
    matrix: NDArray[Any] | None = None


INSIDE = Role("restore only inside", {"output": {"outside": "keep"}})
WEIGHTY = Role("weigh it more", {"output": {"outside": "restore"}})
HOLE = Role("fill it in, as a hole")


def _denoise(image: Image, region: Mask | None, given: Any) -> Asked:
    from dip_sci.tasks import Task as Denoise

    return Denoise()


def _inpaint(image: Image, region: Mask | None, given: Any) -> Asked:
    from dip_sci.tasks import Inpaint

    return Inpaint.of(image, region)


def _super_resolve(image: Image, region: Mask | None, given: int | tuple[int, ...]) -> Asked:
    from dip_sci.tasks import SuperResolve

    return SuperResolve.of(image, given)


def _fuse(image: Image, region: Mask | None, given: Guide) -> Asked:
    from dip_sci.tasks import Fuse

    if given.matrix is None:
        return Fuse.of(image, given.image)
    # What counts is where one lies in the other: the image's own voxels are as good a world as any.
    placed = dataclasses.replace(given.image, affine=np.linalg.inv(given.matrix))
    return Fuse.of(dataclasses.replace(image, affine=np.eye(4)), placed)


def _deconvolve(image: Image, region: Mask | None, given: Image) -> Asked:
    from dip_sci.tasks import Deconvolve, normalised

    return Deconvolve.of(image, normalised(given))


TASKS = {
    task.name: task
    for task in (
        Task("denoise", "Denoise", "denoised", _denoise, (INSIDE, WEIGHTY)),
        Task("inpaint", "Inpaint", "inpainted", _inpaint, (HOLE,), mask="missing"),
        Task("super_resolve", "Super-resolve", "super-resolved", _super_resolve, (INSIDE, WEIGHTY), needs="factor"),
        Task("fuse", "Fuse with a guide", "fused", _fuse, (INSIDE, WEIGHTY), needs="guide"),
        Task("deconvolve", "Deconvolve", "deconvolved", _deconvolve, (INSIDE, WEIGHTY), needs="psf"),
    )
}
