"""What is remembered from session to session, in napari's own configuration."""

from __future__ import annotations

import json
from typing import Any

from napari.settings import get_plugin_settings

from dip_sci.errors import RecipeError
from dip_sci.recipe import Recipe

PLUGIN = "dip-sci"
FORGOTTEN = ("noise", "seed")
"""Options that belong to one image or one run."""


def _group() -> Any:
    try:
        return get_plugin_settings(PLUGIN).restore
    except (KeyError, AttributeError):
        # Not registered with napari, as when the widget is made without its manifest.
        return None


def last_recipe() -> Recipe:
    """Return the options that were used last; the defaults where they cannot be used any more."""
    group = _group()
    try:
        return Recipe.parse(json.loads(group.options)) if group is not None and group.options else Recipe()
    except (RecipeError, ValueError):
        return Recipe()


def remember(given: dict[str, Any]) -> None:
    """Keep the options that were set by hand."""
    group = _group()
    if group is not None:
        group.options = json.dumps({k: v for k, v in given.items() if k not in FORGOTTEN})


def preview() -> bool:
    """Whether to show the result while it is being computed."""
    group = _group()
    return True if group is None else bool(group.preview)


def snapshots() -> int:
    """How many earlier states to keep at most."""
    group = _group()
    return 24 if group is None else int(group.snapshots)
