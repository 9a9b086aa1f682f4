"""What can be said before a run: the noise, the device, what it will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dip_sci.errors import DipSciError, ImageError
from napari_plugin import _engine
from napari_plugin._worker import in_words

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.tasks import Task as Asked

FULL = 16_000_000
"""Voxels up to which the noise is measured on the whole image before a run; beyond, on its middle."""

SMALL = 4_000_000
"""Voxels up to which the first steps are run, unasked, to predict the time of all."""


@dataclass(frozen=True)
class Facts:
    """What was found out; parts that are not known yet are empty.

    Attributes
    ----------
    noise
        A sentence for each channel and colour sample.
    parameters
        By option, what an empty field of the noise panel stands for.
    device
        ``"GPU: ..."`` or ``"CPU"``.
    cost
        ``"about 2 min, 1.3 GB"``.
    error
        Why the image cannot be restored.
    """

    noise: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    device: str = ""
    cost: str = ""
    error: str = ""


def facts(
    image: Callable[[], Image], recipe: Recipe, asked: Callable[[Image], Asked] | None, over: threading.Event
) -> Generator[Facts, None, Facts]:
    """Measure the noise of an image, then, if asked to, predict what its restoration takes.

    Parameters
    ----------
    image
        Reads the pixels.
    recipe
        How it would be restored.
    asked
        Returns the engine's task, whose first steps are run; ``None`` to run none.
    over
        When set, nobody wants to know any more.
    """
    _engine.load(_engine.TO_MEASURE)
    from dip_sci import choices, device
    from dip_sci.preparation import Preparation

    found = Facts()
    try:
        where = device.pick(recipe.device)
        name = device.describe(where)
        found = Facts(device=name if where.type != "cpu" else "CPU")
        yield found
        what = image()
        choice = choices.decide(recipe, what, fast_bfloat16=device.fast_bfloat16(where))
        prepared = Preparation(what, choice.recipe, None)
        sentences = tuple(dict.fromkeys(prepared.found.sentences))
        found = Facts(sentences, tuple(_parameters(prepared.noise.model).items()), found.device)
        yield found
        if asked is not None and not prepared.constant:
            found = Facts(found.noise, found.parameters, found.device, _foretold(what, recipe, asked, over))
    except DipSciError as error:
        return Facts(device=found.device, error=str(error))
    return found


def _foretold(image: Image, recipe: Recipe, asked: Callable[[Image], Asked], over: threading.Event) -> str:
    try:
        task = asked(image)
    except ImageError:
        # What is missing yet is told when somebody presses Run.
        return ""
    return predicted(image, recipe, task, over)


def predicted(image: Image, recipe: Recipe, asked: Asked, over: threading.Event | None = None) -> str:
    """Say what a run will take, from its first steps."""
    _engine.load(_engine.TO_FIT)
    from dip_sci.cost import expected_cost

    cost = expected_cost(image, recipe, over, asked)
    return f"about {in_words(cost.seconds)}, {cost.memory / 2**30:.1f} GB"


def _parameters(model: Any) -> dict[str, str]:
    from dip_sci.recipe import TAKEN_BY

    return {f"noise.{n}": f"{getattr(model, n):.4g}" for n in TAKEN_BY if hasattr(model, n)}
