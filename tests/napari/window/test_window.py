"""The main flow in a real window: real clicks, pictures of the screen, and the command line's result.

Run by `tests/napari/test_window.py` on a virtual screen. The pictures are kept in `pictures/`.
"""

import os
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab
from qtpy.QtCore import QPoint, QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QFileDialog, QLineEdit, QMenu
from scenes import TINY

from dip_sci import cli, io, samples
from dip_sci.recipe import Recipe

PICTURES = Path(__file__).parent / "pictures"
SIZE = (1280, 860)
RECIPE = Recipe.parse(TINY).merged({"seed": 3, "fit": {"steps": 12}, "noise": {"spatial": "independent"}})


@pytest.fixture
def viewer(make_napari_viewer, qtbot):
    assert QApplication.instance().platformName() == "xcb"
    made = make_napari_viewer(show=True)
    made.window._qt_window.setGeometry(0, 0, *SIZE)
    qtbot.wait(300)
    return made


@pytest.fixture
def xdotool(qtbot):
    """Run xdotool while the window goes on."""

    def do(*words):
        process = subprocess.Popen(["xdotool", *map(str, words)])
        qtbot.waitUntil(lambda: process.poll() is not None, timeout=10_000)
        assert process.returncode == 0
        qtbot.wait(80)

    return do


@pytest.fixture
def click(xdotool):
    """Click with the mouse into the middle of a widget, or at a place on the screen."""

    def at(what, x=None, y=None):
        if not isinstance(what, QPoint):
            size = what.size()
            what = what.mapToGlobal(
                QPoint(size.width() // 2 if x is None else x, size.height() // 2 if y is None else y)
            )
        xdotool("mousemove", what.x(), what.y(), "sleep", 0.05, "click", 1)

    return at


@pytest.fixture
def choose(click, qtbot):
    """Click through the menu bar."""

    def through(viewer, *titles):
        bar = viewer.window._qt_window.menuBar()
        action = _titled(bar.actions(), titles[0])
        click(bar.mapToGlobal(bar.actionGeometry(action).center()))
        menu = action.menu()
        for title in titles[1:]:
            qtbot.waitUntil(menu.isVisible, timeout=5000)
            action = _titled(menu.actions(), title)
            click(menu.mapToGlobal(menu.actionGeometry(action).center()))
            menu = action.menu() or menu

    return through


def _titled(actions, title):
    found = [a for a in actions if a.text().replace("&", "").startswith(title)]
    assert found, [a.text() for a in actions]
    return found[0]


def picture(name, qtbot):
    """Take a picture of the screen; return it as ``(Y, X, 3)``."""
    qtbot.wait(400)
    PICTURES.mkdir(exist_ok=True)
    shot = ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).convert("RGB")
    shot.save(PICTURES / f"{name}.png")
    return np.asarray(shot).astype(int)


def canvas(viewer, shot):
    """Cut the canvas out of a picture."""
    native = viewer.window._qt_viewer.canvas.native
    corner = native.mapToGlobal(QPoint(0, 0))
    return shot[corner.y() : corner.y() + native.height(), corner.x() : corner.x() + native.width()]


