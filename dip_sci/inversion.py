"""Natural pre-image: which images look the same to a network, up to one of its layers."""

from __future__ import annotations

import copy
import difflib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dip_sci import choices, generators, stopping
from dip_sci import device as machine
from dip_sci.errors import ImageError, RecipeError
from dip_sci.fit import Settings, iter_fit
from dip_sci.image import needed
from dip_sci.layout import Layout, spacings
from dip_sci.problem import Problem
from dip_sci.progress import Progress
from dip_sci.recipe import Recipe
from dip_sci.restoration import Report, Restoration
from dip_sci.scaling import cast
from dip_sci.supervision import Full

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.choices import Choices
    from dip_sci.fit import Fitted
    from dip_sci.image import Image
    from dip_sci.operators import Guess

PAPER = Recipe.parse(
    {
        "generator": {
            "kind": "hourglass",
            "channels": (16, 32, 64, 128, 128, 128),
            "kernel_down": (7, 7, 5, 5, 3, 3),
            "kernel_up": (7, 7, 5, 5, 3, 3),
            "skip_channels": (4,),
            "downsample": "average",
            "upsample": ("nearest",),
            "output": "sigmoid",
        },
        "input": {"jitter": 0.0},
        "supervision": {"kind": "full"},
        "fit": {"steps": 3100, "rate": 0.001},
        "stop": {"rule": "fixed"},
        "output": {"classical": "none"},
    }
)
"""Settings of Ulyanov, Vedaldi & Lempitsky, IJCV 2020."""

RULES = ("auto", "fixed", "windowed_variance", "moving_variance")


def pre_image(
    module: nn.Module,
    layer: str,
    image: Image,
    recipe: Recipe | None = None,
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    cancel: threading.Event | None = None,
) -> Restoration:
    """Find a natural image that a module cannot tell from another one, going by the activations of one layer.

    What the image found has in common with the given one, the layer has kept; where they differ, it has forgotten.

    Parameters
    ----------
    module
        Any torch module that maps ``(1, C, *spatial)`` to anything. A copy is used, in evaluation mode.
    layer
        Name of one of its parts, as in ``module.named_modules()``.
    image
        What the module is shown: its channels and colours are C, its depth, rows and columns the spatial axes.
    recipe
        Options that differ from the paper's: generator, input, fit and stop.
    preprocess
        What turns the image's own values into what the module was trained on, for instance
        ``lambda x: (x - 127.5) / 58``; it must be differentiable.
    cancel
        When set (from another thread), the run ends after the current step with the result so far.

    Returns
    -------
    Restoration
        Its image is the pre-image, on the given one's grid; its report's data terms are mean square differences of
        the activations, over their variance.

    Raises
    ------
    RecipeError
        If there is no such layer (the message names near ones), or an option means nothing here.
    ImageError
        If the module does not take such an image.
    FitError
        If the fit diverges, and does so at an eighth of the rate, too.

    Notes
    -----
    ``min_theta ||phi(f_theta(z)) - phi(x0)||^2`` (Ulyanov, Vedaldi & Lempitsky, IJCV 2020, section 3.4), with the range
    of the given image as that of the result.

    Examples
    --------
    >>> result = pre_image(unet, "model.0.conv", image)  # doctest: +SKIP
    """
    run = iter_pre_image(module, layer, image, recipe, preprocess=preprocess, cancel=cancel)
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: Restoration = end.value
            return result


