"""Compression: an image as the weights of a Deep Decoder (Heckel & Hand, ICLR 2019), and back."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from dip_sci import device as machine
from dip_sci.coded import LARGEST, Rounded, encoded
from dip_sci.compressed import SUFFIX, Header, Packed, Stored
from dip_sci.decompression import (
    decompress,
    fixed_input,
    input_grid,
    layout_of,
    network_of,
    scaling_of,
    spacing,
    to_values,
)
from dip_sci.errors import ImageError, RecipeError, WriteError
from dip_sci.fit import Settings, iter_fit
from dip_sci.image import needed
from dip_sci.io.files import refuse_target, replacing
from dip_sci.layout import Layout
from dip_sci.operators import Identity
from dip_sci.problem import Problem
from dip_sci.recipe import InputOptions
from dip_sci.scaling import Scaling
from dip_sci.stopping import Fixed, StopReason
from dip_sci.supervision import Full

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dip_sci.fit import Fitted
    from dip_sci.image import Image
    from dip_sci.progress import Progress

    Fit = Generator[Progress[Tensor], None, Fitted]

LAYERS = {"YX": 6, "ZYX": 5}
NARROWEST, WIDEST = 4, 512
STEPS, RATE, AVERAGING = 2000, 0.03, 0.9
ROUNDED, GENTLY = 0.2, 0.1
"""Share of the steps in which weights that are stored rounded learn to be so, and of the rate."""


@dataclass(frozen=True, eq=False)
class Compression:
    """A compressed image.

    Attributes
    ----------
    content
        The file: what `decompress` reads.
    image
        What `decompress` makes of it.
    factor
        Size of the image's values in memory over that of the file.
    psnr
        Peak signal-to-noise ratio of `image` in dB, over the range of the values that were measured.
    width
        Channels of the network.
    steps, seconds
        What the fit took.
    reason
        Why it ended.
    """

    content: bytes
    image: Image
    factor: float
    psnr: float
    width: int
    steps: int
    seconds: float
    reason: StopReason

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the file; whole or not at all.

        Raises
        ------
        WriteError
            If the suffix is not ``.npz``, the file exists and `overwrite` is not set, or it cannot be written.
        """
        target = Path(path)
        check_target(target, overwrite=overwrite)
        try:
            with replacing(target, SUFFIX) as temporary:
                temporary.write_bytes(self.content)
        except OSError as error:
            raise WriteError(f"{target} could not be written: {error.strerror or error}.") from error
        return target


