"""Generators: untrained networks, built fresh for every image from the recipe's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from dip_sci.errors import RecipeError
from dip_sci.generators.hourglass import Hourglass, per_scale
from dip_sci.generators.layers import strides_by_scale
from dip_sci.generators.plain import Plain
from dip_sci.generators.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.recipe import GeneratorOptions

__all__ = ["build"]


def build(
    options: GeneratorOptions, *, inside: int, outside: int, shape: Sequence[int], spacing: Sequence[float]
) -> nn.Module:
    """Build a generator with fresh weights from torch's current random state.

    Parameters
    ----------
    options
        The recipe's generator group, with `kind` and `channels` decided.
    inside, outside
        Channels of the input and of the image.
    shape, spacing
        Spatial shape, ``(Y, X)`` or ``(Z, Y, X)``, and voxel spacing of what it will see.

    Raises
    ------
    RecipeError
        If the options' lengths do not fit each other.
    """
    ndim = len(shape)
    assert options.channels is not None
    channels = options.channels
    if 0 in channels:
        raise RecipeError(f"generator.channels must be positive, found {channels}.")
    levels = len(channels) if options.kind == "hourglass" else len(channels) - 1
    try:
        kernel_down = per_scale(options.kernel_down, levels, "generator.kernel_down")
        kernel_up = per_scale(options.kernel_up, levels, "generator.kernel_up")
        upsample = per_scale(options.upsample, levels, "generator.upsample")
        up = per_scale(options.up_channels or channels[:levels], levels, "generator.up_channels")
        skip = per_scale(options.skip_channels or (0,), levels, "generator.skip_channels")
    except ValueError as error:
        raise RecipeError(f"{error}.") from None
    if options.kind == "plain":
        return Plain(
            ndim,
            inside,
            outside,
            channels=channels,
            kernel=kernel_down[0],
            normalisation="none" if options.norm == "auto" else options.norm,
        )
    strides = strides_by_scale(shape, spacing, levels)
    if options.kind == "hourglass":
        return Hourglass(
            ndim,
            inside,
            outside,
            down=channels,
            up=up,
            skip=skip,
            kernel_down=kernel_down,
            kernel_up=kernel_up,
            strides=strides,
            downsample=options.downsample or "stride",
            upsample=upsample,
            pointwise=options.pointwise,
            normalisation="batch" if options.norm == "auto" else options.norm,
            sigmoid=options.output == "sigmoid",
        )
    return UNet(
        ndim,
        inside,
        outside,
        channels=channels,
        strides=strides,
        downsample=options.downsample or "max",
        upsample=upsample,
        kernel_down=kernel_down,
        kernel_up=kernel_up,
        normalisation="none" if options.norm == "auto" else options.norm,
        dropout=options.dropout or 0.0,
    )
