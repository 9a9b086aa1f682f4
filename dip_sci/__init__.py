"""Restore one noisy scan without training data: the deep image prior for science and medicine.

>>> import dip_sci
>>> image = dip_sci.read("scan.nii.gz")
>>> result = dip_sci.denoise(image)
>>> dip_sci.write("clean.nii.gz", result.image)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dip_sci.compression import Compression, compress, iter_compress
    from dip_sci.decompression import decompress
    from dip_sci.errors import DipSciError
    from dip_sci.functions import deconvolve, fuse, inpaint, super_resolve
    from dip_sci.image import Image
    from dip_sci.inversion import iter_pre_image, pre_image
    from dip_sci.io import read, write
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration
    from dip_sci.restore import denoise, iter_restore

__version__ = "0.1.0"

_HOME = {
    "Compression": "dip_sci.compression",
    "DipSciError": "dip_sci.errors",
    "Image": "dip_sci.image",
    "Recipe": "dip_sci.recipe",
    "Restoration": "dip_sci.restoration",
    "compress": "dip_sci.compression",
    "decompress": "dip_sci.decompression",
    "denoise": "dip_sci.restore",
    "deconvolve": "dip_sci.functions",
    "fuse": "dip_sci.functions",
    "inpaint": "dip_sci.functions",
    "iter_compress": "dip_sci.compression",
    "iter_pre_image": "dip_sci.inversion",
    "iter_restore": "dip_sci.restore",
    "pre_image": "dip_sci.inversion",
    "super_resolve": "dip_sci.functions",
    "read": "dip_sci.io",
    "write": "dip_sci.io",
}

__all__ = [
    "Compression",
    "DipSciError",
    "Image",
    "Recipe",
    "Restoration",
    "compress",
    "decompress",
    "deconvolve",
    "denoise",
    "fuse",
    "inpaint",
    "iter_compress",
    "iter_pre_image",
    "iter_restore",
    "pre_image",
    "read",
    "super_resolve",
    "write",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its room on first use, so that `import dip_sci` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'dip_sci' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
