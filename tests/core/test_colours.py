"""Noise that colours share is found and removed as such, and a grey picture saved in colour is one picture."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from scenes import problem, scene, tiny

from dip_sci import colours, deconvolve
from dip_sci.image import Image
from dip_sci.preparation import Preparation
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise

CAMERA = np.array([[1.6, -0.45, -0.15], [-0.3, 1.5, -0.2], [-0.05, -0.55, 1.6]])
"""What a camera makes of its colours, roughly."""


def coloured(edge=128):
    """A scene whose colours differ, 10 to 190, ``(Y, X, 3)``."""
    bright, hue = scene(edge, edge), scene(edge, edge, seed=5)
    return np.stack([bright, 0.8 * bright + 0.2 * hue, 0.6 * bright - 0.3 * hue + 70], axis=-1)


def mixed(sd=12.0, seed=0, edge=128):
    """Noise that the colours share, as a camera's colour matrix makes it."""
    return np.random.default_rng(seed).normal(0, sd, (edge, edge, 3)) @ CAMERA.T


def compressed(values, quality=85):
    file = io.BytesIO()
    Picture.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Picture.open(file)).astype(np.float32)


def prepared(values, **changes):
    return Preparation(Image(values.astype(np.float32), "YXS"), tiny(**changes), None)


def stack(values):
    moved = np.moveaxis(values, -1, 0)[None, :, None]
    return moved, np.ones(moved.shape, bool)


@pytest.mark.parametrize("seed", range(3))
def test_colours_that_share_no_noise_stand_for_themselves(seed):
    values = coloured() + np.random.default_rng(seed).normal(0, (6, 12, 20), (128, 128, 3))
    assert colours.shared(*stack(values)) is None
    assert prepared(values).noise.mixing is None


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_share_no_noise(seed):
    noise = mixed(seed=seed)
    found = colours.shared(*stack(coloured() + noise))
    assert found is not None
    np.testing.assert_allclose(found.back @ found.to, np.eye(3), atol=1e-9)
    left = np.corrcoef(found.mix(stack(noise)[0]).reshape(3, -1))
    assert np.abs(left[np.triu_indices(3, 1)]).max() < 0.1
    true = np.corrcoef(noise.reshape(-1, 3).T)
    assert found.correlation == pytest.approx((true.min(), true[np.triu_indices(3, 1)].max()), abs=0.08)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 3, 2, 5, 4), (2, 3, 1, 3, 4, 5)]))
def test_mixing_is_undone_and_keeps_distances(seed, shape):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mixing = colours.Colours(turn, turn.T, (0.5, 0.5), np.ones(3), np.zeros(3))
    values = rng.normal(size=shape)
    mixtures = mixing.mix(values)
    np.testing.assert_allclose(mixing.separate(mixtures), values, atol=1e-9)
    np.testing.assert_allclose(np.square(mixtures).sum(axis=1), np.square(values).sum(axis=1))


def test_the_strength_of_each_colour_is_known_after_all():
    noise = mixed()
    found = prepared(coloured() + noise)
    assert found.noise.rotated
    strength = found.noise_map(coloured().astype(np.float32))
    np.testing.assert_allclose(strength.mean(axis=(0, 1)), noise.std(axis=(0, 1)), rtol=0.08)
    assert "Colours share noise" in found.found.sentences[0]
    assert len(found.found.sentences) == 4


def test_what_is_given_wins_over_mixtures():
    values = coloured() + mixed()
    assert prepared(values, noise={"sigma": 20.0}).noise.mixing is None
    assert prepared(values, noise={"model": "poisson", "gain": 2.0}).noise.mixing is None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["camera", "jpeg"])
def test_noise_that_colours_share_is_removed_better_as_such(kind, seed):
    truth = coloured(96)
    if kind == "camera":
        values = truth + mixed(seed=seed, edge=96)
    else:
        values = compressed(truth + np.random.default_rng(seed).normal(0, 20, truth.shape))
    recipe = Recipe.parse({"preset": "fast", "seed": seed, "fit": {"steps": 30}, "output": {"dtype": "float32"}})
    level = float((values - truth).std())
    errors = [
        np.square(denoise(Image(values.astype(np.float32), "YXS"), each).image.array - truth).mean()
        for each in (recipe, recipe.merged({"noise": {"sigma": level}}))
    ]
    assert errors[0] < 0.9 * errors[1]
    assert errors[0] < 0.15 * level**2


@pytest.mark.parametrize("samples", [2, 3])
def test_a_grey_picture_saved_in_colour_is_one_picture(samples):
    grey = (scene(48, 40) + np.random.default_rng(0).normal(0, 9, (48, 40))).astype(np.float32)
    alone = denoise(Image(grey, "YX"), tiny())
    alpha = [np.full_like(grey, 7.0)] if samples == 2 else []
    result = denoise(Image(np.stack([grey] * 3 + alpha, axis=-1), "YXS"), tiny())
    for s in range(3):
        np.testing.assert_array_equal(result.image.array[..., s], alone.image.array)
    assert len(result.report.noise) == 1
    if alpha:
        assert (result.image.array[..., 3] == 7).all()


