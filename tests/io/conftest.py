"""A synthetic DICOM series."""

import numpy as np
import pytest
from dicom_files import ct_slice, save


@pytest.fixture
def stored():
    """Stored values of six slices, 12 bits, ``(Z, Y, X)``."""
    return np.random.default_rng(4).integers(0, 4096, (6, 8, 10)).astype(np.uint16)


@pytest.fixture
def series(tmp_path, stored):
    """Write a series of CT slices 2.5 mm apart into a folder; `per_slice(i)` gives attributes of slice i."""

    def make(per_slice=lambda i: {}, *, folder="series", tilt=0.0, places=None):
        target = tmp_path / folder
        target.mkdir()
        for i, z in enumerate(places if places is not None else np.arange(len(stored)) * 2.5):
            position = (-10.0, -20.0 + z * np.tan(tilt), 30.0 + z)
            # File names and numbers run against the positions: neither may matter.
            name = f"{(i * 5) % 7:03d}_{9 - i}.dcm"
            options = {"position": position, "number": (i * 5) % 7, **per_slice(i)}
            save(ct_slice(stored[i], **options), target / name)
        return target

    return make
