"""Preferences: what a task would have an open recipe be, with the reasons. What the user decided stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dip_sci import choices
from dip_sci.errors import RecipeError
from dip_sci.recipe import DEAF
from dip_sci.tasks import Deconvolve, Fuse, Inpaint, SuperResolve

if TYPE_CHECKING:
    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.tasks import Task

    Reasons = dict[str, str]

DEEP_CHANNELS: dict[str, tuple[int, ...]] = {"2d": (16, 32, 64, 128, 128, 128), "3d": (16, 32, 64, 128)}
"""Of an hourglass for large holes. It has no skip connections: what they carry past its depth hurts there."""


def decided(task: Task, recipe: Recipe, image: Image) -> Recipe:
    """Return a recipe with every option decided for a task, but for what depends on the machine or on the noise."""
    return choices.decide(of(task, recipe, image)[0], image, fast_bfloat16=False).recipe


def of(task: Task, recipe: Recipe, image: Image) -> tuple[Recipe, Reasons]:
    """Fill in what a recipe leaves open and a task cares about.

    Parameters
    ----------
    task
        What is asked of the image.
    recipe
        As the user wrote it.
    image
        The observation.

    Returns
    -------
    recipe, reasons
        The recipe with some more options set, and by option, why.

    Raises
    ------
    RecipeError
        If an option contradicts the task.
    """
    if isinstance(task, Inpaint):
        return _inpainting(task, recipe, image)
    if isinstance(task, SuperResolve):
        return _super_resolution(task, recipe, image)
    if isinstance(task, Fuse) and recipe.generator.kind in DEAF:
        raise RecipeError(
            f"generator.kind is {recipe.generator.kind}, which cannot be shown a guide: for fusion, use unet or hourglass."
        )
    if isinstance(task, Deconvolve):
        return _deconvolution(task, recipe, image)
    if recipe.supervision.recorrupt == "resample":
        raise RecipeError("supervision.recorrupt is resample, which belongs to super-resolution: use hide or split.")
    return recipe, {}


def _inpainting(task: Inpaint, recipe: Recipe, image: Image) -> tuple[Recipe, Reasons]:
    if recipe.supervision.recorrupt not in ("auto", "hide"):
        raise RecipeError(
            f"supervision.recorrupt is {recipe.supervision.recorrupt}, which fills no holes: for inpainting, use hide."
        )
    reasons: Reasons = {}
    if task.planes and recipe.generator.ndim == "auto" and image.size_of("Z") > 1:
        recipe = recipe.merged({"generator": {"ndim": "3d"}})
        reasons["generator.ndim"] = "3d: of planes that are missing only their neighbours know"
    if recipe.supervision.kind == "auto" and recipe.generator.kind not in DEAF:
        kind = "full" if task.deep else "recorrupted"
        recipe = recipe.merged({"supervision": {"kind": kind}})
        reasons["supervision.kind"] = (
            f"full: a hole is {task.depth:.0f} voxels deep, too far for an example to reach into"
            if kind == "full"
            else f"recorrupted: no hole is deeper than {task.depth:.0f} voxels, so that its like can be hidden elsewhere"
        )
    ndim = choices.decide(recipe, image, fast_bfloat16=False).recipe.generator.ndim
    if recipe.supervision.kind == "full" or recipe.generator.kind in DEAF:
        wishes: dict[str, dict[str, Any]] = {"stop": {"rule": "fixed"}}
        if recipe.generator.kind in ("auto", "hourglass"):
            wishes["generator"] = {"channels": DEEP_CHANNELS[str(ndim)], "skip_channels": (0,)}
        return _open(recipe, wishes), reasons
    reasons["supervision.recorrupt"] = "hide: to fill in what is not seen is what is asked for"
    if recipe.output.known == "restore":
        return _open(recipe, {"supervision": {"recorrupt": "hide", "flips": "yes"}}), reasons
    effort = HOLE_EFFORT[str(ndim)]
    wishes = {
        "supervision": {
            "recorrupt": "hide",
            "hidden": choices.MANY_HIDDEN,
            "patch": effort.patch,
            "passes": 4,
            "flips": "yes",
        },
        "fit": {"steps": effort.steps[recipe.preset], "rate": effort.rate},
        "stop": {"rule": "fixed"},
        "generator": {"dropout": 0.0},
    }
    if recipe.generator.kind in ("auto", "unet"):
        wishes["generator"]["channels"] = effort.channels
    reasons["fit.steps"] = f"{effort.steps[recipe.preset]}: preset {recipe.preset}"
    return _open(recipe, wishes), reasons


def _super_resolution(task: SuperResolve, recipe: Recipe, image: Image) -> tuple[Recipe, Reasons]:
    across = task.factors[0] > 1
    if across and recipe.generator.ndim == "2d":
        raise RecipeError("generator.ndim is 2d, and voxels are to become finer along Z: leave it out.")
    if across:
        recipe = recipe.merged({"generator": {"ndim": "3d"}})
    if recipe.supervision.kind == "full" or recipe.generator.kind in DEAF:
        return _open(recipe, {"stop": {"rule": "fixed"}}), {}
    if recipe.supervision.recorrupt not in ("auto", "resample"):
        raise RecipeError(
            f"supervision.recorrupt is {recipe.supervision.recorrupt}, which makes nothing finer: for super-resolution, "
            "use resample."
        )
    if recipe.stop.rule in ("held_out", "sure"):
        raise RecipeError(
            f"stop.rule is {recipe.stop.rule}, which judges what becomes of the observation's noise: super-resolution learns "
            "another lesson. Leave it out, or set it to fixed."
        )
    ndim = str(choices.decide(recipe, image, fast_bfloat16=False).recipe.generator.ndim)
    effort = SCALE_EFFORT["slices" if max(task.factors[1:]) == 1 else ndim]
    wishes: dict[str, dict[str, Any]] = {
        "supervision": {
            "kind": "recorrupted",
            "recorrupt": "resample",
            "passes": 4,
            "patch": effort.patch,
            "flips": "yes",
        },
        "fit": {"steps": effort.steps[recipe.preset], "rate": 0.001, "averaging": 0.99},
        "stop": {"rule": "fixed"},
    }
    # What the lesson teaches, one image teaches by itself.
    wishes["generator"] = {"neighbours": 0}
    if recipe.generator.kind == "auto":
        wishes["generator"] |= {"kind": "plain", "channels": effort.channels}
    reasons = {
        "supervision.recorrupt": "resample: how to make it finer is learned where the finer image is known",
        "fit.steps": f"{effort.steps[recipe.preset]}: preset {recipe.preset}",
    }
    if recipe.output.classical == "blend":
        reasons["output.classical"] = "blend: of what the network adds, what like patches share is kept"
    return _open(recipe, wishes), reasons


def _deconvolution(task: Deconvolve, recipe: Recipe, image: Image) -> tuple[Recipe, Reasons]:
    if recipe.supervision.recorrupt == "resample":
        raise RecipeError("supervision.recorrupt is resample, which belongs to super-resolution: use hide or split.")
    flat, reasons = task.psf.ndim == 2, {}
    if not task.symmetric:
        if recipe.supervision.flips == "yes":
            raise RecipeError(
                "supervision.flips is yes, and the point spread function is not symmetric: it tells a flipped image from "
                "another. Leave it out."
            )
        recipe = recipe.merged({"supervision": {"flips": "no"}})
        reasons["supervision.flips"] = "no: the blur tells a flipped image from another"
    if flat and recipe.generator.ndim == "3d":
        raise RecipeError("generator.ndim is 3d, and the point spread function has two dimensions: leave it out.")
    if recipe.generator.ndim == "auto" and image.size_of("Z") > 1:
        ndim = "2d" if flat else "3d"
        recipe = recipe.merged({"generator": {"ndim": ndim}})
        reasons["generator.ndim"] = f"{ndim}: as the point spread function"
    if not flat and recipe.generator.ndim == "2d":
        raise RecipeError("generator.ndim is 2d, and the point spread function has three dimensions: leave it out.")
    if recipe.supervision.kind != "full" and recipe.generator.kind not in DEAF:
        if recipe.supervision.recorrupt == "auto":
            reasons["supervision.recorrupt"] = "split: where a voxel is hidden, nothing around it can be made sharp"
        # What a blur leaves faint says little of how well it is made sharp.
        recipe = _open(recipe, {"supervision": {"recorrupt": "split"}, "stop": {"rule": "fixed"}})
    if recipe.output.classical == "blend":
        reasons["output.classical"] = "blend: what the network found is led on by like patches"
    return recipe, reasons


class _HoleEffort(NamedTuple):
    """What inpainting by examples takes beside voxels that stay; like patches complete what a network has begun."""

    channels: tuple[int, ...]
    patch: int
    rate: float
    steps: dict[str, int]


HOLE_EFFORT = {
    "2d": _HoleEffort((48,) * 5, 256, 0.002, {"fast": 60, "balanced": 150, "best": 600}),
    "3d": _HoleEffort((16,) * 4, 64, 0.002, {"fast": 60, "balanced": 200, "best": 600}),
}


class _ScaleEffort(NamedTuple):
    """What super-resolution takes."""

    channels: tuple[int, ...]
    patch: int
    steps: dict[str, int]


SCALE_EFFORT = {
    "2d": _ScaleEffort((64,) * 7, 48, {"fast": 250, "balanced": 700, "best": 4000}),
    "3d": _ScaleEffort((32,) * 5, 32, {"fast": 200, "balanced": 600, "best": 2000}),
    "slices": _ScaleEffort((64,) * 7, 64, {"fast": 400, "balanced": 1500, "best": 5000}),
}


def _open(recipe: Recipe, wishes: dict[str, dict[str, Any]]) -> Recipe:
    """Set those of some options that the recipe leaves open."""
    changes = {
        group: {
            name: value for name, value in options.items() if getattr(getattr(recipe, group), name) in (None, "auto")
        }
        for group, options in wishes.items()
    }
    return recipe.merged(changes)
