"""Runs the tests of `window/` on a virtual screen, in a process of their own: theirs is another Qt platform."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "window"
TOOLS = ("xvfb-run", "xauth", "xdotool")


def test_the_flows_in_a_real_window():
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        why = f"window tests skipped: {', '.join(missing)} missing; install the packages of .ci/debian.txt"
        # .ci/run must not pass without them.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    environment = {**os.environ, "QT_QPA_PLATFORM": "xcb", "DIP_SCI_WINDOW": "1", "OMP_WAIT_POLICY": "passive"}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24"]
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", str(FOLDER)]
    run = subprocess.run([*screen, *tests], env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
