"""Generators: untrained networks, built fresh for every image from the recipe's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from dip_sci.errors import RecipeError
from dip_sci.generators.classic_unet import ClassicUNet
from dip_sci.generators.conv_decoder import ConvDecoder, ladder
from dip_sci.generators.deep_decoder import DeepDecoder, coarsest
from dip_sci.generators.hourglass import Hourglass, per_scale
from dip_sci.generators.layers import strides_by_scale
from dip_sci.generators.pixels import Pixels
from dip_sci.generators.plain import Plain
from dip_sci.generators.resnet import ResNet
from dip_sci.generators.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Grid
    from dip_sci.recipe import GeneratorOptions

__all__ = ["build", "input_grid"]

NORMS = {"unet": "none", "plain": "none", "classic_unet": "instance"}
"""What `auto` normalises by, where it is not by batch."""


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
        Spatial shape, ``(Y, X)`` or ``(Z, Y, X)``, and voxel spacing of the image that it makes.

    Raises
    ------
    RecipeError
        If the options' lengths do not fit each other.
    """
    if options.kind == "pixels":
        return Pixels(outside, shape=shape, sigmoid=options.output == "sigmoid")
    assert options.channels is not None
    if 0 in options.channels:
        raise RecipeError(f"generator.channels must be positive, found {options.channels}.")
    return _network(options, options.channels, inside, outside, shape, spacing)


def input_grid(options: GeneratorOptions, shape: Sequence[int], spacing: Sequence[float]) -> Grid:
    """Return the spatial shape of a generator's input: the image's, or a decoder's coarsest grid.

    Parameters
    ----------
    options, shape, spacing
        As for `build`.
    """
    if options.kind == "pixels":
        return (1,) * len(shape)
    if options.kind == "deep_decoder":
        return coarsest(shape, spacing, len(options.channels or ()))
    if options.kind == "conv_decoder":
        return ladder(shape, len(options.channels or ()))[0]
    return tuple(shape)


def _network(
    options: GeneratorOptions,
    channels: tuple[int, ...],
    inside: int,
    outside: int,
    shape: Sequence[int],
    spacing: Sequence[float],
) -> nn.Module:
    kind, ndim = options.kind, len(shape)
    ends = {"sigmoid": options.output == "sigmoid"}
    normalisation = NORMS.get(kind, "batch") if options.norm == "auto" else options.norm
    below = len(channels) - (kind in ("unet", "deep_decoder", "classic_unet"))
    kernel_down = per_scale(options.kernel_down, below + (kind == "classic_unet"), "generator.kernel_down")
    kernel_up = per_scale(options.kernel_up, below, "generator.kernel_up")
    upsample = per_scale(options.upsample or ("nearest",), below, "generator.upsample")
    if kind == "plain":
        return Plain(ndim, inside, outside, channels=channels, kernel=kernel_down[0], normalisation=normalisation)
    strides = strides_by_scale(shape, spacing, below)
    if kind == "hourglass":
        return Hourglass(
            ndim,
            inside,
            outside,
            down=channels,
            up=per_scale(options.up_channels or channels, below, "generator.up_channels"),
            skip=per_scale(options.skip_channels or (0,), below, "generator.skip_channels"),
            kernel_down=kernel_down,
            kernel_up=kernel_up,
            strides=strides,
            downsample=options.downsample or "stride",
            upsample=upsample,
            pointwise=options.pointwise,
            normalisation=normalisation,
            **ends,
        )
    if kind == "classic_unet":
        return ClassicUNet(
            ndim,
            inside,
            outside,
            channels=channels,
            strides=strides,
            kernel=kernel_down,
            normalisation=normalisation,
            **ends,
        )
    if kind == "resnet":
        if len(set(channels)) > 1:
            raise RecipeError(f"generator.channels must be alike for all blocks of the resnet, found {channels}.")
        return ResNet(
            ndim, inside, outside, width=channels[0], kernels=kernel_down, normalisation=normalisation, **ends
        )
    if kind == "deep_decoder":
        return DeepDecoder(
            ndim,
            inside,
            outside,
            channels=channels,
            shape=shape,
            spacing=spacing,
            upsample=upsample,
            normalisation=normalisation,
            **ends,
        )
    if kind == "conv_decoder":
        return ConvDecoder(
            ndim,
            inside,
            outside,
            channels=channels,
            shape=shape,
            kernel=kernel_up,
            upsample=upsample,
            normalisation=normalisation,
            **ends,
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
        normalisation=normalisation,
        dropout=options.dropout or 0.0,
    )