def check_target(path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse a target that could not be written, before the fit.

    Raises
    ------
    WriteError
        One sentence: what is in the way, and what to do.
    """
    if path.suffix.lower() != SUFFIX:
        raise WriteError(f"{path}: the weights of a network are written as {SUFFIX}; give a name that ends so.")
    refuse_target(path, inputs, overwrite=overwrite)


def compress(
    image: Image,
    *,
    factor: float = 8.0,
    weights: Stored = "int8",
    steps: int = STEPS,
    seed: int = 0,
    device: str = "auto",
    cancel: threading.Event | None = None,
) -> Compression:
    """Fit a Deep Decoder to an image, for its weights to stand for it.

    Parameters
    ----------
    image
        Any image; all its channels, colours and times go into one network.
    factor
        How many times smaller the file is to be than the image's values: the network is as wide as that allows.
    weights
        Type in which the weights are stored: ``"int8"``, rounded as the network has learned to bear, or as they are in a
        narrower one.
    steps
        Steps of the fit.
    seed
        Seed of the network's input and of its first weights.
    device
        As in the recipe.
    cancel
        When set (from another thread), the fit ends after the current step.

    Raises
    ------
    ImageError
        If there is nothing to compress, or the smallest network is too large for the factor.
    RecipeError
        If an argument cannot be used.
    """
    run = iter_compress(image, factor=factor, weights=weights, steps=steps, seed=seed, device=device, cancel=cancel)
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: Compression = end.value
            return result


def iter_compress(
    image: Image,
    *,
    factor: float = 8.0,
    weights: Stored = "int8",
    steps: int = STEPS,
    seed: int = 0,
    device: str = "auto",
    cancel: threading.Event | None = None,
) -> Generator[Progress[NDArray[Any]], None, Compression]:
    """Compress an image, step by step; see `compress`.

    Yields
    ------
    Progress
        After each step.
    """
    started = time.monotonic()
    image = needed(image).loaded()
    _check(image, factor, weights, steps, seed)
    where = machine.pick(device)
    draft = _draft(image, seed)
    header = _widest(draft, image, factor, weights)
    layout = layout_of(header)
    measured = image.measured()
    scaling = scaling_of(header)
    filled = np.where(measured, image.array, 0).astype(np.float64)
    values = np.where(layout.stack(measured), scaling.forward(layout.stack(filled)), 0).astype(np.float32)
    problem = _problem(values, layout.stack(measured), spacing(header)).to(where)
    fit = _fits(problem, header, weights, steps, seed, cancel)
    with machine.kept_memory():
        while True:
            try:
                progress = next(fit)
            except StopIteration as end:
                network, done, reason = end.value
                break

            def preview(now: Progress[Tensor] = progress) -> NDArray[Any]:
                return to_values(now.preview()[0].cpu().numpy(), header)

            yield progress.showing(preview)
    unmeasured = None if measured.all() else ~measured
    content = _packed(header, network, weights, unmeasured).to_bytes()
    codes = LARGEST
    while weights == "int8" and codes > 1 and len(content) > image.array.nbytes / factor:
        # After a few steps the weights are still spread evenly, as they were drawn, and deflate less.
        codes = codes * 9 // 10
        content = _packed(header, network, weights, unmeasured, codes).to_bytes()
    result = decompress(content)
    return Compression(
        content,
        result,
        image.array.nbytes / len(content),
        _psnr(image, result, measured),
        header.width,
        done,
        time.monotonic() - started,
        reason,
    )


def _fits(
    problem: Problem, header: Header, weights: Stored, steps: int, seed: int, cancel: threading.Event | None
) -> Generator[Progress[Tensor], None, tuple[nn.Module, int, StopReason]]:
    """Fit a network, and once more with rounded weights where these are stored so: it, the steps done, why they ended."""
    gently = round(ROUNDED * steps) if weights == "int8" else 0

    def settings(count: int, rate: float) -> Settings:
        return Settings(
            steps=count, rate=rate, schedule="one_cycle", averaging=AVERAGING, seeds=1, seed=seed, precision="float32"
        )

    def fit(of: Callable[[], nn.Module], how: Settings, warm: Tensor | None = None) -> Fit:
        return iter_fit(of, problem, _Weights(problem, header), Fixed(), how, cancel, warm=warm)

    started = time.monotonic()
    first = fit(lambda: network_of(header), settings(steps - gently, RATE))
    fitted = yield from _counted(first, 0, steps, started)
    done = fitted.steps
    if gently and fitted.reason is StopReason.STEPS:
        second = fit(lambda: Rounded(network_of(header)), settings(gently, GENTLY * RATE), fitted.weights)
        fitted = yield from _counted(second, done, steps, started)
        done += fitted.steps
    assert fitted.network is not None
    return fitted.network, done, fitted.reason


def _counted(fit: Fit, before: int, steps: int, started: float) -> Fit:
    """Report on one of several fits as on a part of them all."""
    while True:
        try:
            progress = next(fit)
        except StopIteration as end:
            fitted: Fitted = end.value
            return fitted
        step, seconds = before + progress.step, time.monotonic() - started
        left = (steps - step) * seconds / step
        yield replace(progress, step=step, steps=steps, best_step=step, seconds=seconds, eta=left)


def _packed(
    header: Header, network: nn.Module, weights: Stored, unmeasured: NDArray[np.bool_] | None, codes: int = LARGEST
) -> Packed:
    if weights == "int8":
        return Packed(header, *encoded(network.parameters(), codes), unmeasured)
    flat = torch.cat([p.detach().flatten() for p in network.parameters()]).cpu().numpy()
    return Packed(header, flat.astype(weights), None, unmeasured)


class _Weights(Full):
    """Full supervision whose estimate is the network itself."""

    averages_outputs = False

    def __init__(self, problem: Problem, header: Header) -> None:
        super().__init__(
            problem,
            InputOptions(jitter=0.0),
            1,
            None,
            torch.Generator(problem.observation.device),
            grid=input_grid(header),
        )
        self.z = torch.from_numpy(fixed_input(header))[None].to(problem.observation.device)
        self.inside = header.width


def _check(image: Image, factor: float, weights: str, steps: int, seed: int) -> None:
    if image.dtype.kind not in "iuf":
        raise ImageError(f"Values of type {image.dtype} cannot be compressed: convert them to a real number type.")
    if not (np.isfinite(factor) and factor > 0):
        raise RecipeError(f"The factor must be positive, found {factor:g}.")
    if weights not in get_args(Stored):
        raise RecipeError(f"Weights are stored as {', '.join(get_args(Stored))}, not as {weights}.")
    if steps < 1 or not 0 <= seed < 2**31:
        raise RecipeError(f"Steps must be 1 or more and the seed 0 to 2^31 - 1, found {steps} and {seed}.")


def _draft(image: Image, seed: int) -> Header:
    """Return the header for this image, of the narrowest network."""
    measured = image.measured()
    if not measured.any():
        raise ImageError("The image holds no finite, measured voxel: there is nothing to compress.")
    spatial: Literal["YX", "ZYX"] = "ZYX" if image.size_of("Z") > 1 else "YX"
    layout = Layout(image.axes, spatial)
    values, seen = (
        layout.stack(part).reshape(image.size_of("C") * image.size_of("S"), 1, -1)
        for part in (np.where(measured, image.array, 0), measured)
    )
    scaling = Scaling.fit(values, seen)
    affine = None if image.affine is None else tuple((*map(float, row),) for row in image.affine)
    return Header(
        axes=image.axes,
        shape=image.shape,
        dtype=image.dtype.name,
        spacing=image.spacing,
        units=image.units,
        affine=affine,  # type: ignore[arg-type]
        value_range=image.value_range,
        channels=image.source.channels,
        spatial=spatial,
        width=NARROWEST,
        layers=LAYERS[spatial],
        seed=seed,
        centre=tuple(map(float, scaling.centre.ravel())),
        scale=tuple(map(float, scaling.width.ravel())),
        filling=_filling(image.array[~measured]),
    )


def _filling(unmeasured: NDArray[Any]) -> float | None:
    return float(unmeasured[0]) if unmeasured.size and np.isfinite(unmeasured[0]) else None


def _widest(draft: Header, image: Image, factor: float, weights: Stored) -> Header:
    """Return the header with the widest network whose file is as small as the factor asks for."""
    unmeasured = ~image.measured()
    mask = unmeasured if unmeasured.any() else None

    def size(header: Header) -> float:
        # Fitted weights deflate as normal numbers do, or better: some are far larger than most.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = network_of(header)
            for p in network.parameters():
                torch.nn.init.normal_(p, std=0.1)
        return 1.02 * len(_packed(header, network, weights, mask).to_bytes())

    def of(width: int) -> Header:
        return draft.model_copy(update={"width": width})

    budget = image.array.nbytes / factor
    if size(of(NARROWEST)) > budget:
        raise ImageError(
            f"An image of {image.array.nbytes} bytes cannot be made {factor:g} times smaller: the smallest network reaches "
            f"{image.array.nbytes / size(of(NARROWEST)):.3g}. Ask for less."
        )
    fits, too_wide = NARROWEST, WIDEST + 1
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        fits, too_wide = (middle, too_wide) if size(of(middle)) <= budget else (fits, middle)
    return of(fits)


def _problem(values: NDArray[np.float32], measured: NDArray[np.bool_], steps: tuple[float, ...]) -> Problem:
    """All images of the stack as the channels of one, weighted where any of them was measured."""
    spatial = values.shape[3:]
    y = torch.from_numpy(values.reshape(1, -1, *spatial))
    seen = torch.from_numpy(measured.reshape(1, -1, *spatial).all(axis=1, keepdims=True).astype(np.float32))
    sigma = torch.ones(1, y.shape[1], *(1,) * len(spatial))
    return Problem(y, seen, seen.clone(), sigma, Identity(steps))


def _psnr(image: Image, result: Image, measured: NDArray[np.bool_]) -> float:
    truth, found = (i.array[measured].astype(np.float64) for i in (image, result))
    error, spread = float(np.square(found - truth).mean()), float(np.ptp(truth))
    if error == 0:
        return math.inf
    return 10 * math.log10(spread**2 / error) if spread else -math.inf
