"""Images larger than one pass: overlapping tiles, blended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LIMIT = {2: 2048, 3: 160}
"""Edge of the largest tile that one pass takes, by the number of spatial axes."""

OVERLAP = 0.25


def apply(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a function of images to one that may be too large for it.

    Parameters
    ----------
    function
        Maps ``(B, C, *spatial)`` to ``(B, C', *spatial)``.
    image
        ``(1, C, *spatial)``.

    Returns
    -------
    Tensor
        ``(1, C', *spatial)``; neighbouring tiles overlap by a quarter and are blended by Gaussian weights.
    """
    spatial = image.shape[2:]
    limit = LIMIT[len(spatial)]
    if max(spatial) <= limit:
        return function(image)
    # Imported here: it takes two seconds, which only large images should pay.
    from monai.inferers import sliding_window_inference

    tile = tuple(min(n, limit) for n in spatial)
    blended: Tensor = sliding_window_inference(image, tile, 1, function, overlap=OVERLAP, mode="gaussian")
    return blended
