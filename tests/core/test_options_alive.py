"""No dead option: each one, changed, changes the result or the report of some tiny run."""

import numpy as np
import pytest
from scenes import scene, tiny

from dip_sci.errors import RecipeError
from dip_sci.image import Image
from dip_sci.recipe import options
from dip_sci.restore import denoise

FULL = {"supervision": {"kind": "full"}}
SKIP = {"generator": {"kind": "hourglass"}}
SPLIT = {"supervision": {"recorrupt": "split"}}
CAMERA = {"noise": {"gain": 2.0}}
WATCHED = {**FULL, "stop": {"rule": "moving_variance", "min_start": 0, "patience": 4}, "fit": {"steps": 30}}
WINDOWED = {**FULL, "stop": {"rule": "windowed_variance", "window": 4, "min_start": 0, "patience": 4}}
HELD_OUT = {"stop": {"rule": "held_out"}, "fit": {"steps": 20}}

# For each option: what it needs around it, and a value that must make a difference there. A new option needs a line.
TABLE = {
    "preset": ({"generator": {"channels": None}}, "fast"),
    "seed": ({}, 1),
    "noise.model": ({}, "poisson_gaussian"),
    "noise.sigma": (SPLIT, 30.0),
    "noise.gain": (CAMERA, 8.0),
    "noise.offset": (CAMERA, 30.0),
    "noise.read_noise": (CAMERA, 30.0),
    "noise.looks": ({}, 9.0),
    "noise.spatial": ({}, "correlated"),
    "generator.kind": ({}, "hourglass"),
    "generator.ndim": ({}, "3d"),
    "generator.channels": ({}, (8, 12)),
    "generator.neighbours": ({}, 2),
    "generator.up_channels": (SKIP, (12, 8)),
    "generator.skip_channels": (SKIP, (0,)),
    "generator.kernel_down": ({}, (5,)),
    "generator.kernel_up": ({}, (5,)),
    "generator.downsample": ({}, "average"),
    "generator.upsample": ({}, ("linear",)),
    "generator.pointwise": (SKIP, False),
    "generator.norm": ({}, "instance"),
    "generator.output": (FULL, "sigmoid"),
    "generator.dropout": ({}, 0.6),
    "input.kind": (FULL, "meshgrid"),
    "input.channels": (FULL, 6),
    "input.scale": (FULL, 1.0),
    "input.jitter": (FULL, 0.2),
    "supervision.kind": ({}, "full"),
    "supervision.recorrupt": ({}, "split"),
    "supervision.hidden": ({}, (0.8, 0.9)),
    "supervision.strength": (SPLIT, (0.5, 0.5)),
    "supervision.passes": ({}, 5),
    "supervision.patch": ({}, 16),
    "supervision.flips": ({}, "yes"),
    "fit.steps": ({}, 6),
    "fit.rate": ({}, 0.02),
    "fit.schedule": ({}, "constant"),
    "fit.averaging": ({}, 0.0),
    "fit.seeds": ({}, 2),
    "fit.precision": ({}, "bfloat16"),
    "fit.tv": (FULL, 0.5),
    "fit.outside": ({}, 1.0),
    "stop.rule": (FULL, "fixed"),
    "stop.window": (WINDOWED, 3),
    "stop.alpha": (WATCHED, 0.5),
    "stop.patience": (WATCHED, 9),
    "stop.min_start": (WATCHED, 12),
    "stop.discrepancy": ({**FULL, "stop": {"rule": "discrepancy", "min_start": 0}}, 50.0),
    "stop.split": ({**FULL, "stop": {"rule": "split"}}, 1.5),
    "stop.held_out": (HELD_OUT, 0.4),
    "stop.max_seconds": ({}, 1e-6),
    "output.dtype": ({}, "float32"),
    "output.outside": ({}, "restore"),
    "output.classical": (SPLIT, "blend"),
}
ELSEWHERE = {
    "device",
    "noise.interference",
    "noise.outliers",
    "generator.along",
    "generator.joint_channels",
    "output.known",
    "output.tile",
    "operator.kernel",
    "operator.denoise",
}
"""Options that no run of this volume can show: one needs another machine, one a larger plane with hum
(test_interference.py), one hot pixels (test_outliers.py), two frames or channels (test_stacks.py), one what is missing (test_inpainting.py), one a larger image
(test_tiles.py), two a coarse one (test_super_resolution.py)."""

RESULT = ("reason", "steps", "best_step", "data_terms", "stop_curve", "noise", "clipped")


def volume():
    """Eight planes of an image with photon noise, of which a part is the region of interest."""
    photons = np.random.default_rng(0).poisson(np.clip(scene(8, 36, 36) - 30, 2, None) / 3)
    image = Image(np.clip(3 * photons, 0, 255).astype(np.uint8), "ZYX")
    region = np.zeros(image.shape, bool)
    region[:, 4:30, 4:30] = True
    return image, region


def outcome(recipe):
    image, region = volume()
    result = denoise(image, recipe, region=region)
    told = {name: getattr(result.report, name) for name in RESULT}
    return result.image.array, told


def same(a, b):
    return a[0].dtype == b[0].dtype and np.array_equal(a[0], b[0]) and a[1] == b[1]


def plane(**changes):
    generator = {"ndim": "2d", **changes.pop("generator", {})}
    # Float results: a difference too small for whole numbers is a difference all the same.
    output = {"dtype": "float32", **changes.pop("output", {})}
    return tiny(generator=generator, output=output, **changes)


def merged(around, name, value):
    group, _, key = name.rpartition(".")
    return {**around, group: {**around.get(group, {}), key: value}} if group else {**around, key: value}


def test_every_option_is_in_the_table():
    assert set(TABLE) | ELSEWHERE == set(options())


@pytest.mark.parametrize("name", TABLE)
def test_an_option_makes_a_difference(name):
    around, value = TABLE[name]
    if name == "output.dtype":
        around = {"output": {"dtype": "same"}}
    before, after = outcome(plane(**around)), outcome(plane(**merged(around, name, value)))
    assert not same(before, after)


@pytest.mark.parametrize("around", [{}, FULL, SPLIT, WATCHED, WINDOWED, HELD_OUT], ids=str)
def test_nothing_changed_makes_none(around):
    assert same(outcome(plane(**around)), outcome(plane(**around)))


def test_the_device_is_asked_for():
    with pytest.raises(RecipeError, match="cuda:63"):
        denoise(Image(np.eye(16), "YX"), plane(device="cuda:63"))
