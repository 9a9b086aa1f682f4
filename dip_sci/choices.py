"""What the recipe leaves open, decided for one image, with the reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dip_sci.errors import RecipeError
from dip_sci.inputs import CHANNELS, JITTER
from dip_sci.layout import spacings
from dip_sci.noise_frames import SHARED
from dip_sci.recipe import DEAF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe


class _Effort(NamedTuple):
    """A preset's numbers."""

    width: int
    steps: int
    passes: int
    full_steps: int


PRESETS: dict[str, dict[str, _Effort]] = {
    "2d": {
        "fast": _Effort(width=24, steps=56, passes=4, full_steps=1500),
        "balanced": _Effort(width=32, steps=220, passes=12, full_steps=3000),
        "best": _Effort(width=48, steps=800, passes=24, full_steps=6000),
    },
    "3d": {
        "fast": _Effort(width=12, steps=120, passes=4, full_steps=800),
        "balanced": _Effort(width=16, steps=300, passes=8, full_steps=1500),
        "best": _Effort(width=24, steps=900, passes=16, full_steps=3000),
    },
}

FEW_HIDDEN, MANY_HIDDEN = (0.1, 0.4), (0.1, 0.6)
STRONG = 0.7
"""Noise, as a share of the image's contrast, beyond which a voxel says so little that more of them can be hidden."""

WEAK = 0.5
"""Noise, as a share of the image's contrast, below which a small patch says enough for a step: more of them fit."""

SMALL_PATCH, MORE_STEPS, HIGHER_RATE = 128, 1.8, 0.004

ROUNDS = 100
"""How often a fit may see each voxel before it comes to know its noise by heart: flipped, it is another. What is seen less often is
learned more slowly for that.
"""

MANY_ROUNDS = 300
"""How often, flipped, before it is watched whether the error still falls."""

FEW_VOXELS, FEW_ROUNDS = 2**15, 220
"""Voxels that are too few to watch it by, and how often these, or what is not flipped, are seen at most."""

SLOW = {"classic_unet": 0.001, "resnet": 0.001}
"""Learning rates of the generators that diverge at the others' 0.01 under full supervision (the paper's)."""

IN_TIME = 3
"""Frames on either side that are seen with each."""

THICK = 3.0
"""Planes further apart than this many in-plane spacings say little about each other: 2D."""


@dataclass
class Choices:
    """A recipe with nothing left open, and one sentence for each choice made.

    Attributes
    ----------
    given
        The recipe as the user wrote it.
    recipe
        All options decided, but for the noise (estimated per channel) and the device.
    reasons
        By option, why.
    """

    given: Recipe
    recipe: Recipe
    reasons: dict[str, str] = field(default_factory=dict)


def decide(recipe: Recipe, image: Image, *, fast_bfloat16: bool) -> Choices:
    """Decide every option that is ``None`` or ``auto``.

    Parameters
    ----------
    recipe
        As the user wrote it.
    image
        What will be restored.
    fast_bfloat16
        Whether the device is fast at bfloat16.

    Raises
    ------
    RecipeError
        If options contradict each other or the image.
    """
    reasons: dict[str, str] = {}
    ndim = _ndim(recipe, image, reasons)
    effort = PRESETS[ndim][recipe.preset]
    kind = _supervised(recipe, reasons)
    full = kind == "full"
    generator = _generator(recipe, full, ndim, effort)
    changes: dict[str, Any] = {
        "noise": _noise(recipe, image, reasons),
        "generator": generator | _neighbours(recipe, image, full, ndim, reasons),
        "input": _input(recipe, generator),
        "supervision": _supervision(recipe, kind, ndim, effort),
        "fit": _fit(recipe, image, full, ndim, effort, fast_bfloat16, reasons)
        | {"rate": _or(recipe.fit.rate, SLOW.get(generator["kind"], 0.01) if full else 0.002)},
    }
    changes["stop"] = _stop(recipe, full, changes["fit"]["steps"], reasons)
    return Choices(recipe, recipe.merged(changes), reasons)


def _noise(recipe: Recipe, image: Image, reasons: dict[str, str]) -> dict[str, Any]:
    """Say what the kind of scanner tells of the noise."""
    if recipe.noise.spatial != "auto" or image.source.modality != "CT":
        return {}
    reasons["noise.spatial"] = "correlated: computed tomography reconstructs its images, and neighbours share the noise"
    return {"spatial": "correlated"}


