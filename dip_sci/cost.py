"""Cost: what a run will take on this machine."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dip_sci import choices, device, preferences
from dip_sci.errors import Cancelled
from dip_sci.recipe import Recipe
from dip_sci.restore import iter_restore
from dip_sci.tasks import Task

if TYPE_CHECKING:
    import threading

    from dip_sci.image import Image

TRIAL = 4
"""Steps run to predict the time of all."""


@dataclass(frozen=True)
class Cost:
    """What a run is expected to take on this machine.

    Attributes
    ----------
    seconds
        From start to end, if no stop rule ends it earlier.
    memory
        Bytes in use, as far as a few steps show.
    """

    seconds: float
    memory: int


def expected_cost(
    image: Image,
    recipe: Recipe | None = None,
    cancel: threading.Event | None = None,
    task: Task | None = None,
) -> Cost:
    """Predict time and memory of a run by doing its first steps.

    Parameters
    ----------
    image, recipe
        As for `denoise`.
    cancel
        When set (from another thread), the prediction is given up after the current step.
    task
        What is asked for, bound to this image; by default to remove its noise.

    Raises
    ------
    ImageError, RecipeError
        As for `denoise`.
    Cancelled
        If it was given up.
    """
    began = time.monotonic()
    recipe, task = recipe or Recipe(), task or Task()
    run = iter_restore(image, recipe, task=task)
    steps = []
    for progress in itertools.islice(run, TRIAL):
        steps.append((time.monotonic(), progress))
        if cancel is not None and cancel.is_set():
            run.close()
            raise Cancelled("The prediction was given up.")
    if not steps:
        return Cost(time.monotonic() - began, device.memory_in_use(device.pick("cpu")))
    times, progress = [t for t, _ in steps], steps[-1][1]
    # The first step also warms up the machine.
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    began_pass = time.monotonic()
    progress.preview()
    one_pass = time.monotonic() - began_pass
    run.close()
    all_passes = one_pass * choices.passes(preferences.of(task, recipe, image)[0], image)
    return Cost(times[0] - began + step * (progress.steps - 1) + all_passes, progress.memory)
