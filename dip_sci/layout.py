"""Layout: from named axes to the stack of like images that a network is fitted to, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.image import Image


@dataclass(frozen=True)
class Layout:
    """How an image's axes become ``(G, S, M, *spatial)``.

    Attributes
    ----------
    axes
        The image's axes.
    spatial
        The axes that the network convolves over: ``"YX"`` or ``"ZYX"``.
    joint
        Whether channels are restored jointly, as colour samples are.
    along
        Of the axes of M, the one that is to be the last: images along it follow each other.

    Notes
    -----
    G counts the image's channels (own noise and scaling each), S its colour samples (restored
    jointly), M the images that share noise and scaling: time points, and planes in 2D.
    """

    axes: str
    spatial: str
    joint: bool = False
    along: str = "Z"

    @property
    def order(self) -> str:
        """The image's axes in the order of the stack."""
        shared = sorted((a for a in "TZ" if a in self.axes and a not in self.spatial), key=lambda a: a == self.along)
        return "".join([*(a for a in "CS" if a in self.axes), *shared, *self.spatial])

    def stack(self, array: NDArray[Any]) -> NDArray[Any]:
        """Arrange an array on the image's axes as ``(G, S, M, *spatial)``."""
        moved = array.transpose([self.axes.index(a) for a in self.order])
        sizes = dict(zip(self.order, moved.shape, strict=True))
        spatial = tuple(sizes[a] for a in self.spatial)
        channels, samples = sizes.get("C", 1), sizes.get("S", 1)
        apart = (1, channels * samples) if self.joint else (channels, samples)
        return moved.reshape(*apart, -1, *spatial)

    def unstack(self, stack: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Undo `stack`, for an image of the given shape."""
        sizes = dict(zip(self.axes, shape, strict=True))
        moved = stack.reshape([sizes[a] for a in self.order])
        return np.ascontiguousarray(moved.transpose([self.order.index(a) for a in self.axes]))


def spacings(image: Image, axes: str) -> tuple[float, ...]:
    """Voxel spacing along spatial axes, 1 for all of them unless all are known."""
    known = [image.spacing_of(a) for a in axes]
    return tuple(1.0 if None in known or s is None else s for s in known)
