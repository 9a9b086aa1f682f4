"""Viewers without a screen, and the widget in them with recipes of a blink."""

import contextlib
import os
from unittest.mock import patch

import pytest

# They need a screen: test_window.py gives them one.
collect_ignore = [] if os.environ.get("DIP_SCI_WINDOW") == "1" else ["window"]

napari = pytest.importorskip("napari")

from napari.components import ViewerModel  # noqa: E402
from napari.utils.notifications import notification_manager  # noqa: E402
from scenes import TINY, noisy  # noqa: E402

from dip_sci.recipe import Recipe  # noqa: E402
from napari_plugin._layers import layer_data  # noqa: E402
from napari_plugin._widget import Restore  # noqa: E402


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


@pytest.fixture(autouse=True)
def _settings(tmp_path, monkeypatch):
    """Settings of this test alone."""
    from napari import settings

    monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {})
    settings.get_plugin_settings(path_dir=tmp_path / "settings")


@pytest.fixture
def viewer(qtbot):
    """All of a viewer but its window: nothing here looks at what is drawn."""
    return ViewerModel()


@pytest.fixture
def add(viewer):
    """Put an image into the viewer as the reader would."""

    def put(image, name="scan"):
        data, keywords, _ = layer_data(image, name)
        return viewer.add_image(data, **keywords)

    return put


@pytest.fixture
def widget(viewer, qtbot):
    """The widget, with a recipe of a few tiny steps; ended when the test ends."""
    made = Restore(viewer)
    made.how.show_recipe(Recipe.parse(TINY))
    yield made
    made.cancel()
    qtbot.waitUntil(lambda: made.running is None, timeout=20_000)
    made.life.end()
    made.native.close()
    from napari.qt.threading import WorkerBase

    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=20_000)


@pytest.fixture
def finished(widget, qtbot):
    """Press Run and wait for the end."""

    def run(press="run"):
        getattr(widget, f"{press}_button").native.click()
        qtbot.waitUntil(lambda: widget.running is None, timeout=60_000)
        return widget.live.layer if widget.live else None

    return run


@pytest.fixture
def told():
    """What napari's notifications said since the test began, errors and all."""
    notification_manager.records.clear()

    def said():
        return [f"{record.severity.value}: {record.message}" for record in notification_manager.records]

    return said


@pytest.fixture
def plane(add):
    """A noisy image of 40 x 48 voxels of 0.5 x 0.25 micrometres."""
    um = "micrometer"
    return add(noisy(40, 48, dtype="uint16", spacing=(0.5, 0.25), units=(um, um)), "plane")
