"""Sharpening: what a network has made of a blurred image, led on by like patches in agreement with what was observed."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from dip_sci import patches
from dip_sci.blur import Blur
from dip_sci.combination import Combination
from dip_sci.detection import Detected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from dip_sci.problem import Problem

LED = "like patches in agreement with the observation"

FIRST, LEAST, MOST = 0.7, 1.5, 20.0
"""Noise that the first round takes off, over the image's spread; and over the noise, at least and at most."""

LAST, ROUNDS = 0.5, 10
"""Noise that the last round takes off, over that of the observation, and how many there are."""

LOOKS, QUIET, USUAL = 3, 0.7, 0.95
"""How often the rounds are gone through at most; how much of the noise's variance a result misses its observation by that says
that the noise is as strong as that; and by how much one does where it was known."""

BLOCK, UPPER, SILENT = 16, 0.75, 0.02
"""Edge of the blocks of the observation in which that is looked at, and which of them counts, of those that hold more than a trace
of noise: half an image may be empty."""

LEAST_NOISE = 1e-4
"""Standard deviation of the noise, over that of the image, which is reckoned with at least."""

STAY = 0.23
"""Weight of staying next to an image while it is brought to agreement, over the noise to be taken off (lambda in Zhang et al.
2021)."""


WEIGHTS, MISSED = tuple(np.geomspace(6, 0.003, 8)), 1.05
"""Weights of the roughness that an inverse may have, as for a `Blur`, and how far one misses, in variances of the noise, that is
not too smooth."""


def sharpen(problem: Problem, estimate: Tensor, *, told: bool) -> Iterator[Combination | float]:
    """Lead on what networks have made of a blurred observation.

    The image of the least ``(A x - y)^2 / variance + R(x)`` is looked for in rounds, each of which brings the image to agreement
    with the observation, and then takes off what is noise by like patches, a bit less each time: half-quadratic splitting with a
    denoiser in place of R ("plug and play", Venkatakrishnan, Bouman & Wohlberg 2013; Zhang et al. 2021). Photons count by the
    variance of the light that arrives where they were seen.

    Parameters
    ----------
    problem
        What was observed, through a `Blur`.
    estimate
        What the networks made of it, ``(K, N, C, *spatial)``.
    told
        Whether the noise was told, not found: then it is not doubted.

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
        Its baseline is the regularised inverse.
    """
    done, rounds = 0, estimate.shape[0] * estimate.shape[1] * ROUNDS
    led, noise = torch.empty_like(estimate), []
    for k, n in itertools.product(range(estimate.shape[0]), range(estimate.shape[1])):
        image = _Image(problem, n, estimate[k, n])
        for look in range(1 if told else LOOKS):
            if look > 0 and not image.quieter():
                break
            rounds += ROUNDS if look > 0 else 0
            for strength in np.geomspace(image.first, LAST, ROUNDS):
                image.improve(float(strength))
                done += 1
                yield done / (rounds + 1)
        led[k, n] = image.found
        noise.append(image.noise)
    yield Combination(led, regularised(problem), {LED: 1.0}, {}, noise=float(np.mean(noise)))


def regularised(problem: Problem) -> Tensor:
    """Return the regularised inverse of a blurred observation that agrees with it as far as its noise allows.

    Parameters
    ----------
    problem
        What was observed, through a `Blur`.

    Returns
    -------
    Tensor
        ``(N, C, *spatial)``: the smoothest inverse that misses the observation by no more than the noise (Morozov 1966).
    """
    found = []
    for n, observation in enumerate(problem.observation):
        image = _Image(problem, n, observation)
        image.invert()
        found.append(image.found)
    return torch.stack(found)


class _Image:
    """One image on its way.

    Attributes
    ----------
    found
        What it has become, ``(C, *spatial)``.
    noise
        Standard deviation of the noise that it goes by, over that of the problem.
    """

    def __init__(self, problem: Problem, n: int, first: Tensor) -> None:
        operator = problem.operator
        self._detector = operator if isinstance(operator, Detected) else None
        blur = operator if self._detector is None else self._detector.operator
        assert isinstance(blur, Blur)
        self._blur, self.found = blur, first
        self._known = problem.measured[n]
        observation, sigma = problem.observation[n], problem.sigma[n]
        self._observed = observation if self._detector is None else self._detector.light(observation)
        self._variance, self.noise = sigma.clamp_min(LEAST_NOISE).square(), 1.0
        names = patches.refinements(first.ndim - 1)
        self._rules = names[: len(patches.RULES)]

    def improve(self, strength: float) -> None:
        """Bring it to agreement with the observation, and take off so much noise."""
        arriving, there = self._noise(self._blur.forward(self.found)), self._noise(self.found)
        pull = STAY / (strength**2 * there)
        agreeing = self._blur.agreeing(self.found, self._observed, self._known / arriving, pull)
        sd = strength * there.sqrt()
        ways = patches.refined(agreeing, self.found, sd, only=self._rules, coarse=True)
        self.found = torch.stack(ways).mean(dim=0)
        if self._detector is not None:
            self.found = self.found.maximum(self._detector.dark.to(self.found))

    def invert(self) -> None:
        """Make it sharp by an inverse alone."""
        filled = self._blur.guess(self._observed[None], self._known[None]).filled
        for weight in WEIGHTS:
            self.found = self._blur.inverses(filled, [weight])[0][0]
            if float(self._missed().mean()) <= MISSED * float(self._known.mean()):
                break

    def quieter(self) -> bool:
        """Take the noise for weaker where less of it is left than there was said to be; return whether it is.

        What neighbours share is found in flat parts, and a blurred image has few parts as flat as its noise is taken for.
        """
        if self._detector is not None:
            return False
        apart = self._missed()
        block = [min(BLOCK, n) for n in apart.shape[1:]]
        pool = functional.avg_pool2d if len(block) == 2 else functional.avg_pool3d
        shares = pool(apart.mean(dim=0)[None], block).flatten()
        shares = shares[shares > SILENT]
        share = float(shares.quantile(UPPER)) if len(shares) else 1.0
        if share >= QUIET:
            return False
        self._variance = self._variance * (share / USUAL)
        self.noise *= math.sqrt(share / USUAL)
        return True

    @property
    def first(self) -> float:
        """Noise that the first round is to take off, over that of the observation."""
        return float((FIRST / self._noise(self.found).mean().sqrt()).clamp(LEAST, MOST))

    def _missed(self) -> Tensor:
        """How far it is from what was observed, blurred: squares in variances of the noise, 0 where nothing was."""
        arriving = self._blur.forward(self.found)
        return self._known * (arriving - self._observed).square() / self._noise(arriving)

    def _noise(self, light: Tensor) -> Tensor:
        """Return the variance of what an image would be observed with."""
        return self._variance.expand_as(light) if self._detector is None else self._detector.variance(light)
