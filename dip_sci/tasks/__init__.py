"""Tasks: what is asked of an observation, and what of the result is new."""

from __future__ import annotations

from dip_sci.tasks.deconvolve import Deconvolve, normalised
from dip_sci.tasks.fuse import Fuse
from dip_sci.tasks.grid import on_finer, repeated
from dip_sci.tasks.inpaint import Inpaint
from dip_sci.tasks.super_resolve import SuperResolve
from dip_sci.tasks.task import Task

__all__ = ["DONE", "Deconvolve", "Fuse", "Inpaint", "SuperResolve", "Task", "normalised", "on_finer", "repeated"]

DONE = {
    "pre_image": "Pre-image made",
    "denoise": "Denoised",
    "inpaint": "Inpainted",
    "super_resolve": "Super-resolved",
    "fuse": "Fused",
    "deconvolve": "Deconvolved",
}
"""What a result is called, by the name of its task."""