def with_noise(
    choice: Choices, sigma: float, sizes: Sequence[int], *, correlated: bool, in_time: float = 0.0
) -> Choices:
    """Decide what depends on the noise.

    Parameters
    ----------
    choice
        From `decide`.
    sigma
        Standard deviation of the noise over that of the noisy image, 0 to 1.
    sizes
        Number of the images that share a network, and their edges.
    correlated
        Whether neighbouring voxels share noise.
    in_time
        Share of the noise that frames have in common with the next.
    """
    given, recipe, reasons = choice.given, choice.recipe, dict(choice.reasons)
    if recipe.supervision.kind == "full":
        return choice
    if recipe.generator.neighbours and given.generator.neighbours is None and in_time > SHARED:
        recipe = recipe.merged({"generator": {"neighbours": 0}})
        reasons["generator.neighbours"] = (
            f"0: frames share {in_time:.0%} of their noise with the next, and give it away"
        )
    supervision: dict[str, Any] = {}
    if given.supervision.recorrupt == "auto":
        supervision["recorrupt"] = "split" if correlated else "hide"
        reasons["supervision.recorrupt"] = (
            "split: neighbouring voxels share noise, so that a hidden one gives its noise away"
            if correlated
            else "hide: the noise is independent from voxel to voxel"
        )
    if given.supervision.hidden is None:
        low, high = supervision["hidden"] = MANY_HIDDEN if sigma > STRONG else FEW_HIDDEN
        reasons["supervision.hidden"] = f"{low} to {high}: the noise is {sigma:.0%} of all contrast"
    recipe = recipe.merged({"supervision": supervision})
    # Preset fast gains time by it, and loses nothing; others lose what large patches make of many steps.
    weak = STRONG if recipe.preset == "fast" else WEAK
    if sigma < weak and recipe.supervision.recorrupt == "hide" and recipe.generator.ndim == "2d":
        recipe = _small_patches(given, recipe, reasons)
    return Choices(given, _for_long(given, recipe, sizes, reasons), reasons)


def _small_patches(given: Recipe, recipe: Recipe, reasons: dict[str, str]) -> Recipe:
    """Trade the size of the patches for steps: weak noise leaves a fit short of steps, not of voxels."""
    changes: dict[str, Any] = {"supervision": {}, "fit": {}, "stop": {}}
    if given.supervision.patch is None:
        changes["supervision"]["patch"] = SMALL_PATCH
        reasons["supervision.patch"] = (
            f"{SMALL_PATCH}: the noise is not strong, so that many small steps do more than few large"
        )
    if given.fit.rate is None:
        changes["fit"]["rate"] = HIGHER_RATE
    if given.fit.steps is None and given.supervision.patch is None:
        assert recipe.fit.steps is not None
        steps = changes["fit"]["steps"] = round(MORE_STEPS * recipe.fit.steps)
        reasons["fit.steps"] = f"{steps}: preset {recipe.preset} for small patches"
        changes["stop"]["min_start"] = _min_start(given, steps)
    return recipe.merged(changes)


def _for_long(given: Recipe, recipe: Recipe, sizes: Sequence[int], reasons: dict[str, str]) -> Recipe:
    """Keep a fit that comes back to the same voxels often from knowing their noise by heart."""
    steps, voxels = recipe.fit.steps, math.prod(sizes)
    assert steps is not None
    of_patch = math.prod(map(min, patch_shape(recipe), sizes[1:]))
    most = round(FEW_ROUNDS * voxels / of_patch)
    short = voxels < FEW_VOXELS or recipe.supervision.flips == "no"
    if given.fit.steps is None and short and steps > most:
        steps = most
        recipe = recipe.merged({"fit": {"steps": steps}, "stop": {"min_start": _min_start(given, steps)}})
        reasons["fit.steps"] = f"{steps}: more would teach the noise of {voxels} voxels"
    rounds = steps * of_patch / voxels
    seen = f"each voxel is seen about {rounds:.0f} times"
    if recipe.supervision.flips == "auto":
        flips = "yes" if rounds > ROUNDS else "no"
        recipe = recipe.merged({"supervision": {"flips": flips}})
        reasons["supervision.flips"] = f"{flips}: {seen}"
    if given.stop.rule == "auto" and rounds > MANY_ROUNDS:
        # Single voxels that are hidden need no model of the noise, where neighbours do not give theirs away.
        rule = "held_out" if recipe.supervision.recorrupt == "hide" else "sure"
        recipe = recipe.merged({"stop": {"rule": rule}})
        reasons["stop.rule"] = f"{rule}: {seen}, and the fit may come to know their noise"
    return recipe


