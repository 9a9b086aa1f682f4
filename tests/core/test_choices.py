"""What the recipe leaves open is decided by the image, with reasons."""

import numpy as np
import pytest

from dip_sci.choices import FEW_HIDDEN, MANY_HIDDEN, PRESETS, advice, decide, with_noise
from dip_sci.errors import RecipeError
from dip_sci.image import Image, Source
from dip_sci.recipe import BELONGS, DEAF, Recipe

SIZES = (1, 64, 64)
"""One small image."""


def image(shape, axes="YX", spacing=None):
    return Image(np.zeros(shape, np.float32), axes, spacing or (None,) * len(axes))


def decided(recipe=None, of=None, *, fast=False):
    return decide(Recipe.parse(recipe or {}), of or image((64, 64)), fast_bfloat16=fast)


@pytest.mark.parametrize(
    ("shape", "axes", "spacing", "ndim"),
    [
        ((64, 64), "YX", None, "2d"),
        ((20, 64, 64), "TYX", None, "2d"),
        ((1, 64, 64), "ZYX", None, "2d"),
        ((7, 64, 64), "ZYX", None, "2d"),
        ((8, 64, 64), "ZYX", None, "3d"),
        ((64, 64, 8), "YXZ", None, "3d"),
        ((16, 64, 64), "ZYX", (3.0, 1.0, 1.0), "3d"),
        ((16, 64, 64), "ZYX", (3.1, 1.0, 1.0), "2d"),
        ((16, 64, 64), "ZYX", (0.2, 1.0, 1.0), "3d"),
        ((64, 64, 16), "YXZ", (1.0, 1.0, 7.5), "2d"),
        ((3, 9, 64, 64), "TZYX", None, "3d"),
    ],
)
def test_dimensions_follow_depth_and_spacing(shape, axes, spacing, ndim):
    choice = decided(of=image(shape, axes, spacing))
    assert choice.recipe.generator.ndim == ndim
    if "Z" in axes and shape[axes.index("Z")] > 1:
        assert choice.reasons["generator.ndim"].startswith(ndim)


def test_wanted_dimensions_win():
    thick = image((16, 64, 64), "ZYX", (9.0, 1.0, 1.0))
    assert decided({"generator": {"ndim": "3d"}}, thick).recipe.generator.ndim == "3d"
    assert decided({"generator": {"ndim": "2d"}}, image((64, 64, 64), "ZYX")).recipe.generator.ndim == "2d"
    with pytest.raises(RecipeError, match=r"no depth: axes YX, \(64, 64\)"):
        decided({"generator": {"ndim": "3d"}})


@pytest.mark.parametrize("kind", ["full", "recorrupted"])
@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])
@pytest.mark.parametrize("shape", [(64, 64), (16, 64, 64)])
def test_nothing_is_left_open(kind, preset, shape):
    of = image(shape, "ZYX"[-len(shape) :])
    given = decided({"preset": preset, "supervision": {"kind": kind}}, of)
    recipe = with_noise(given, 0.6, (1, *shape), correlated=False).recipe
    assert recipe.input.channels == 32
    assert recipe.input.jitter == 1 / 30
    for group in (recipe.generator, recipe.supervision, recipe.fit, recipe.stop):
        left = [k for k, v in group.model_dump().items() if v in (None, "auto")]
        left = [k for k in left if recipe.generator.kind in BELONGS.get(k, [recipe.generator.kind])]
        assert set(left) <= {"up_channels", "downsample", "norm", "max_seconds", "patience"} | (
            {"hidden", "recorrupt"} if kind == "full" else set()
        )


@pytest.mark.parametrize("ndim", PRESETS)
def test_presets_rise(ndim):
    fast, balanced, best = (PRESETS[ndim][k] for k in ("fast", "balanced", "best"))
    assert all(a < b < c for a, b, c in zip(fast, balanced, best, strict=True))


def test_what_is_given_stays():
    given = {
        "generator": {"kind": "hourglass", "channels": (4, 4), "skip_channels": (0,), "dropout": 0.0},
        "supervision": {"kind": "recorrupted", "recorrupt": "split", "passes": 1, "patch": 16},
        "fit": {"steps": 0, "rate": 1.0, "schedule": "constant", "averaging": 0.0, "precision": "float32"},
        "stop": {"rule": "held_out", "patience": 1, "min_start": 0},
    }
    choice = decided(given, fast=True)
    for group, values in given.items():
        for key, value in values.items():
            assert getattr(getattr(choice.recipe, group), key) == value
    assert choice.reasons == {}


