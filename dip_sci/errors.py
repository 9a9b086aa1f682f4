"""The errors a user can meet: each message says what was found, where, and what to do."""

from __future__ import annotations


class DipSciError(Exception):
    """Base of every error raised on purpose by dip_sci."""


class ReadError(DipSciError):
    """A file or folder could not be read as an image."""


class WriteError(DipSciError):
    """A result could not be written; nothing was left behind."""


class ImageError(DipSciError):
    """An image cannot be restored as it is (its shape, type or content)."""


class RecipeError(DipSciError):
    """A recipe holds an unknown key or a value of the wrong type or range."""


class FitError(DipSciError):
    """The fit did not succeed (it diverged at any rate, or ran out of memory)."""


class BatchError(DipSciError):
    """A batch cannot begin, or cannot go on; what is done stays done."""


class Cancelled(DipSciError):
    """The run was abandoned before there was anything to keep."""