def roughness(pixels):
    """How much neighbouring pixels of the middle of a canvas differ: large for noise."""
    h, w = pixels.shape[:2]
    middle = pixels[h // 4 : 3 * h // 4, w // 4 : 3 * w // 4].mean(axis=2)
    return float(np.abs(np.diff(middle, axis=0)).mean() + np.abs(np.diff(middle, axis=1)).mean())


class Heart:
    """Beats in the window's thread; a long gap is a window that does not answer."""

    def __init__(self):
        self.beats = []
        self.timer = QTimer()
        self.timer.setInterval(5)
        self.timer.timeout.connect(lambda: self.beats.append(time.monotonic()))
        self.timer.start()

    def gaps(self):
        self.timer.stop()
        return np.diff(self.beats)


def paint(viewer, xdotool):
    """Draw a broad stroke across the middle of the canvas."""
    native = viewer.window._qt_viewer.canvas.native
    start = native.mapToGlobal(QPoint(native.width() // 2 - 70, native.height() // 2))
    xdotool("mousemove", start.x(), start.y(), "sleep", 0.2, "mousedown", 1, "sleep", 0.2)
    for step in range(1, 8):
        xdotool("mousemove", start.x() + 20 * step, start.y(), "sleep", 0.05)
    xdotool("mouseup", 1)


def test_the_main_flow(viewer, xdotool, click, choose, qtbot, tmp_path):
    # Open a sample, and the widget from the menu.
    choose(viewer, "File", "Open Sample", "dip_sci", "Nuclei")
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=20_000)
    choose(viewer, "Layers", "Filter", "Restore")
    qtbot.waitUntil(lambda: "Restore (dip_sci)" in viewer.window._wrapped_dock_widgets, timeout=20_000)
    widget = viewer.window._wrapped_dock_widgets["Restore (dip_sci)"].inner_widget()
    qtbot.waitUntil(lambda: "noise" in widget.how.noise.value, timeout=60_000)
    noisy_shot = canvas(viewer, picture("1_opened", qtbot))
    assert len(np.unique(noisy_shot.reshape(-1, 3), axis=0)) > 30

    # Paint a region.
    click(viewer.window._qt_viewer.layerButtons.newLabelsButton)
    labels = viewer.layers[-1]
    controls = viewer.window._qt_viewer.controls.widgets[labels]
    labels.brush_size = 40
    click(controls.paint_button)
    paint(viewer, xdotool)
    assert labels.data.any()
    assert not labels.data.all()
    painted = canvas(viewer, picture("2_painted", qtbot))
    colourful = np.ptp(painted, axis=2) > 40
    assert 0.01 < colourful.mean() < 0.6

    # Run, watch, stop and keep.
    RECIPE.merged({"fit": {"steps": 50_000}}).save(tmp_path / "long.yaml")
    widget.how.load_from(tmp_path / "long.yaml")
    heart = Heart()
    qtbot.wait(1500)
    idle = heart.gaps()
    # What napari takes to add any layer is not in our hands.
    heart = Heart()
    qtbot.wait(100)
    viewer.add_image(viewer.layers[0].data, name="any", scale=viewer.layers[0].scale)
    qtbot.wait(500)
    adding = heart.gaps().max()
    viewer.layers.remove(viewer.layers["any"])
    qtbot.wait(300)
    heart = Heart()
    click(widget.run_button.native)
    qtbot.waitUntil(lambda: widget.live is not None and widget.live.layer is not None, timeout=60_000)
    qtbot.wait(2000)
    picture("3_running", qtbot)
    beats = heart.gaps()
    assert "of 50000" in widget.status.value
    click(widget.stop_button.native)
    qtbot.waitUntil(lambda: widget.running is None, timeout=30_000)
    assert "Stopped by the user" in widget.status.value
    labels.visible = False
    kept = canvas(viewer, picture("4_stopped", qtbot))
    assert roughness(kept) < 0.8 * roughness(noisy_shot)
    # A machine that is busy with something else lets no window beat faster than it did before the run.
    assert np.median(beats) < max(0.1, 4 * np.median(idle)), (np.sort(idle)[-5:], np.sort(beats)[-5:])
    assert beats.max() < max(0.1, 2 * idle.max(), 2 * adding), (adding, np.sort(idle)[-5:], np.sort(beats)[-5:])
    (PICTURES / "gaps.txt").write_text(
        f"seconds that napari takes to add a layer: {adding:.3f}\n"
        f"seconds between two beats of the window, idle: median {np.median(idle):.3f}, longest {idle.max():.3f}; "
        f"in a run: median {np.median(beats):.3f}, longest {beats.max():.3f}\n"
    )

    # The same to the end, inside the region only.
    viewer.layers.remove(widget.live.layer)
    RECIPE.save(tmp_path / "recipe.yaml")
    widget.how.load_from(tmp_path / "recipe.yaml")
    click(widget.choice.region.native)
    xdotool("key", "Down", "Return")
    qtbot.waitUntil(lambda: widget.choice.region.value is labels, timeout=5000)
    # The row that says what the region means has moved the buttons down.
    qtbot.wait(500)
    first = widget.live
    click(widget.run_button.native)
    qtbot.waitUntil(lambda: widget.live is not first, timeout=10_000)
    qtbot.waitUntil(lambda: widget.running is None, timeout=120_000)
    result = widget.live.layer
    final = result.data.copy()
    picture("5_done", qtbot)

    # Go back, and to the result again.
    bar = widget.results.state.native
    if len(widget.live.states) > 1:
        click(bar, x=4)
        assert "after step" in widget.results.caption.value
        picture("6_earlier", qtbot)
        widget.results.state.value = widget.results.state.max
    assert np.array_equal(result.data, final)

    # Save by name, open again.
    target = tmp_path / "saved.tif"
    typing, typists = QTimer(), []

    def type_name():
        shown = [w for w in QApplication.topLevelWidgets() if isinstance(w, QFileDialog) and w.isVisible()]
        if shown:
            typing.stop()
            line, buttons = shown[0].findChild(QLineEdit, "fileNameEdit"), shown[0].findChild(QDialogButtonBox)
            button = buttons.button(QDialogButtonBox.StandardButton.Save)
            name, save = (w.mapToGlobal(w.rect().center()) for w in (line, button))
            # Without a window manager nobody gives the dialog the keyboard: the pointer does. A list of like names
            # may lie over the dialog and take the first click.
            chain = (
                f"xdotool mousemove {name.x()} {name.y()} sleep 0.3 click 1 sleep 0.3 key ctrl+a",
                f"xdotool type --delay 20 {shlex.quote(str(target))}",
                f"xdotool sleep 0.5 mousemove {save.x()} {save.y()} click 1 sleep 0.5 click 1",
            )
            typists.append(subprocess.Popen(["sh", "-c", " && ".join(chain)]))

    typing.timeout.connect(type_name)
    typing.start(100)
    click(widget.results.save.native)
    qtbot.waitUntil(target.with_suffix(".json").exists, timeout=20_000)
    qtbot.waitUntil(lambda: typists[0].poll() == 0, timeout=10_000)
    assert not [w for w in QApplication.topLevelWidgets() if isinstance(w, QFileDialog) and w.isVisible()]
    [again] = viewer.open(str(target), plugin="dip-sci")
    assert np.array_equal(again.data, final)
    picture("7_saved", qtbot)

    # The command line does the same.
    region = tmp_path / "region.tif"
    io.write(
        region,
        io.read(samples.folder() / "microscopy" / "nuclei_very_noisy.tif").with_array(
            (labels.data > 0).astype(np.uint8)
        ),
    )
    source = samples.folder() / "microscopy" / "nuclei_very_noisy.tif"
    command = f"denoise {shlex.quote(str(source))} -o {tmp_path / 'cli.tif'} --recipe {tmp_path / 'recipe.yaml'} --region {region}"
    with pytest.raises(SystemExit) as end:
        cli.main([*shlex.split(command), "--json"])
    assert end.value.code == 0
    by_command, by_hand = io.read(tmp_path / "cli.tif"), io.read(target)
    assert np.array_equal(by_command.array, by_hand.array)
    assert (by_command.dtype, by_command.spacing, by_command.units) == (by_hand.dtype, by_hand.spacing, by_hand.units)
    assert not QMenu().isVisible()


def test_finer_voxels_in_the_window(viewer, xdotool, click, choose, qtbot):
    """Choose the task with the keyboard, type a factor, press Run: the result covers what it was made of."""
    viewer.open_sample("dip-sci", "nuclei")
    choose(viewer, "Layers", "Filter", "Restore")
    qtbot.waitUntil(lambda: "Restore (dip_sci)" in viewer.window._wrapped_dock_widgets, timeout=20_000)
    widget = viewer.window._wrapped_dock_widgets["Restore (dip_sci)"].inner_widget()
    tiny = Recipe.parse({"device": "cpu", "fit": {"steps": 30}, "generator": {"channels": (16,) * 4}})
    widget.how.show_recipe(tiny)
    click(widget.choice.task_box.native)
    xdotool("key", "Down", "Down", "Return")
    qtbot.waitUntil(lambda: widget.choice.task.name == "super_resolve", timeout=5000)
    qtbot.waitUntil(widget.choice.given.factor.native.isVisible, timeout=5000)
    qtbot.wait(300)
    click(widget.choice.given.factor.native)
    xdotool("key", "ctrl+a")
    xdotool("type", "3")
    qtbot.waitUntil(lambda: widget.choice.given.factor.value == "3", timeout=5000)
    # A change begins a measurement, whose sentence moves the buttons.
    qtbot.wait(600)
    qtbot.waitUntil(lambda: "grey levels" in widget.how.noise.value, timeout=60_000)
    source = viewer.layers[0]
    before = canvas(viewer, picture("8_coarse", qtbot))
    click(widget.run_button.native)
    qtbot.waitUntil(lambda: widget.live is not None, timeout=10_000)
    qtbot.waitUntil(lambda: widget.running is None, timeout=120_000)
    layer = widget.live.layer
    assert layer.data.shape == tuple(3 * n for n in source.data.shape)
    after = canvas(viewer, picture("9_finer", qtbot))
    # Finer, and nothing has moved: smoothed, the two pictures are one.
    h, w = (min(x, y) // 24 * 24 for x, y in zip(before.shape[:2], after.shape[:2], strict=True))
    sharp = [shot[:h, :w].mean(axis=2) for shot in (before, after)]
    smooth = [shot.reshape(h // 24, 24, w // 24, 24).mean(axis=(1, 3)).ravel() for shot in sharp]
    assert np.abs(sharp[0] - sharp[1]).mean() > 1
    assert np.corrcoef(*smooth)[0, 1] > 0.95
