"""A viewer without a screen."""

import contextlib
import os
from unittest.mock import patch

import pytest

pytest.importorskip("napari")


@pytest.fixture(autouse=True, scope="session")
def _prime_gl():
    """Offscreen there is no GL context to ask: fill napari's two caches."""
    if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        import napari._vispy.utils.gl as g

        def limit(name):
            return "" if name == g.gl.GL_EXTENSIONS else 2048

        with patch.object(g.gl, "glGetParameter", limit), patch.object(g, "_opengl_context", contextlib.nullcontext):
            g.get_gl_extensions()
            g.get_max_texture_sizes()
    return