@pytest.mark.parametrize("seed", range(2))
def test_a_grey_picture_with_something_coloured_in_it(seed):
    """An ultrasound's screen: grey but for a few marks, so that no noise is in its colours."""
    truth = scene(96, 96, seed=seed)
    grey = truth + np.random.default_rng(seed).normal(0, 12, (96, 96))
    values = np.stack([grey] * 3, axis=-1).astype(np.float32)
    values[4:10, 10:40] = (250, 220, 10)
    recipe = Recipe.parse({"preset": "fast", "seed": seed, "fit": {"steps": 30}})
    result = denoise(Image(values, "YXS"), recipe)
    assert sum("No noise" in sentence for sentence in result.report.noise) == 2
    away = result.image.array[14:]
    alone = denoise(Image(grey.astype(np.float32), "YX"), recipe).image.array
    assert np.square(away.mean(axis=-1) - truth[14:]).mean() < 1.25 * np.square(alone[14:] - truth[14:]).mean()
    assert np.ptp(away, axis=-1).max() < 1
    np.testing.assert_allclose(result.image.array[5:9, 12:38].mean(axis=(0, 1)), (250, 220, 10), atol=6)


def test_a_colour_that_was_not_measured_somewhere_stays_so():
    values = (coloured() + mixed()).astype(np.float32)
    values[40:60, 30:50, 1] = np.nan
    result = denoise(Image(values, "YXS"), tiny()).image.array
    np.testing.assert_array_equal(np.isnan(result), np.isnan(values))
    assert np.abs(result[~np.isnan(result)]).max() < 500


def test_noise_that_is_cut_off_is_told_of_and_does_not_count():
    noise = mixed()
    values = np.clip(coloured() + noise, 30, 140)
    found = prepared(values)
    assert found.noise.rotated
    assert found.noise.cut_off > 0.01
    assert "cut off" in found.found.sentences[0]
    strength = found.noise_map(values.astype(np.float32)).mean(axis=(0, 1))
    np.testing.assert_allclose(strength, noise.std(axis=(0, 1)), rtol=0.1)


def test_noise_that_rounding_hides_is_not_looked_for_in_mixtures():
    values = np.rint(coloured() + mixed(0.1))
    assert prepared(values).noise.mixing is None


@pytest.mark.parametrize("seed", range(2))
def test_photons_that_a_camera_has_mixed(seed):
    """Noise that rises with brightness in each colour, and is shared: stabilised first, then mixed."""
    rng = np.random.default_rng(seed)
    steps = np.kron(rng.uniform(20, 220, (6, 6)), np.ones((32, 32)))
    truth = steps[..., None] * (1, 0.9, 0.8) + 0.1 * coloured(192)
    shot = (rng.poisson(0.5 * truth) / 0.5 - truth) @ CAMERA.T
    image = Image((truth + shot).astype(np.float32), "YXS")
    found = prepared(image.array)
    assert len(found.noise.first) == 3
    assert found.found.sentences[1].startswith("Poisson")
    strength = found.noise_map(truth.astype(np.float32))
    for s in range(3):
        dark = truth[..., s] < np.quantile(truth[..., s], 0.3)
        for part in (dark, ~dark):
            assert strength[part, s].mean() == pytest.approx(shot[part, s].std(), rel=0.25)
    recipe = Recipe.parse({"preset": "fast", "seed": seed, "fit": {"steps": 30}})
    errors = [
        np.square(denoise(image, each).image.array - truth).mean()
        for each in (recipe, recipe.merged({"noise": {"model": "gaussian"}}))
    ]
    assert errors[0] < 0.9 * errors[1]
    assert denoise(image, recipe).image.array.mean() == pytest.approx(truth.mean(), rel=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_the_coarse_noise_in_the_colours_of_jpeg_is_found(seed):
    """It is what is left of noise of SD 20: weak all in all, and as strong as it was where it is coarse."""
    truth = scene(192, 192)[..., None] + (20, 0, -10)
    values = compressed(truth + np.random.default_rng(seed).normal(0, 20, truth.shape))
    found = prepared(values).noise
    bright = np.argmax(np.abs(found.mixing.to.sum(axis=1)))
    colour = [k for k in range(3) if k != bright]
    assert found.mixing.coarse[bright] == 0
    np.testing.assert_allclose(found.mixing.coarse[colour], 20, rtol=0.25)
    assert (found.sd[0, colour] < 10).all()
    assert found.stronger()[bright] == 1
    assert (found.stronger()[colour] > 1.5).all()


def test_what_is_known_of_coarse_noise_goes_to_the_device():
    p = replace(problem(16, 16, channels=3), stronger=torch.ones(1, 3, 1, 1))
    moved = p.to(torch.device("meta"))
    assert {part.device.type for part in (moved.observation, moved.sigma, moved.stronger)} == {"meta"}


def test_a_region_alone_is_changed():
    values = (coloured() + mixed()).astype(np.float32)
    region = np.zeros((128, 128), bool)
    region[30:60, 50:90] = True
    result = denoise(Image(values, "YXS"), tiny(), region=region).image.array
    np.testing.assert_array_equal(result[~region], values[~region])
    assert (result[region] != values[region]).mean() > 0.99


def test_behind_an_operator_mixtures_are_restored_too():
    values = (coloured(64) + mixed(6, edge=64)).astype(np.float32)
    psf = np.outer(*[np.array([0.25, 0.5, 0.25])] * 2)
    result = deconvolve(Image(values, "YXS"), psf, tiny())
    assert "Colours share noise" in result.report.noise[0]
    np.testing.assert_allclose(result.image.array.mean(axis=(0, 1)), values.mean(axis=(0, 1)), atol=25)
