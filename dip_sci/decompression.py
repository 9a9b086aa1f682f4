"""Decompression: from the weights of a Deep Decoder back to the image that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci.coded import decoded
from dip_sci.compressed import Packed
from dip_sci.errors import ReadError
from dip_sci.generators.deep_decoder import DeepDecoder, coarsest
from dip_sci.image import Image, Source
from dip_sci.io.files import refuse_beyond_memory
from dip_sci.layout import Layout
from dip_sci.scaling import Scaling, cast

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import nn

    from dip_sci.compressed import Header

NOTE = "Made from the weights of a network that stands for a scan: its values are close to those measured, not equal."


def decompress(source: str | os.PathLike[str] | bytes) -> Image:
    """Make an image out of the weights that `compress` left.

    Parameters
    ----------
    source
        The file, or its content.

    Returns
    -------
    Image
        On the grid of the image that was compressed, with its type; voxels that were not measured are marked so.

    Raises
    ------
    ReadError
        If the file is not there, damaged, or of something else.
    """
    if isinstance(source, bytes):
        packed = Packed.from_bytes(source)
    else:
        try:
            packed = Packed.from_bytes(Path(source).read_bytes())
        except OSError as error:
            raise ReadError(f"{source} cannot be read: {error.strerror or error}.") from None
        except ReadError as error:
            raise ReadError(f"{source}: {error}") from None
    header = packed.header
    voxels = int(np.prod(header.shape, dtype=object))
    refuse_beyond_memory(4 * voxels * header.width, Path("The file" if isinstance(source, bytes) else source))
    network = _loaded(packed)
    with torch.no_grad():
        stack = network(torch.from_numpy(fixed_input(header))).numpy()
    array, _ = cast(to_values(stack, header), header.dtype, header.value_range)
    if packed.unmeasured is not None:
        filling = np.array([np.nan if header.filling is None else header.filling])
        array[packed.unmeasured], _ = cast(filling, header.dtype)
    return Image(
        array,
        header.axes,
        header.spacing,
        header.units,
        None if header.affine is None else np.array(header.affine),
        None if packed.unmeasured is None else ~packed.unmeasured,
        header.value_range,
        Source(notes=(NOTE,), channels=header.channels),
    )


def count(header: Header) -> int:
    """Return how many weights the network has."""
    outside = _outside(header)
    return header.layers * header.width**2 + outside * header.width + 2 * header.layers * header.width


def layout_of(header: Header) -> Layout:
    """Return how the image's axes become the network's channels and space."""
    return Layout(header.axes, header.spatial, joint=True)


def _spatial_shape(header: Header) -> tuple[int, ...]:
    sizes = dict(zip(header.axes, header.shape, strict=True))
    return tuple(sizes[a] for a in header.spatial)


def _outside(header: Header) -> int:
    return int(np.prod(header.shape)) // int(np.prod(_spatial_shape(header)))


def spacing(header: Header) -> tuple[float, ...]:
    """Return the voxel spacing along the network's axes, 1 for all of them unless all are known."""
    known = dict(zip(header.axes, header.spacing, strict=True))
    steps = [known[a] for a in header.spatial]
    return tuple(1.0 if None in steps or s is None else s for s in steps)


def input_grid(header: Header) -> tuple[int, ...]:
    """Return the spatial shape of the network's input."""
    return coarsest(_spatial_shape(header), spacing(header), header.layers)


def network_of(header: Header) -> nn.Module:
    """Build the network with fresh weights from torch's current random state."""
    layers = header.layers
    return DeepDecoder(
        len(header.spatial),
        header.width,
        _outside(header),
        channels=(header.width,) * layers,
        shape=_spatial_shape(header),
        spacing=spacing(header),
        upsample=["linear"] * (layers - 1),
        normalisation="batch",
        sigmoid=False,
    )


def fixed_input(header: Header) -> NDArray[np.float32]:
    """Return the network's input, ``(1, width, *coarsest)``: the paper's U(0, 0.1), from raw bits that no release changes."""
    grid = (1, header.width, *input_grid(header))
    bits = np.random.PCG64(header.seed).random_raw(int(np.prod(grid)))
    return (0.1 * (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)).reshape(grid)


def _loaded(packed: Packed) -> nn.Module:
    header = packed.header
    if len(packed.weights) != count(header):
        raise ReadError(
            f"The file holds {len(packed.weights)} weights, and its network has {count(header)}: the file is damaged."
        )
    with torch.random.fork_rng(devices=[]):
        network = network_of(header)
    sizes = [p.numel() for p in network.parameters()]
    if packed.steps is None:
        weights = packed.weights.astype(np.float32)
    elif len(packed.steps) == len(sizes):
        weights = decoded(packed.weights, packed.steps, sizes)
    else:
        raise ReadError(
            f"The file holds steps for {len(packed.steps)} tensors, and its network has {len(sizes)}: the file is damaged."
        )
    flat, at = torch.from_numpy(weights), 0
    for p in network.parameters():
        p.data = flat[at : at + p.numel()].view_as(p).clone()
        at += p.numel()
    return network


def scaling_of(header: Header) -> Scaling:
    """Return the scaling, shaped to broadcast against ``(1, C S, T, *spatial)``."""
    flat = (1, -1, 1, *(1,) * len(header.spatial))
    return Scaling(np.array(header.centre).reshape(flat), np.array(header.scale).reshape(flat))


def to_values(stack: NDArray[np.float32], header: Header) -> NDArray[Any]:
    """Turn the network's output ``(1, C S T, *spatial)`` into values on the image's axes."""
    shape = (1, len(header.centre), -1, *_spatial_shape(header))
    return layout_of(header).unstack(scaling_of(header).inverse(stack.reshape(shape)), header.shape)
