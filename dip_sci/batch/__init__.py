"""Batch: many scans, each on its own, on one machine or a cluster; what is done stays done.

>>> from dip_sci import batch
>>> batch.run(["study/**/*.nii.gz"], "clean", workers=2)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dip_sci.batch.manifest import status
from dip_sci.errors import BatchError

if TYPE_CHECKING:
    from dip_sci.batch.loop import run

__all__ = ["run", "status"]


def __getattr__(name: str) -> Any:
    """Import dask only for those who run a batch."""
    if name != "run":
        raise AttributeError(f"module 'dip_sci.batch' has no attribute {name!r}")
    try:
        from dip_sci.batch.loop import run as run_batch
    except ModuleNotFoundError as error:
        raise BatchError(f"A batch needs dask ({error.name} is missing): pip install 'dip-sci[batch]'.") from None
    return run_batch
