"""Problem: what was observed, through which operator, with which noise and weights."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dip_sci.texture import Texture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dip_sci.counted import Counted
    from dip_sci.operators import Operator
    from dip_sci.views import View


ESTIMATED = 0.5
"""Standard deviation of an estimate's error, over the noise that a measurement in its place would have."""

PROBES = 4
"""Parts of a large image on which a fit's risk is looked at."""

PROBE_EDGES = {2: (256, 256), 3: (32, 128, 128)}

PROBE_FRAMES, SERIES_EDGES = 8, {2: (128, 128), 3: (16, 64, 64)}
"""The same of a series: frames, and edges of each."""


@dataclass(frozen=True)
class Problem:
    """The inverse problem of one image or of a stack of like ones, on the network's range.

    Attributes
    ----------
    observation
        ``(N, C, *spatial)``, float32; noise stabilised, then scaled. Unmeasured voxels hold 0.
    measured
        1 where there is a measurement, else 0; ``(N, 1, *spatial)``.
    weights
        Weight of each voxel in the data term, 0 where unmeasured; ``(N, 1, *spatial)``.
    sigma
        Standard deviation of the noise on the network's range, ``(N, C, *spatial)`` or with ones for
        the spatial sizes.
    operator
        The forward operator.
    texture
        What neighbours' noise has in common, as far as fits go by it.
    guides
        What is known of each image besides all observations, ``(N, F, *spatial)``; ``None``: nothing.
    detail
        What their noise has in common where that is too little to fit by: estimates are judged by it. ``None``: `texture`.
    counted
        The photons, where estimates are to be judged by them.
    stronger
        Factor on `sigma` by which methods go that take noise for independent, ``(1, C, *1)``: where neighbours share it, it is
        stronger where the content is. ``None``: 1.
    frames
        How many images of the stack follow each other as a series, planes or points in time, whose noise is independent.
    reach
        How many of them on either side are seen with each.
    timed
        Whether they are points in time, which may show the same, and not planes.
    """

    observation: Tensor
    measured: Tensor
    weights: Tensor
    sigma: Tensor
    operator: Operator
    texture: Texture = field(default_factory=Texture)
    guides: Tensor | None = None
    detail: Texture | None = None
    counted: Counted | None = None
    stronger: Tensor | None = None
    frames: int = 1
    reach: int = 0
    timed: bool = False

    @cached_property
    def whole(self) -> bool:
        """Whether every voxel was measured."""
        return bool((self.measured > 0).all())

    @cached_property
    def varies(self) -> Tensor:
        """1 where not all observations are equal that touch, as of ``observation``, else 0."""
        ndim = self.observation.ndim - 2
        pool = torch.nn.functional.max_pool3d if ndim == 3 else torch.nn.functional.max_pool2d
        highest, lowest = (pool(part, 3, stride=1, padding=1) for part in (self.observation, -self.observation))
        return (highest > -lowest).to(self.observation)

    @property
    def shared(self) -> Tensor | None:
        """Autocorrelation of the noise where neighbours share so much that methods go by it."""
        kernel = self.texture.shared if self.detail is None else None
        return None if kernel is None else kernel.to(self.observation.device)

    @property
    def besides(self) -> int:
        """How many channels `beside` has."""
        guides = 0 if self.guides is None else self.guides.shape[1]
        return guides + 2 * self.reach * (self.observation.shape[1] + (not self.whole))

    def beside(self, box: tuple[slice, ...]) -> Tensor:
        """Return what is known of one image besides its own observation, ``(1, F, *spatial)``; F may be 0.

        Its neighbours on either side, and where some of their voxels are missing, which; beyond an end of the series those on
        the other side. Then the guides.

        Parameters
        ----------
        box
            Slices of the images (one), of the channels (all), and of each spatial axis.
        """
        n = box[0].start
        first = n - n % self.frames
        found = []
        for step in (k for far in range(1, self.reach + 1) for k in (-far, far)):
            other = n + step if first <= n + step < first + self.frames else n - step
            at = (slice(other, other + 1), *box[1:])
            found += [self.observation[at]] if self.whole else [self.observation[at], self.measured[at]]
        if self.guides is not None:
            found.append(self.guides[box])
        return torch.cat(found, dim=1) if found else self.observation[box][:, :0]

    def data_term(self, image: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean square of ``A x - y``: on the stabilised scale, the Gaussian -log p up to a constant.

        Parameters
        ----------
        image
            Restored images x, ``(..., C, *spatial)``.
        target
            Observations y to compare ``A x`` with.
        weights
            Broadcasts against `target`.

        Returns
        -------
        Tensor
            A scalar.
        """
        return self.mean((self.operator.forward(image) - target).square(), weights)

    @staticmethod
    def mean(values: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of values ``(..., C, *spatial)``."""
        total = weights.sum() * (values.numel() / weights.numel())
        return (values * weights).sum() / total.clamp_min(1e-12)

    def without(self, held_out: Tensor) -> Problem:
        """Return the same problem with some voxels (1 in `held_out`) taken out of the data term."""
        return replace(self, weights=self.weights * (1 - held_out))

    def seeing(self, observation: Tensor) -> Problem:
        """Return the same problem with another observation of the same image."""
        return replace(self, observation=observation * self.measured)

    def filled(self) -> Tensor:
        """Return the observation with the operator's first guess where nothing was measured."""
        if self.whole:
            return self.observation
        return self.operator.guess(self.observation, self.measured).filled

    def guessed(self) -> Problem:
        """Return the same problem as if the operator's first guess had been measured where nothing was."""
        if self.whole:
            return self
        return replace(self, observation=self.filled(), measured=torch.ones_like(self.measured))

    def filled_by(self, estimate: Tensor) -> Problem:
        """Return the same problem as if an estimate ``(N, C, *spatial)`` had been measured where nothing was.

        There it still has no weight, and errs less than a measurement would.
        """
        if self.whole:
            return self
        there = self.measured > 0
        return replace(
            self,
            observation=torch.where(there, self.observation, estimate),
            measured=torch.ones_like(self.measured),
            sigma=self.sigma * torch.where(there, 1.0, ESTIMATED),
        )

    def spread(self) -> Tensor:
        """Return the standard deviation of what is known of each image, ``(N, 1, 1, ...)``; never 0."""
        weights = (self.weights > 0).to(self.observation.dtype).expand_as(self.observation)
        axes = tuple(range(1, weights.ndim))
        count = weights.sum(dim=axes, keepdim=True).clamp_min(1)
        mean = (self.observation * weights).sum(dim=axes, keepdim=True) / count
        variance = ((self.observation - mean).square() * weights).sum(dim=axes, keepdim=True) / count
        return variance.sqrt().clamp_min(1e-4)

    def scatter(self) -> float:
        """Return the sum of the noise's variances, as far as voxels count and anything varies."""
        return float((self.weights * self.varies * self.sigma.square()).sum().clamp_min(1e-12))

    def judged(self) -> Problem:
        """Return the same problem with all that is known of what neighbours share."""
        return self if self.detail is None else replace(self, texture=self.detail)

    def noise(self, rng: torch.Generator) -> Tensor:
        """Draw noise as the observation's, of its shape."""
        return self.sigma * self.texture.draw(self.observation.shape, rng)

    def probe(self, enough: int | None = None) -> Problem:
        """Return up to `PROBES` parts of the images, spread over them, as a stack of their own.

        Parameters
        ----------
        enough
            Number of values beyond which no more parts are taken; two are in any case.

        Notes
        -----
        A part of a series holds frames that follow each other, and less of each.
        """
        count, _, *spatial = self.observation.shape
        series = self.frames > 1
        long = min(self.frames, PROBE_FRAMES)
        wanted = (SERIES_EDGES if series else PROBE_EDGES)[len(spatial)]
        edges = [min(n, edge) for n, edge in zip(spatial, wanted, strict=True)]
        starts = [range(0, n - edge + 1, edge) for n, edge in zip(spatial, edges, strict=True)]
        first = [a + n for a in range(0, count, self.frames) for n in range(0, self.frames - long + 1, long)]
        places = list(itertools.product(first, *starts))
        each = self.observation.shape[1] * math.prod(edges) * long
        most = PROBES if enough is None else min(max(-(-enough // each), 2), PROBES)
        if len(places) > most:
            places = [places[int((k + 0.5) * len(places) / most)] for k in range(most)]
        boxes = [
            (slice(n, n + long), slice(None), *(slice(a, a + edge) for a, edge in zip(at, edges, strict=True)))
            for n, *at in places
        ]
        parts = self._mapped(lambda part: torch.cat([_cut(part, box, spatial) for box in boxes]))
        return replace(parts, frames=long)

    def within(self, box: tuple[slice, ...]) -> Problem:
        """Return the problem of a part: slices of the images, of the channels (all), and of each spatial axis."""
        spatial = self.observation.shape[2:]
        return self._mapped(lambda part: _cut(part, box, spatial))

    def seen(self, view: View) -> Problem:
        """Return the same problem as an image that is turned."""
        return self._mapped(view.see)

    def only(self, n: int, count: int = 1) -> Problem:
        """Return the problem of one image of the stack, or of whole series in a row."""
        series = count % self.frames == 0
        part = self._mapped(lambda part: part[n : n + count])
        return part if series else replace(part, frames=1, reach=0)

    def weighted(self, factor: Tensor) -> Problem:
        """Return the same problem with other weights: those of now times a factor ``(N, 1, *spatial)``."""
        return replace(self, weights=self.weights * factor)

    def hiding(self, kept: Tensor) -> Problem:
        """Return the same problem as if some voxels (1 in `kept`) had not been measured."""
        seen = 1 - kept
        return replace(
            self, observation=self.observation * seen, measured=self.measured * seen, weights=self.weights * seen
        )

    def to(self, device: torch.device) -> Problem:
        """Return the same problem on another device."""
        stronger = None if self.stronger is None else self.stronger.to(device)
        return replace(self._mapped(lambda part: part.to(device)), stronger=stronger)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Problem:
        return replace(
            self,
            observation=change(self.observation),
            measured=change(self.measured),
            weights=change(self.weights),
            sigma=change(self.sigma),
            guides=None if self.guides is None else change(self.guides),
            counted=None if self.counted is None else self.counted.mapped(change),
        )


def _cut(part: Tensor, box: tuple[slice, ...], spatial: Sequence[int]) -> Tensor:
    return part.expand(*part.shape[:2], *spatial)[box]


def total_variation(image: Tensor) -> Tensor:
    """Mean length of an image's gradient over its voxels, a regulariser R(x) (Rudin, Osher & Fatemi 1992).

    Parameters
    ----------
    image
        ``(B, C, *spatial)``. Differences are forward ones, and none across the border.

    Returns
    -------
    Tensor
        A scalar.
    """
    squares = torch.zeros_like(image)
    for axis in range(2, image.ndim):
        step = torch.diff(image, dim=axis, append=image.narrow(axis, image.shape[axis] - 1, 1))
        squares = squares + step.square()
    # The root has no derivative at zero: flat parts get one from far below any noise.
    return (squares + 1e-8).sqrt().mean()