def test_full_and_recorrupted_have_their_own_defaults():
    full = decided({"supervision": {"kind": "full"}}).recipe
    light = decided({"supervision": {"kind": "recorrupted"}}).recipe
    assert (full.generator.kind, light.generator.kind) == ("hourglass", "unet")
    assert (full.fit.schedule, light.fit.schedule) == ("constant", "one_cycle")
    assert (full.stop.rule, light.stop.rule) == ("moving_variance", "fixed")
    assert not full.generator.dropout
    assert light.generator.dropout > 0
    assert full.fit.steps > light.fit.steps


@pytest.mark.parametrize("fast", [True, False])
def test_precision_follows_the_device(fast):
    choice = decided(fast=fast)
    assert choice.recipe.fit.precision == ("bfloat16" if fast else "float32")
    assert choice.reasons["fit.precision"].startswith(choice.recipe.fit.precision)


def test_larger_images_get_more_steps_within_limits():
    steps = [decided(of=image((n, n))).recipe.fit.steps for n in (64, 256, 384, 512, 2048)]
    assert steps[0] == steps[1] < steps[2] < steps[3] == steps[4] <= 3 * steps[0]


@pytest.mark.parametrize("rule", ["windowed_variance", "moving_variance"])
def test_a_variance_rule_needs_full_supervision(rule):
    with pytest.raises(RecipeError, match=rf"stop\.rule is {rule}"):
        decided({"stop": {"rule": rule}})
    full = decided({"stop": {"rule": rule}, "supervision": {"kind": "full"}})
    assert full.recipe.stop.rule == rule


@pytest.mark.parametrize(
    "recipe",
    [{}, {"supervision": {"kind": "full"}, "generator": {"kind": "unet"}}, {"generator": {"kind": "hourglass"}}],
)
def test_a_sigmoid_needs_the_hourglass_under_full_supervision(recipe):
    recipe = {**recipe, "generator": {**recipe.get("generator", {}), "output": "sigmoid"}}
    with pytest.raises(RecipeError, match=r"generator\.output (is sigmoid|belongs to hourglass)"):
        decided(recipe)


@pytest.mark.parametrize(("sigma", "hidden"), [(0.2, FEW_HIDDEN), (0.9, MANY_HIDDEN)])
def test_strong_noise_hides_more(sigma, hidden):
    choice = with_noise(decided(), sigma, SIZES, correlated=False)
    assert choice.recipe.supervision.hidden == hidden
    assert f"{sigma:.0%}" in choice.reasons["supervision.hidden"]


def test_a_hidden_share_given_by_hand_stays():
    given = decided({"supervision": {"hidden": (0.2, 0.3)}})
    assert with_noise(given, 0.9, SIZES, correlated=False).recipe.supervision.hidden == (0.2, 0.3)


@pytest.mark.parametrize(("correlated", "way"), [(True, "split"), (False, "hide")])
def test_correlated_noise_is_split(correlated, way):
    choice = with_noise(decided(), 0.6, SIZES, correlated=correlated)
    assert choice.recipe.supervision.recorrupt == way
    assert choice.reasons["supervision.recorrupt"].startswith(way)
    given = decided({"supervision": {"recorrupt": "hide"}})
    assert with_noise(given, 0.6, SIZES, correlated=True).recipe.supervision.recorrupt == "hide"


def test_a_tomograph_is_known_to_share_its_noise():
    of = Image(np.zeros((64, 64), np.float32), "YX", source=Source("dicom", modality="CT"))
    choice = decided(of=of)
    assert choice.recipe.noise.spatial == "correlated"
    assert choice.reasons["noise.spatial"].startswith("correlated: computed tomography")
    assert decided({"noise": {"spatial": "independent"}}, of).recipe.noise.spatial == "independent"
    assert decided().recipe.noise.spatial == "auto"


@pytest.mark.parametrize(
    ("preset", "sigma", "patch"),
    [("fast", 0.4, 128), ("fast", 0.6, 128), ("fast", 0.8, 256), ("balanced", 0.4, 128), ("balanced", 0.6, 256)],
)
def test_fast_takes_small_steps_unless_noise_is_strong(preset, sigma, patch):
    choice = with_noise(decided({"preset": preset}), sigma, (1, 512, 512), correlated=False)
    assert choice.recipe.supervision.patch == patch


def test_weak_noise_is_fitted_in_many_small_steps():
    strong, weak = (with_noise(decided(), s, (1, 256, 256), correlated=False).recipe for s in (0.6, 0.3))
    assert weak.supervision.patch < strong.supervision.patch
    assert weak.fit.steps > strong.fit.steps
    given = decided({"fit": {"steps": 50, "rate": 0.01}, "supervision": {"patch": 64}})
    kept = with_noise(given, 0.3, (1, 256, 256), correlated=False).recipe
    assert (kept.fit.steps, kept.fit.rate, kept.supervision.patch) == (50, 0.01, 64)


