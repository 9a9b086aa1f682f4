"""Sharpening: what a network has made of a blurred image, led on by like patches in agreement with what was observed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

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

STAY = 0.23
"""Weight of staying next to an image while it is brought to agreement, over the noise to be taken off (lambda in Zhang et al.
2021)."""


WEIGHTS, MISSED = tuple(np.geomspace(6, 0.003, 8)), 1.05
"""Weights of the roughness that an inverse may have, as for a `Blur`, and how far one misses, in variances of the noise, that is
not too smooth."""


def sharpen(problem: Problem, estimate: Tensor) -> Iterator[Combination | float]:
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

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
        Its baseline is the regularised inverse.
    """
    done, rounds = 0, estimate.shape[0] * estimate.shape[1] * ROUNDS
    led = torch.empty_like(estimate)
    for k, n in itertools.product(range(estimate.shape[0]), range(estimate.shape[1])):
        image = _Image(problem, n, estimate[k, n])
        for strength in np.geomspace(image.first, LAST, ROUNDS):
            image.improve(float(strength))
            done += 1
            yield done / (rounds + 1)
        led[k, n] = image.found
    yield Combination(led, regularised(problem), {LED: 1.0}, {})


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
    first
        Noise that the first round is to take off, over that of the observation.
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
        self._variance = sigma.square()
        names = patches.refinements(first.ndim - 1)
        self._rules = names[: len(patches.RULES)]
        self.first = float((FIRST / self._noise(first).mean().sqrt()).clamp(LEAST, MOST))

    def improve(self, strength: float) -> None:
        """Bring it to agreement with the observation, and take off so much noise."""
        arriving, there = self._noise(self._blur.forward(self.found)), self._noise(self.found)
        pull = STAY / (strength**2 * there)
        agreeing = self._blur.agreeing(self.found, self._observed, self._known / arriving, pull)
        sd = strength * there.sqrt()
        ways = patches.refined(agreeing, self.found, sd, only=self._rules, coarse=True)
        self.found = torch.stack(ways).mean(dim=0)
        if self._detector is not None:
            self.found = self.found.maximum(self._detector.dark)

    def invert(self) -> None:
        """Make it sharp by an inverse alone."""
        filled = self._blur.guess(self._observed[None], self._known[None]).filled
        for weight in WEIGHTS:
            self.found = self._blur.inverses(filled, [weight])[0][0]
            arriving = self._blur.forward(self.found)
            missed = self._known * (arriving - self._observed).square() / self._noise(arriving)
            if float(missed.mean()) <= MISSED * float(self._known.mean()):
                break

    def _noise(self, light: Tensor) -> Tensor:
        """Return the variance of what an image would be observed with."""
        return self._variance.expand_as(light) if self._detector is None else self._detector.variance(light)