def iter_pre_image(
    module: nn.Module,
    layer: str,
    image: Image,
    recipe: Recipe | None = None,
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    cancel: threading.Event | None = None,
) -> Generator[Progress[NDArray[Any]], None, Restoration]:
    """Find a pre-image, step by step; see `pre_image`.

    Yields
    ------
    Progress
        After each step.
    """
    started = time.monotonic()
    asked, image = _asked(recipe), needed(image).loaded()
    where = machine.pick(asked.device)
    shown = _Shown(image, asked)
    choice = choices.decide(asked, image, fast_bfloat16=machine.fast_bfloat16(where))
    phi = Activations(module, layer, preprocess, shown.low, shown.width).to(where)
    problem = phi.problem(shown.tensor.to(where))
    fit = _fit(choice, problem, shown, cancel)
    memory = machine.memory_in_use(where)
    with machine.kept_memory():
        while True:
            try:
                progress = next(fit)
            except StopIteration as end:
                fitted: Fitted = end.value
                break
            memory = max(memory, progress.memory)

            def preview(now: Progress[Tensor] = progress) -> NDArray[Any]:
                return shown.values(now.preview().mean(0))

            yield progress.showing(preview)
    dtype = np.dtype(np.float32) if asked.output.dtype == "float32" else image.dtype
    array, clipped = cast(shown.values(fitted.estimate.mean(0)), dtype, image.value_range)
    spread = None
    if len(fitted.estimate) > 1:
        spread = image.with_array(np.std([shown.values(e) for e in fitted.estimate], axis=0, ddof=1).astype(np.float32))
    report = Report(
        task="pre_image",
        asked={"layer": layer},
        recipe=choice.recipe,
        reasons=choice.reasons,
        noise=(),
        reason=fitted.reason,
        steps=fitted.steps,
        best_step=fitted.best_step,
        data_terms=fitted.data_terms,
        stop_curve=fitted.stop_curve,
        weights={},
        risks={},
        clipped=clipped,
        seconds=time.monotonic() - started,
        memory=memory,
        device=machine.describe(where),
        notes=(*image.source.notes, f"Pre-image of layer {layer}: no restoration of the scan."),
        advice=(),
    )
    return Restoration(image.with_array(array), spread, None, report)


class _Reached(Exception):
    """The layer has been computed; nothing after it is needed."""


