"""The public functions that ask for more than to remove noise, one per task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dip_sci.image import needed
from dip_sci.restore import finish, iter_restore
from dip_sci.tasks import Deconvolve, Fuse, Inpaint, SuperResolve

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration
    from dip_sci.tasks import Task


def inpaint(
    image: Image,
    missing: NDArray[Any] | Image | None = None,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Restoration:
    """Fill in the missing voxels of one image: dead pixels and lines, overlays, holes, missing slices.

    Parameters
    ----------
    image
        What was measured.
    missing
        Non-zero where to fill, of the image's shape or of that of its spatial axes; ``None`` for all
        voxels that are not finite.
    recipe, region, background, cancel, checkpoint
        As for `denoise`. Known voxels are returned bit-identical, unless ``output.known`` is ``restore``, and so are
        missing ones outside the region.

    Returns
    -------
    Restoration

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`, and if the mask does not fit, nothing is missing, or everything is.
    """
    image = needed(image).loaded()
    task = Inpaint.of(image, missing)
    return _restored(task, image, recipe, region, background, cancel, checkpoint)


def super_resolve(
    image: Image,
    factor: int | Sequence[int],
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Restoration:
    """Make the voxels of one image smaller.

    Parameters
    ----------
    image
        What was measured.
    factor
        How many times finer: a whole number for Y and X, or one for each spatial axis of the image in its order
        (``(3, 1, 1)`` for slices that are three times too thick).
    recipe, region, background, cancel, checkpoint
        As for `denoise`. Outside the region, voxels are interpolated. What made the voxels coarse is
        ``operator.kernel``.

    Returns
    -------
    Restoration
        On the finer grid, in the same field of view.

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`, and if the factor does not fit.
    """
    image = needed(image).loaded()
    task = SuperResolve.of(image, factor)
    return _restored(task, image, recipe, region, background, cancel, checkpoint)


def fuse(
    image: Image,
    guide: NDArray[Any] | Image,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Restoration:
    """Remove the noise of one image with the help of another one of the same object.

    Parameters
    ----------
    image
        What was measured.
    guide
        Another channel, exposure or modality: an array of the shape of the image's spatial axes, or an `Image`,
        which may have channels, and may lie on another grid where the files of both say where they lie.
    recipe, region, background, cancel, checkpoint
        As for `denoise`.

    Returns
    -------
    Restoration

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`, and if the guide does not fit or does not overlap with the image.
    """
    image = needed(image).loaded()
    task = Fuse.of(image, guide)
    return _restored(task, image, recipe, region, background, cancel, checkpoint)


def deconvolve(
    image: Image,
    psf: NDArray[Any] | Image,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Restoration:
    """Undo a known blur of one image, under the noise that came after it.

    Parameters
    ----------
    image
        What was measured.
    psf
        Point spread function on the image's grid, its centre in the middle: odd sizes, not negative, of sum 1;
        with the image's spatial axes, or ``(Y, X)`` where planes are blurred each for itself.
    recipe, region, background, cancel, checkpoint
        As for `denoise`.

    Returns
    -------
    Restoration

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`, and if the point spread function is none or does not fit.

    Notes
    -----
    A network sees the image and regularised inverses of it with noise added, and what it makes of them is blurred and compared
    with the image without as much noise (recorrupted-to-recorrupted, Pang et al. 2021). Then like patches lead its result on in
    agreement with the image (half-quadratic splitting, Zhang et al. 2021, "Plug-and-play image restoration with deep denoiser
    prior"), photons weighed as they scatter.
    """
    image = needed(image).loaded()
    task = Deconvolve.of(image, psf)
    return _restored(task, image, recipe, region, background, cancel, checkpoint)


def _restored(
    task: Task,
    image: Image,
    recipe: Recipe | None,
    region: NDArray[Any] | Image | None,
    background: NDArray[Any] | Image | None,
    cancel: threading.Event | None,
    checkpoint: str | os.PathLike[str] | None,
) -> Restoration:
    return finish(
        iter_restore(
            image, recipe, task=task, region=region, background=background, cancel=cancel, checkpoint=checkpoint
        )
    )
