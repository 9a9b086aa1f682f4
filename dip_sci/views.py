"""Views: the ways to look at an image that leave it the same image, flipped or with axes swapped."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class View(NamedTuple):
    """A way to look at an image: axes swapped, then flipped.

    Attributes
    ----------
    order
        Spatial axes as they are seen, counted from the first one.
    flips
        Those of the seen axes that are turned round.
    """

    order: tuple[int, ...]
    flips: tuple[int, ...]

    def see(self, x: Tensor) -> Tensor:
        """Turn images ``(..., *spatial)``."""
        lead = x.ndim - len(self.order)
        moved = x.permute(*range(lead), *(lead + a for a in self.order))
        return moved.flip([lead + a for a in self.flips]) if self.flips else moved

    def back(self, x: Tensor) -> Tensor:
        """Turn images as they are seen back."""
        lead = x.ndim - len(self.order)
        flipped = x.flip([lead + a for a in self.flips]) if self.flips else x
        inverse = [self.order.index(a) for a in range(len(self.order))]
        return flipped.permute(*range(lead), *(lead + a for a in inverse))


def views(axes: int, *, swap: bool) -> list[View]:
    """Return all flips of so many axes, the plain view first; with `swap`, each with the last two axes swapped, too."""
    straight = tuple(range(axes))
    orders = [straight, (*straight[:-2], axes - 1, axes - 2)] if swap else [straight]
    flips = [found for k in range(axes + 1) for found in itertools.combinations(range(axes), k)]
    return [View(order, found) for found in flips for order in orders]