class Activations:
    """The forward operator of a pre-image: what a layer of a network makes of an image.

    Parameters
    ----------
    module, layer, preprocess
        As for `pre_image`.
    low, width
        The network's range 0..1 in the image's own units.
    """

    reach: tuple[int, ...] = ()

    def __init__(
        self, module: nn.Module, layer: str, preprocess: Callable[[Tensor], Tensor] | None, low: float, width: float
    ) -> None:
        if not isinstance(module, nn.Module):
            raise RecipeError(f"A torch module is needed, not {type(module).__name__}.")
        # A copy: the user's own keeps its mode, its gradients and its device.
        self.module = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
        self.layer, self.preprocess = layer, preprocess
        self.low, self.width, self.scale = low, width, 1.0
        self.shape: tuple[int, ...] = ()
        parts = dict(self.module.named_modules())
        if not layer or layer not in parts:
            names = [name for name in parts if name]
            near = difflib.get_close_matches(str(layer), names, n=3, cutoff=0.4) or names[:5]
            raise RecipeError(
                f"The module has no layer {layer!r}; "
                + (f"near ones are {', '.join(map(repr, near))}." if near else "it has no named parts at all.")
            )
        self._found: Any = None
        parts[layer].register_forward_hook(self._keep)

    def _keep(self, part: nn.Module, seen: Any, found: Any) -> None:
        self._found = found
        raise _Reached

    def to(self, device: torch.device) -> Activations:
        """Move the module to a device."""
        self.module.to(device)
        return self

    def problem(self, x: Tensor) -> Problem:
        """Return the problem of finding an image with the activations of this one, ``(1, C, *spatial)`` in 0..1.

        Raises
        ------
        ImageError
            If the module does not take it.
        RecipeError
            If the layer takes no part, or gives no tensor.
        """
        try:
            with torch.no_grad():
                y = self.forward(x)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            first = str(error).strip().splitlines()
            raise ImageError(
                f"The module does not take an image of shape {tuple(x.shape)} (one image, channels, space): "
                f"{first[0] if first else type(error).__name__}"
            ) from error
        if not bool(torch.isfinite(y).all()):
            raise ImageError(f"The activations of layer {self.layer!r} for this image are not all finite numbers.")
        spread = float(y.std()) if y.numel() > 1 else 0.0
        self.scale, self.shape = spread or 1.0, tuple(x.shape[1:])
        y = y / self.scale
        ones = torch.ones_like(y[:, :1])
        return Problem(y, ones, ones.clone(), torch.ones_like(y), self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, *spatial)`` in 0..1 to activations of the layer, over their spread for the image given."""
        x = self.low + self.width * x
        self._found = None
        try:
            self.module(x if self.preprocess is None else self.preprocess(x))
        except _Reached:
            found = self._found
        else:
            raise RecipeError(f"Layer {self.layer!r} takes no part when the module is called; choose another one.")
        if isinstance(found, tuple | list) and len(found) and isinstance(found[0], torch.Tensor):
            found = found[0]
        if not isinstance(found, torch.Tensor) or found.ndim < 2:
            raise RecipeError(f"Layer {self.layer!r} gives no tensor of activations; choose another one.")
        self._found = None
        # Flat activations get the spatial axes that a problem's parts have.
        out: Tensor = found.float()[(...,) + (None,) * max(0, 4 - found.ndim)] / self.scale
        return out

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`: activations say nothing about single voxels, so that this is an empty image."""
        return y.new_zeros(len(y), *self.shape)

    def features(self, channels: int) -> int:
        """See `Operator`: no network is shown a guess under full supervision."""
        return 0

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """See `Operator`: activations give no first image."""
        raise NotImplementedError

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`: nothing is."""
        return y


class _Shown:
    """The image as the module sees it, and back."""

    def __init__(self, image: Image, recipe: Recipe) -> None:
        self.image = image
        if image.dtype.kind not in "iuf":
            raise ImageError(f"Values of type {image.dtype} cannot be shown to a module: convert them to real numbers.")
        if not image.measured().all():
            raise ImageError(
                "The image has voxels without a measurement, which a module cannot be shown: fill them first."
            )
        if image.size_of("T") > 1:
            raise ImageError(f"The image has {image.size_of('T')} times: give one of them.")
        self.spatial = "ZYX" if image.size_of("Z") > 1 and recipe.generator.ndim != "2d" else "YX"
        if self.spatial == "YX" and image.size_of("Z") > 1:
            raise ImageError("generator.ndim is 2d, and the image is a volume: give one of its planes.")
        self.layout = Layout(image.axes, self.spatial, joint=True)
        values = image.array.astype(np.float64)
        self.low, self.width = float(values.min()), float(np.ptp(values)) or 1.0
        stack = self.layout.stack((values - self.low) / self.width)
        self.tensor = torch.from_numpy(stack.reshape(1, stack.shape[1], *stack.shape[3:]).astype(np.float32))

    def values(self, estimate: Tensor) -> NDArray[Any]:
        """Turn an estimate ``(1, C, *spatial)`` into values on the image's axes."""
        stack = estimate.cpu().numpy().astype(np.float64)[:, :, None]
        return self.low + self.width * self.layout.unstack(stack, self.image.shape)


def _asked(recipe: Recipe | None) -> Recipe:
    """Merge what the user asks for over the paper's settings.

    Raises
    ------
    RecipeError
        If an option means nothing for a pre-image.
    """
    given = Recipe.needed(recipe).model_dump(exclude_unset=True)
    for group in ("noise", "supervision"):
        extra = given.get(group, {})
        if extra and extra != {"kind": "full"}:
            raise RecipeError(f"{group}.{next(iter(extra))} means nothing for a pre-image: leave it out.")
    if given.get("input", {}).get("kind") == "image":
        raise RecipeError("input.kind is image, which would give the pre-image away: leave it out.")
    kind = given.get("generator", {}).get("kind", "hourglass")
    base = PAPER.model_dump(exclude_unset=True)
    if kind not in ("auto", "hourglass"):
        # The paper's shape is that of its own network.
        base.pop("generator")
    elif "channels" in given.get("generator", {}):
        # One kernel per scale: other scales have no use for its list.
        base["generator"] |= {"kernel_down": (3,), "kernel_up": (3,)}
    rule = given.get("stop", {}).get("rule", "fixed")
    if rule not in RULES:
        raise RecipeError(f"stop.rule is {rule}, which needs noise: a pre-image stops by {', '.join(RULES[1:])}.")
    return Recipe.parse(base).merged(given)


def _fit(
    choice: Choices, problem: Problem, shown: _Shown, cancel: threading.Event | None
) -> Generator[Progress[Tensor], None, Fitted]:
    recipe, where = choice.recipe, problem.observation.device
    options, fit = recipe.generator, recipe.fit
    shape, spacing = tuple(shown.tensor.shape[2:]), spacings(shown.image, shown.spatial)
    rng = torch.Generator(where).manual_seed(recipe.seed)
    grid = generators.input_grid(options, shape, spacing)
    teacher = Full(problem, recipe.input, fit.seeds, None, rng, grid=grid)
    settings = Settings.of(recipe, recipe.stop.max_seconds)
    return iter_fit(
        lambda: generators.build(
            options, inside=teacher.inside, outside=shown.tensor.shape[1], shape=shape, spacing=spacing
        ),
        problem,
        teacher,
        stopping.build(recipe.stop),
        settings,
        cancel,
    )