def test_advice_fits_the_case():
    choice = with_noise(decided({"preset": "fast"}), 0.6, SIZES, correlated=False)
    assert any("Preset best" in a for a in advice(choice, correlated=False, counts=False))
    assert any("calibrate" in a for a in advice(choice, correlated=False, counts=True))
    calibrated = with_noise(decided({"preset": "best", "noise": {"gain": 2.0}}), 0.6, SIZES, correlated=True)
    assert [a for a in advice(calibrated, correlated=True, counts=True) if "share noise" in a]
    assert not advice(calibrated, correlated=False, counts=True)


@pytest.mark.parametrize(("steps", "flips"), [(40, "no"), (400, "yes")])
def test_a_fit_that_comes_round_often_sees_flipped_patches(steps, flips):
    choice = with_noise(decided({"fit": {"steps": steps}}), 0.6, SIZES, correlated=False)
    assert choice.recipe.supervision.flips == flips
    assert f"about {steps} times" in choice.reasons["supervision.flips"]
    many = with_noise(decided({"fit": {"steps": steps}}), 0.6, (16, *SIZES[1:]), correlated=False)
    assert many.recipe.supervision.flips == "no"
    with pytest.raises(RecipeError, match=r"supervision\.flips is yes"):
        decided({"supervision": {"kind": "full", "flips": "yes"}})
    given = decided({"fit": {"steps": steps}, "supervision": {"flips": "no"}})
    assert with_noise(given, 0.6, SIZES, correlated=False).recipe.supervision.flips == "no"


@pytest.mark.parametrize(("correlated", "rule"), [(False, "held_out"), (True, "sure")])
def test_a_very_long_fit_is_watched(correlated, rule):
    long, usual = ({"fit": {"steps": steps}} for steps in (800, 200))
    choice = with_noise(decided(long), 0.6, SIZES, correlated=correlated)
    assert choice.recipe.stop.rule == rule
    assert choice.reasons["stop.rule"].startswith(f"{rule}: each voxel is seen about 800 times")
    assert with_noise(decided(usual), 0.6, SIZES, correlated=correlated).recipe.stop.rule == "fixed"
    given = decided({**long, "stop": {"rule": "fixed"}})
    assert with_noise(given, 0.6, SIZES, correlated=correlated).recipe.stop.rule == "fixed"


def test_few_voxels_are_not_gone_over_for_long():
    def steps(edge, **given):
        choice = with_noise(decided({"preset": "best", **given}), 0.6, (1, edge, edge), correlated=False)
        return choice.recipe.fit.steps, choice.recipe.stop.rule

    assert steps(64) == (220, "fixed")
    assert steps(256) == (PRESETS["2d"]["best"].steps, "held_out")
    assert steps(64, fit={"steps": 900})[0] == 900


KINDS = ["hourglass", "unet", "classic_unet", "resnet", *DEAF]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (16, 64, 64)])
def test_every_generator_gets_what_it_has_and_its_record_can_be_run_again(kind, shape):
    of = image(shape, "ZYX"[-len(shape) :])
    recipe = with_noise(decided({"generator": {"kind": kind}}, of), 0.6, (1, *shape), correlated=False).recipe
    assert (recipe.supervision.kind == "full") == (kind in DEAF)
    assert (recipe.generator.channels is None) == (kind == "pixels")
    if kind in DEAF:
        assert recipe.input.jitter == 0
        assert recipe.input.channels == (recipe.generator.channels or (32,))[0]
    assert decided(recipe.model_dump(), of).recipe == recipe


def test_rates_are_the_papers():
    full = {"supervision": {"kind": "full"}}
    rates = {kind: decided({**full, "generator": {"kind": kind}}).recipe.fit.rate for kind in KINDS}
    assert [k for k, r in rates.items() if r == 0.001] == ["classic_unet", "resnet"]
    assert set(rates.values()) == {0.001, 0.01}
    assert decided({**full, "fit": {"rate": 0.5}, "generator": {"kind": "resnet"}}).recipe.fit.rate == 0.5


@pytest.mark.parametrize("kind", DEAF)
@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"supervision": {"kind": "recorrupted"}}, "cannot be shown an image, and supervision.kind is recorrupted"),
        ({"input": {"kind": "image"}}, "input.kind is image"),
    ],
)
def test_decoders_cannot_be_shown_an_image(kind, recipe, says):
    with pytest.raises(RecipeError, match=says):
        decided({"generator": {"kind": kind}, **recipe})


def test_total_variation_needs_an_image_that_is_fitted():
    assert decided({"fit": {"tv": 0.1}, "supervision": {"kind": "full"}}).recipe.fit.tv == 0.1
    with pytest.raises(RecipeError, match=r"fit\.tv is 0\.1, which needs supervision\.kind full"):
        decided({"fit": {"tv": 0.1}})