def patch_shape(recipe: Recipe) -> tuple[int, ...]:
    """Shape of the patches of a recipe of which everything is decided: a volume's are flatter, as planes are fewer than rows."""
    edge = recipe.supervision.patch
    assert edge is not None
    return (edge, edge) if recipe.generator.ndim == "2d" else (max(edge // 2, 8), edge, edge)


def advice(choice: Choices, *, correlated: bool, counts: bool) -> list[str]:
    """Say what it would take to do better.

    Parameters
    ----------
    choice
        From `with_noise`.
    correlated
        Whether neighbouring voxels share noise.
    counts
        Whether photons are counted.
    """
    found = []
    given, recipe = choice.given, choice.recipe
    if recipe.preset != "best":
        now, best = (PRESETS[str(recipe.generator.ndim)][preset] for preset in (recipe.preset, "best"))
        found.append(f"Preset best fits {best.steps / now.steps:.1f} times as many steps of a wider network.")
    if counts and given.noise.gain is None:
        found.append("Dark and flat frames of the camera (dip-sci calibrate) say more about its noise than one image.")
    if correlated:
        found.append(
            "Neighbouring voxels share noise, as interpolation and reconstruction filters make them: "
            "an image from before those, or with a sharper filter, can be cleaned further."
        )
    return found


def passes(recipe: Recipe, image: Image) -> int:
    """How many passes the result of a run averages: one under full supervision."""
    decided = decide(recipe, image, fast_bfloat16=False).recipe.supervision
    return 1 if decided.kind == "full" else decided.passes or 1


def _ndim(recipe: Recipe, image: Image, reasons: dict[str, str]) -> Literal["2d", "3d"]:
    wanted, depth = recipe.generator.ndim, image.size_of("Z")
    if wanted != "auto":
        if wanted == "3d" and depth < 2:
            raise RecipeError(f"generator.ndim is 3d, but the image has no depth: axes {image.axes}, {image.shape}.")
        return wanted
    if "Z" not in image.axes or depth == 1:
        return "2d"
    z, y, x = spacings(image, "ZYX")
    if depth < 8:
        reasons["generator.ndim"] = f"2d: {depth} planes are too few for a 3D network"
        return "2d"
    if z > THICK * max(y, x):
        reasons["generator.ndim"] = f"2d: planes are {z:.3g} apart, {z / max(y, x):.1f} times the in-plane spacing"
        return "2d"
    reasons["generator.ndim"] = f"3d: {depth} planes, {z / max(y, x):.2g} times the in-plane spacing apart"
    return "3d"


def _supervised(recipe: Recipe, reasons: dict[str, str]) -> Literal["full", "recorrupted"]:
    wanted, generator = recipe.supervision.kind, recipe.generator.kind
    if generator in DEAF:
        if wanted == "recorrupted":
            raise RecipeError(
                f"generator.kind is {generator}, which cannot be shown an image, and supervision.kind is recorrupted: "
                "set it to full, or choose another generator."
            )
        reasons["supervision.kind"] = f"full: {generator} cannot be shown an image"
        return "full"
    if wanted != "auto":
        return wanted
    reasons["supervision.kind"] = "recorrupted: for denoising, better and many times faster than full"
    return "recorrupted"


def _generator(recipe: Recipe, full: bool, ndim: str, effort: _Effort) -> dict[str, Any]:
    options = recipe.generator
    kind = options.kind if options.kind != "auto" else ("hourglass" if full else "unet")
    if options.output == "sigmoid" and (kind in ("unet", "plain") or not full):
        raise RecipeError(
            f"generator.output is sigmoid, with generator.kind {kind} and supervision.kind "
            f"{'full' if full else 'recorrupted'}: only under full supervision can a network end in one, and unet and plain cannot."
        )
    decided: dict[str, Any] = {"ndim": ndim, "kind": kind}
    if kind == "pixels":
        return decided
    decided["channels"] = options.channels or _channels(kind, ndim, effort)
    if kind == "hourglass":
        decided["skip_channels"] = options.skip_channels or (4,)
    if kind == "unet":
        decided["dropout"] = _or(options.dropout, 0.0 if full else 0.3)
    if kind not in ("plain", "classic_unet", "resnet"):
        decided["upsample"] = options.upsample or (("linear",) if kind == "deep_decoder" else ("nearest",))
    return decided


def _channels(kind: str, ndim: str, effort: _Effort) -> tuple[int, ...]:
    flat = ndim == "2d"
    if kind == "hourglass":
        return (16, 32, 64, 128, 128) if flat else (16, 32, 64, 128)
    if kind == "classic_unet":
        return (16, 32, 64, 128, 256) if flat else (16, 32, 64, 128)
    if kind == "resnet":
        return (32,) * 8 if flat else (16,) * 8
    if kind == "deep_decoder":
        return (128,) * 6 if flat else (64,) * 5
    if kind == "conv_decoder":
        return (64,) * 7 if flat else (32,) * 6
    return (effort.width,) * (5 if flat else 4)


def _input(recipe: Recipe, generator: dict[str, Any]) -> dict[str, Any]:
    options, deaf = recipe.input, generator["kind"] in DEAF
    if deaf and options.kind == "image":
        raise RecipeError(
            f"input.kind is image, which generator.kind {generator['kind']} cannot be shown: leave it out."
        )
    layers = generator.get("channels", ())
    return {
        "channels": options.channels or (min(layers[0], 512) if deaf and layers and layers[0] else CHANNELS),
        "jitter": _or(options.jitter, 0.0 if deaf else JITTER),
    }


def _neighbours(recipe: Recipe, image: Image, full: bool, ndim: str, reasons: dict[str, str]) -> dict[str, Any]:
    """Decide what is seen with each image of a stack, and along which axis it lies."""
    given, along = recipe.generator.neighbours, recipe.generator.along
    if along == "auto":
        along = "T" if image.size_of("T") > 1 else "Z"
    size = image.size_of(along)
    if given is None:
        given = 0 if full or size < 2 else _usual(image, along, ndim, reasons)
    elif given and full:
        raise RecipeError(
            f"generator.neighbours is {given}, but with supervision.kind full the network sees no image: leave it out."
        )
    elif given and along == "Z" and ndim == "3d":
        raise RecipeError(f"generator.neighbours is {given}, but a 3D network sees all planes: leave it out.")
    elif 2 * given > size:
        what = "frames" if along == "T" else "planes"
        raise RecipeError(f"generator.neighbours is {given}, but the image has {size} {what}: {size // 2} at most.")
    return {"neighbours": given, "along": along}


def _usual(image: Image, along: str, ndim: str, reasons: dict[str, str]) -> int:
    if along == "T":
        found = min(IN_TIME, image.size_of("T") // 2)
        reasons["generator.neighbours"] = f"{found}: frames show much the same as their neighbours, with other noise"
        return found
    z, y, x = spacings(image, "ZYX") if "Z" in image.axes else (1.0, 1.0, 1.0)
    if ndim == "3d" or z <= THICK * max(y, x):
        return 0
    reasons["generator.neighbours"] = "1: thick planes show much the same as their neighbours, with other noise"
    return 1


def _supervision(recipe: Recipe, kind: str, ndim: str, effort: _Effort) -> dict[str, Any]:
    options = recipe.supervision
    if kind == "full" and options.flips == "yes":
        raise RecipeError("supervision.flips is yes, which needs supervision.kind recorrupted: full fits no patches.")
    return {
        "kind": kind,
        "passes": _or(options.passes, effort.passes),
        "patch": _or(options.patch, 256 if ndim == "2d" else 64),
        "flips": "no" if kind == "full" else options.flips,
    }


def _fit(
    recipe: Recipe,
    image: Image,
    full: bool,
    ndim: str,
    effort: _Effort,
    fast_bfloat16: bool,
    reasons: dict[str, str],
) -> dict[str, Any]:
    options = recipe.fit
    if not full and options.tv:
        raise RecipeError(
            f"fit.tv is {options.tv:g}, which needs supervision.kind full: with recorrupted no image is fitted, but how "
            "to make one."
        )
    steps = options.steps
    if steps is None:
        steps = effort.full_steps if full else _recorrupted_steps(image, ndim, effort)
        reasons["fit.steps"] = f"{steps}: preset {recipe.preset} for an image of shape {image.shape}"
    precision = options.precision
    if precision == "auto":
        precision = "bfloat16" if fast_bfloat16 else "float32"
        reasons["fit.precision"] = f"{precision}: what this device is fast at"
    schedule = options.schedule
    if schedule == "auto":
        schedule = "constant" if full else "one_cycle"
    return {
        "steps": steps,
        "schedule": schedule,
        "averaging": _or(options.averaging, 0.99 if full else 0.98),
        "precision": precision,
    }


def _recorrupted_steps(image: Image, ndim: str, effort: _Effort) -> int:
    """More steps for more content, but far fewer than in proportion: patches of one image are alike.

    A volume has many patches from the start.
    """
    images = float(image.array.size / 256**2) if ndim == "2d" else 1.0
    more: float = images ** (2 / 3)
    return round(effort.steps * min(max(more, 1.0), 2.0))


def _stop(recipe: Recipe, full: bool, steps: int, reasons: dict[str, str]) -> dict[str, Any]:
    options = recipe.stop
    rule = options.rule
    if rule == "auto":
        rule = "moving_variance" if full else "fixed"
        why = "the fit would go on to the noise" if full else "a fit that is not very long hardly overfits"
        reasons["stop.rule"] = f"{rule}: {why}"
    if not full and rule in ("windowed_variance", "moving_variance", "discrepancy", "split"):
        raise RecipeError(
            f"stop.rule is {rule}, which needs supervision.kind full; with recorrupted, use held_out or sure."
        )
    if full and rule == "sure":
        raise RecipeError(
            "stop.rule is sure, which needs supervision.kind recorrupted: under full supervision the noise gets into "
            "the weights, which it does not see. Use split, which does."
        )
    return {"rule": rule, "min_start": _min_start(recipe, steps)}


def _min_start(given: Recipe, steps: int) -> int:
    return min(100, steps // 5) if given.stop.min_start is None else given.stop.min_start


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given
