"""Task: what is asked of an observation, and what of the result is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe


class Task:
    """Remove the noise: what was observed is the image itself. Other tasks say where they differ.

    Attributes
    ----------
    name
        In records, and of the function and the command.
    nothing
        What a region without anything to restore does not hold.
    completes
        Whether there are holes, which like patches may know how to fill.
    deep
        Whether holes are so deep that nothing known around them says by example what is in them.
    sharpens
        Whether the observation is blurred, so that like patches of the image itself are to be found.
    linear
        Whether the operator acts on the image's own values, before their noise is stabilised.
    guides
        Other images of the same object on the image's grid, each of mean 0 and standard deviation 1; they broadcast
        against it.
    """

    name: ClassVar[str] = "denoise"
    nothing: ClassVar[str] = "measured"
    completes: ClassVar[bool] = False
    sharpens: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    guides: tuple[NDArray[np.float32], ...] = ()

    @property
    def deep(self) -> bool:
        """Return whether like examples are out of reach."""
        return False

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return what it was given besides the image and its masks."""
        return self.guides

    def measured(self, image: Image) -> NDArray[np.bool_]:
        """Return the voxels of the observation that say something, a boolean array of its shape."""
        return image.measured()

    def canvas(self, image: Image, region: NDArray[np.bool_] | None = None) -> Image:
        """Return the result's grid, filled by simple means: what is not restored stays so.

        Parameters
        ----------
        image
            The observation.
        region
            Outside of it, values of the image's own grid stay as they are; ``None``: everywhere is inside.
        """
        return image

    def wanted(self, image: Image, *, known: str) -> NDArray[np.bool_]:
        """Return the voxels of the canvas that the result replaces, but for the region of interest.

        Parameters
        ----------
        image
            The observation.
        known
            The recipe's `output.known`.
        """
        return image.measured()

    def fits(self, image: Image, box: tuple[slice, ...]) -> bool:
        """Return whether a part of an image says enough to be restored from."""
        return True

    def within(self, image: Image, box: tuple[slice, ...]) -> Task:
        """Return the same task of a part of its image."""
        return self

    def finer(self, axes: str) -> tuple[int, ...]:
        """Return how many voxels of the canvas lie in one of the observation, along each of some axes."""
        return (1,) * len(axes)

    @property
    def asked(self) -> dict[str, Any]:
        """What it was given, as plain JSON values for a record."""
        return {}

    def minds_noise(self, recipe: Recipe) -> bool:
        """Return whether it matters which noise the observation holds."""
        return True

    def blends(self, recipe: Recipe) -> bool:
        """Return whether classical denoisers make the same of the observation, to blend with."""
        return True

    def denoises_first(self, recipe: Recipe) -> bool:
        """Return whether the noise is removed before, by a fit of its own."""
        return False

    def doubts(self, stack: NDArray[Any], seen: NDArray[np.bool_], variance: Callable[[], float]) -> list[str]:
        """Say where what was given is hardly that of the image.

        Parameters
        ----------
        stack, seen
            Values of the image ``(..., *spatial)``, and which of them were measured.
        variance
            Returns that of their noise, independent from voxel to voxel; on average.
        """
        return []

    def operator(self, axes: str, spacing: Sequence[float], recipe: Recipe, noise: float) -> Operator:
        """Return how the image becomes the observation.

        Parameters
        ----------
        axes, spacing
            Spatial axes of the network, and the observation's spacing along each.
        recipe
            With every option decided.
        noise
            Standard deviation of the noise, over that of the image.
        """
        # Imported here: a command line that only reads and writes needs no torch.
        from dip_sci.operators import Identity

        return Identity(spacing)
