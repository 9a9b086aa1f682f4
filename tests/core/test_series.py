"""Time series: frames help each other where they show the same, nothing that moves is smeared, time stays in order."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from scenes import noisy, problem, rng, scene, tiny

from dip_sci import patches, ways
from dip_sci.choices import decide
from dip_sci.errors import RecipeError
from dip_sci.functions import inpaint
from dip_sci.image import Image
from dip_sci.noise import PoissonGaussian
from dip_sci.noise_estimate import estimate
from dip_sci.noise_frames import SHARED, shared
from dip_sci.recipe import NoiseOptions, Recipe
from dip_sci.restore import denoise

BLEND = {
    "device": "cpu",
    "generator": {"channels": (8, 8)},
    "fit": {"steps": 30, "precision": "float32"},
    "supervision": {"passes": 2, "patch": 32},
    "output": {"dtype": "float32"},
}


def texture(size, seed=0):
    """Content as fine as noise: a wall of bricks and grain."""
    y, x = np.mgrid[:size, :size]
    grain = np.random.default_rng(seed).normal(size=(size, size))
    return 100 + 40 * ((x // 5 + y // 3) % 2) + 8 * grain


def still(frames=8, size=48, sigma=20.0):
    """A series in which nothing moves, and what it shows."""
    clean = np.broadcast_to(scene(size, size), (frames, size, size))
    return Image((clean + np.random.default_rng(1).normal(0, sigma, clean.shape)).astype(np.float32), "TYX"), clean


def moving(frames=8, size=48, sigma=10.0, step=4):
    """A spot that goes its way before a still ground, and what is there."""
    y, x = np.mgrid[:size, :size]
    ground = 60 + 10 * np.sin(y / 7)
    clean = np.stack([ground + 120 * np.exp(-((y - 24) ** 2 + (x - 8 - step * t) ** 2) / 8) for t in range(frames)])
    return Image((clean + np.random.default_rng(2).normal(0, sigma, clean.shape)).astype(np.float32), "TYX"), clean


def recursive(sigma, rho, frames=10, size=96, seed=3):
    """Noise of which frames share a part with the next, as recursive filters of cameras make it."""
    fresh = np.random.default_rng(seed).normal(0, sigma, (frames, size, size))
    for t in range(1, frames):
        fresh[t] = rho * fresh[t - 1] + np.sqrt(1 - rho**2) * fresh[t]
    return fresh


def mean_square(a, b):
    return float(np.mean((np.asarray(a, float) - b) ** 2))


def test_frames_that_show_the_same_are_worth_many_times_one():
    image, clean = still()
    together = denoise(image, Recipe.parse(BLEND))
    apart = denoise(image, Recipe.parse(BLEND).merged({"generator": {"neighbours": 0}}))
    assert together.report.recipe.generator.neighbours == 3
    assert mean_square(together.image.array, clean) < 0.5 * mean_square(apart.image.array, clean)
    # More than the mean of all frames takes off, though no frame was told that nothing moves.
    assert mean_square(together.image.array, clean) < 20**2 / 8


def test_what_moves_is_not_smeared():
    image, clean = moving()
    result = denoise(image, Recipe.parse(BLEND))
    apart = denoise(image, Recipe.parse(BLEND).merged({"generator": {"neighbours": 0}}))
    assert mean_square(result.image.array, clean) < mean_square(apart.image.array, clean)
    left = result.image.array - clean
    for t in range(len(clean)):
        at = clean[t] > 120
        # The spot keeps its light, and leaves no trace where it was or will be.
        assert abs(left[t][at].mean()) < 8
        for other in (t - 2, t + 2):
            if 0 <= other < len(clean):
                trace = (clean[other] > 120) & (clean[t] < 72)
                assert abs(left[t][trace].mean()) < 5


def test_order_and_timing_stay():
    image, clean = moving()
    timed = dataclasses.replace(image, spacing=(0.25, 1.0, 1.0), units=("second", "micrometer", "micrometer"))
    result = denoise(timed, Recipe.parse(BLEND)).image
    assert (result.axes, result.spacing, result.units) == (timed.axes, timed.spacing, timed.units)
    nearest = [int(np.argmin([mean_square(frame, other) for other in clean])) for frame in result.array]
    assert nearest == list(range(len(clean)))


def test_frames_that_fade_keep_their_own_light():
    """Bleaching: what frames share is their content, not its brightness."""
    shown = scene(48, 48)
    clean = np.stack([20 + shown * 0.8**t for t in range(8)])
    noise = np.random.default_rng(1).normal(0, 10, clean.shape)
    result = denoise(Image((clean + noise).astype(np.float32), "TYX"), Recipe.parse(BLEND)).image.array
    assert mean_square(result, clean) < 0.1 * 10**2
    # The mean of a frame's noise, 10 / 48, is part of its light.
    assert np.abs(result.mean(axis=(1, 2)) - clean.mean(axis=(1, 2))).max() < 3 * 10 / 48
    bright = shown > np.quantile(shown, 0.8)
    assert np.abs((result - clean)[:, bright].mean(axis=1)).max() < 2


@pytest.mark.parametrize(
    ("axes", "shape"), [("CTYX", (2, 6, 32, 32)), ("TCZYX", (4, 2, 3, 32, 32)), ("TYXS", (6, 32, 32, 3))]
)
def test_series_of_channels_planes_and_colours(axes, shape):
    values = np.random.default_rng(0).normal(100, 5, shape) + 20 * np.arange(
        shape[-2] if axes[-1] == "X" else 32
    ).reshape((-1, 1) if axes[-1] == "X" else (-1, 1, 1))
    image = Image(values.astype(np.float32), axes)
    result = denoise(image, Recipe.parse(BLEND).merged({"fit": {"steps": 4}}))
    assert result.report.recipe.generator.along == "T"
    assert any(name.endswith(ways.THROUGH_TIME) for name in result.report.risks)
    assert mean_square(result.image.array, values) < 5.5**2
    assert result.image.array.std() == pytest.approx(values.std(), rel=0.1)


def test_volumes_that_follow_each_other():
    clean = np.broadcast_to(scene(10, 24, 24), (6, 10, 24, 24))
    values = clean + np.random.default_rng(0).normal(0, 15, clean.shape)
    image = Image(values.astype(np.float32), "TZYX", (1.0,) * 4)
    together, apart = (
        denoise(image, Recipe.parse(BLEND).merged({"generator": {"neighbours": n}})).image.array for n in (None, 0)
    )
    assert mean_square(together, clean) < 0.7 * mean_square(apart, clean)


def test_a_series_with_holes_is_filled_from_frames_that_know():
    clean = np.broadcast_to(texture(40), (6, 40, 40))
    image = Image((clean + np.random.default_rng(0).normal(0, 2, clean.shape)).astype(np.float32), "TYX")
    missing = np.zeros(image.shape, bool)
    for t in range(6):
        missing[t, 6 * t : 6 * t + 3, 5:35] = True
    recipe = Recipe.parse(BLEND).merged({"fit": {"steps": 200}, "output": {"classical": "none"}})
    together, apart = (
        inpaint(image, missing, recipe.merged({"generator": {"neighbours": n}})).image.array for n in (2, 0)
    )
    assert np.array_equal(together[~missing], image.array[~missing])
    assert mean_square(together[missing], clean[missing]) < 0.7 * mean_square(apart[missing], clean[missing])


@pytest.mark.parametrize(("rho", "neighbours"), [(0.0, 3), (0.5, 0)])
def test_frames_that_share_noise_are_seen_apart(rho, neighbours):
    values = scene(96, 96) + recursive(15.0, rho)
    result = denoise(Image(values.astype(np.float32), "TYX"), tiny())
    assert result.report.recipe.generator.neighbours == neighbours
    assert ("share" in result.report.reasons["generator.neighbours"]) == (neighbours == 0)
    # What the user says of them wins.
    told = denoise(Image(values.astype(np.float32), "TYX"), tiny(generator={"neighbours": 1}))
    assert told.report.recipe.generator.neighbours == 1


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("content", ["texture", "drift", "nothing"])
def test_how_much_noise_frames_share_is_measured_whatever_they_show(rho, content):
    noise = recursive(15.0, rho)
    size = noise.shape[-1]
    shown = {
        "texture": texture(size)[None],
        "drift": np.stack([np.roll(texture(size), 2 * t, axis=1) for t in range(len(noise))]),
        "nothing": np.zeros((1, 1, 1)),
    }[content]
    found = shared(shown + noise, np.ones(noise.shape, bool))
    # Of the next frame, less what is left of it four frames later.
    expected = 1 - (1 - rho) / (1 - rho**4) if rho else 0.0
    if content == "drift":
        # Where all moves and nothing is flat, content dilutes it.
        assert SHARED * (rho > 0) <= found < expected + 0.05
    else:
        assert found == pytest.approx(expected, abs=0.05)


def test_too_little_to_tell_by_shares_nothing():
    for shape in [(2, 64, 64), (8, 9, 64), (1, 64, 64)]:
        assert shared(np.ones(shape), np.ones(shape, bool)) == 0
    values = np.random.default_rng(0).normal(size=(8, 64, 64))
    assert shared(values, np.zeros(values.shape, bool)) == 0
    assert shared(np.ones((8, 64, 64)), np.ones((8, 64, 64), bool)) == 0


@pytest.mark.parametrize("blank", [slice(1, None, 2), slice(0, 3)])
def test_frames_without_anything_hold_no_noise_to_be_measured(blank):
    values = noisy(8, 48, 48, axes="TYX").array.astype(float)
    values[:, :, :4] = 90.0
    values[blank] = 0
    found = estimate(values, np.ones(values.shape, bool), NoiseOptions(), frames=8)
    assert found.model.sigma == pytest.approx(8, rel=0.1)


def test_frames_that_were_never_measured_at_one_place_are_measured_apart():
    values = noisy(2, 48, 48, axes="TYX").array.astype(float)
    seen = np.zeros(values.shape, bool)
    seen[0, :24], seen[1, 24:] = True, True
    found = estimate(values, seen, NoiseOptions(), frames=2)
    assert found.model.sigma == pytest.approx(8, rel=0.15)
    assert "differences" not in found.sentence


@pytest.mark.parametrize("frames", [2, 6])
def test_copies_of_one_frame_are_one_frame(frames):
    one = noisy(40, 40)
    copies = Image(np.repeat(one.array[None], frames, axis=0), "TYX")
    result = denoise(copies, tiny(output={"dtype": "float32"}))
    assert result.report.recipe.generator.neighbours == 0
    (sd,) = re.findall(r"standard deviation ([\d.]+)", result.report.noise[0])
    assert float(sd) == pytest.approx(8, rel=0.15)
    twice = np.repeat(noisy(4, 48, 48, axes="TYX").array, 2, axis=0)
    assert shared(twice, np.ones(twice.shape, bool)) > SHARED


@pytest.mark.parametrize("frames", [2, 5, 8])
@pytest.mark.parametrize("sigma", [3.0, 10.0])
def test_noise_of_frames_is_measured_under_any_texture_that_stays(frames, sigma):
    clean = np.broadcast_to(texture(160), (frames, 160, 160))
    values = clean + np.random.default_rng(4).normal(0, sigma, clean.shape)
    seen = np.ones(values.shape, bool)
    alone = estimate(values, seen, NoiseOptions())
    found = estimate(values, seen, NoiseOptions(), frames=frames)
    assert found.model.sigma == pytest.approx(sigma, rel=0.03)
    assert alone.model.sigma > 1.2 * sigma or sigma == 10.0
    assert "differences of frames" in found.sentence


def test_photons_and_their_growth_are_measured_in_differences():
    light = np.clip(texture(192) - 60, 0, None) * np.linspace(0.02, 0.5, 192)
    series = np.broadcast_to(light, (6, 192, 192))
    model = PoissonGaussian(5.0, 50.0, 4.0)
    values = model.sample(50 + 5 * series, np.random.default_rng(0))
    found = estimate(values, np.ones(values.shape, bool), NoiseOptions(), frames=6).model
    assert isinstance(found, PoissonGaussian)
    assert found.gain == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("frames", [2, 3, 7])
def test_a_map_of_the_strength_is_each_frames_own(frames):
    sd = np.linspace(4, 20, 160)
    values = scene(160, 160) + np.random.default_rng(0).normal(0, 1, (frames, 160, 160)) * sd
    found = estimate(values, np.ones(values.shape, bool), NoiseOptions(), frames=frames).structure
    assert found.sd_map.shape == values.shape
    strength = found.sd_map.mean(axis=1)
    assert strength[:, 150] / strength[:, 10] == pytest.approx(np.full(frames, sd[150] / sd[10]), rel=0.2)


def series_problem(runs, frames, reach, timed=True, size=20):
    stack = problem(size, size, images=runs * frames)
    return dataclasses.replace(stack, frames=frames, reach=reach, timed=timed)


@pytest.mark.parametrize(("runs", "frames", "reach"), [(1, 2, 1), (2, 5, 2), (1, 16, 3), (3, 37, 3)])
@pytest.mark.parametrize("voxels", [1, 3000, 2**24])
def test_every_frame_is_filtered_once_and_with_frames_of_its_own_series(runs, frames, reach, voxels, monkeypatch):
    monkeypatch.setattr(ways, "CHUNK", voxels)
    monkeypatch.setattr(ways, "SMALL_CHUNK", voxels)
    stack = series_problem(runs, frames, reach, size=8)
    each = [*ways.classical(stack, correlated=False), *ways.low_rank(stack), *ways.refining(stack)]
    assert {type(way) for way in each} == {ways.Way, ways.Filters}
    for way in each:
        portions = way.portions(stack)
        assert [n for p in portions for n in range(p.wanted.start, p.wanted.stop)] == list(range(runs * frames))
        for wanted, seen in portions:
            assert seen.start <= wanted.start < wanted.stop <= seen.stop
            assert seen.start // frames == (seen.stop - 1) // frames


def test_chunks_of_a_series_make_what_the_whole_makes(monkeypatch):
    """Like patches are looked for where they are in the whole; what is averaged may differ at the ends of a chunk."""
    stack = series_problem(1, 9, 2, size=32)
    (by_search, *_) = ways.low_rank(stack)
    whole = by_search.on(stack)
    monkeypatch.setattr(ways, "CHUNK", 7 * 32 * 32)
    assert len(by_search.portions(stack)) == 3
    assert float((by_search.on(stack) - whole).square().mean()) < 0.1 * float(
        (whole - stack.observation).square().mean()
    )


def test_planes_are_no_points_in_time():
    names = [way.name for way in ways.low_rank(series_problem(1, 6, 1, timed=False))]
    assert names == [ways.LOW_RANK, ways.LOW_RANK + ways.AS_VOLUME]
    names = [way.name for way in ways.low_rank(series_problem(1, 6, 1))]
    assert names[-1] == ways.LOW_RANK + ways.THROUGH_TIME


@pytest.mark.parametrize("ndim", [2, 3])
def test_like_patches_are_found_in_other_frames(ndim):
    clean = torch.from_numpy(texture(24 if ndim == 3 else 48).astype(np.float32)) / 50
    clean = clean.expand(8, *clean.shape) if ndim == 3 else clean
    frames = clean.expand(1, 5, *clean.shape)
    seen = frames + 0.5 * torch.randn(frames.shape, generator=rng())
    sigma = torch.full((1,) * seen.ndim, 0.5)
    together = patches.low_rank(seen, sigma, frames=2)
    alone = torch.stack([patches.low_rank(seen[:, n], sigma[:, 0]) for n in range(5)], dim=1)
    assert mean_square(together, frames.numpy()) < 0.8 * mean_square(alone, frames.numpy())


def test_frames_are_asked_for_where_they_are_none():
    with pytest.raises(RecipeError, match=r"neighbours is 1, but the image has 1 frames"):
        denoise(noisy(24, 24), tiny(generator={"neighbours": 1, "along": "T"}))
    with pytest.raises(RecipeError, match=r"4 frames: 2 at most"):
        denoise(noisy(4, 24, 24, axes="TYX"), tiny(generator={"neighbours": 3}))


def test_few_frames_have_as_many_neighbours_as_there_are():
    for frames, reach in [(1, 0), (2, 1), (3, 1), (5, 2), (20, 3)]:
        choice = decide(Recipe(), noisy(frames, 16, 16, axes="TYX"), fast_bfloat16=False)
        assert choice.recipe.generator.neighbours == reach
