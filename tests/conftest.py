"""What holds for every test: no network, no window, no open file left behind, the same threads as before."""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
# Nothing is drawn, but on the virtual screen of the window tests, and nobody's settings are touched.
if os.environ.get("DIP_SCI_WINDOW") != "1":
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["NAPARI_CONFIG"] = ""

settings.register_profile("dip_sci", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("dip_sci")

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="session")
def sample_data():
    """The folder of scans that come with the project."""
    return SAMPLE_DATA


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fail a test that reaches for another machine."""
    connect = socket.socket.connect

    def connect_locally(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"A test must not use the network; it asked for {address}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


def _open_files(folders):
    paths = {Path(f.path) for f in psutil.Process().open_files()}
    return {path for path in paths if any(path.is_relative_to(folder) for folder in folders)}


@pytest.fixture(autouse=True)
def no_open_files(tmp_path_factory):
    """Fail a test that leaves a file open, among those it wrote and those of sample_data."""
    folders = (tmp_path_factory.getbasetemp().resolve(), SAMPLE_DATA.resolve())
    before = _open_files(folders)
    yield
    left = _open_files(folders) - before
    if left:
        # An exception caught by the test holds its frames, and their files, in a cycle: not a leak.
        gc.collect()
        left = _open_files(folders) - before
    assert not left, f"Left open: {sorted(map(str, left))}"


@pytest.fixture(autouse=True)
def same_threads():
    """Fail a test that changes torch's thread count for those after it."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != before:
        found = torch.get_num_threads()
        torch.set_num_threads(before)
        pytest.fail(f"The test left torch with {found} threads instead of {before}.")
