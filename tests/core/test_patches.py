"""Groups of like patches: noise goes, what patches share stays, and nothing depends on where an image is cut."""

import itertools
from threading import Thread

import numpy as np
import pytest
import torch
from scenes import rng
from scipy.ndimage import gaussian_filter

from dip_sci import patches
from dip_sci.baseline import classical_methods
from dip_sci.patch_noise import PatchNoise
from dip_sci.texture import Texture


def waves(*shape):
    """A scene that repeats itself, with values of about one."""
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return torch.from_numpy(sum(np.sin(g / 3 + k) for k, g in enumerate(grids)).astype(np.float32))[None]


def noisy(clean, sigma, seed=0):
    return clean + sigma * torch.randn(clean.shape, generator=rng(seed))


def sd(value):
    return torch.full((1,), value)


def error(image, truth):
    return float((image - truth).square().mean())


@pytest.mark.parametrize("shape", [(64, 48), (12, 24, 20)])
def test_most_of_the_noise_goes_and_what_repeats_itself_stays(shape):
    clean = waves(*shape)
    seen = noisy(clean, 0.5)
    first = patches.low_rank(seen, sd(0.5))
    assert error(first, clean) < 0.25 * 0.5**2
    for result in patches.refined(seen, first, sd(0.5)):
        assert error(result, clean) < 0.2 * 0.5**2


@pytest.mark.parametrize("shape", [(64, 48), (12, 24, 20)])
def test_what_a_single_patch_shows_is_lost_and_what_all_show_stays(shape):
    clean = waves(*shape)
    odd = clean.clone()
    odd[(0, *(n // 2 for n in shape))] += 0.5
    for coarse in (False, True):
        found = patches.self_led(odd, sd(0.3), coarse=coarse)
        assert error(found, clean) < 0.3 * error(odd, clean) + 1e-3
    assert torch.allclose(patches.self_led(clean, sd(0.01)), clean, atol=0.02)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("period", [4, 5])
@pytest.mark.parametrize("shape", [(65, 65), (13, 16, 16)])
def test_every_voxel_gets_a_value(shape, period, again, coarse):
    """Where stripes come again as often as groups are gathered, all like patches leave the same voxels out."""
    stripes = torch.rand(period, generator=rng(0)).repeat(shape[0])[: shape[0]]
    image = stripes.reshape(1, -1, *(1 for _ in shape[1:])).expand(1, *shape).contiguous()
    for result in patches.refined(image, image, sd(0.3), again=again, coarse=coarse):
        assert torch.isfinite(result).all()


def test_threads_of_others_have_all_cores_while_those_that_filter_have_one_each(monkeypatch):
    """Else the next run would filter with one thread, and leave it at that for all that follow."""
    found = []

    def watched(*given):
        other = Thread(target=lambda: found.append((torch.get_num_threads(), own)))
        own = torch.get_num_threads()
        other.start()
        other.join()
        return patches._wiener(*given)

    monkeypatch.setitem(patches.RULES, "Wiener filter", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        patches.refined(waves(64, 64), waves(64, 64), sd(0.5))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(found) == {(3, 1)}


def test_a_better_pilot_gives_a_better_result():
    clean = waves(64, 64)
    seen = noisy(clean, 0.5)
    pilots = (seen, patches.low_rank(seen, sd(0.5)), clean)
    each = [[error(result, clean) for result in patches.refined(seen, pilot, sd(0.5))] for pilot in pilots]
    for errors in zip(*each, strict=True):
        assert list(errors) == sorted(errors, reverse=True)


def test_without_noise_nothing_changes():
    clean = waves(40, 40)
    torch.testing.assert_close(patches.low_rank(clean, sd(1e-4)), clean, atol=1e-3, rtol=0)
    for result in patches.refined(clean, clean, sd(1e-4)):
        torch.testing.assert_close(result, clean, atol=1e-3, rtol=0)


def test_noise_alone_is_flattened():
    moved = []
    for seed in range(4):
        only = noisy(torch.zeros(1, 64, 64), 1.0, seed)
        first = patches.low_rank(only, sd(1.25))
        assert float(first.std()) < 0.25
        moved.append(float(first.mean() - only.mean()))
    assert np.sqrt(np.mean(np.square(moved))) < 0.02


def test_colours_help_each_other():
    clean = waves(48, 48).expand(3, -1, -1)
    seen = noisy(clean, 0.5)
    alone = torch.cat([patches.low_rank(channel[None], sd(0.5)) for channel in seen])
    assert error(patches.low_rank(seen, sd(0.5)), clean) < 0.7 * error(alone, clean)


def grain(edge, seed):
    """Fine detail of standard deviation 1, alike nowhere."""
    fine = gaussian_filter(np.random.default_rng(seed).normal(size=(edge, edge)), 1)
    return torch.from_numpy((fine / fine.std()).astype(np.float32))


def test_fine_detail_of_brightness_stays_out_of_smooth_colours():
    """Of the whole image, colours differ most; of its detail, the brightness."""
    fine, (y, x) = 2.5 * grain(96, 0), torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    hue = 6 * torch.sin(x / 30) * torch.cos(y / 25)
    clean = torch.stack([fine + hue, fine + 0.3 * hue, fine - 0.2 * hue])
    seen = noisy(clean, 1.0)
    first = patches.low_rank(seen, sd(1.0))
    for result in (first, *patches.refined(seen, first, sd(1.0))):
        assert error(result[0] - result[2], clean[0] - clean[2]) < 0.05 * 2


def test_parts_of_an_image_have_colours_of_their_own():
    fine, left = 2.5 * grain(96, 0), torch.arange(96) < 48
    halves = [(1, 1, -1), (1, -1, 1)]
    whole = torch.stack([fine * torch.where(left, one, other) for one, other in zip(*halves, strict=True)])
    alone = torch.stack([sign * fine for sign in halves[0]])
    mixed, even = (error(patches.low_rank(noisy(clean, 1.0), sd(1.0)), clean) for clean in (whole, alone))
    assert mixed < 1.45 * even


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 7, 30), (2, 16, 9), (1, 2, 9, 9), (1, 4, 4, 4)])
def test_images_smaller_than_a_search_are_no_problem(shape):
    seen = noisy(torch.zeros(shape), 1.0)
    for result in (patches.low_rank(seen, sd(1.0)), *patches.refined(seen, seen, sd(1.0))):
        assert result.shape == shape
        assert bool(result.isfinite().all())


def test_constant_parts_are_no_problem():
    seen = torch.zeros(1, 40, 40)
    seen[:, :, 20:] = noisy(torch.zeros(1, 40, 20), 1.0)
    for result in (patches.low_rank(seen, sd(1.0)), *patches.refined(seen, torch.zeros_like(seen), sd(1.0))):
        assert bool(result.isfinite().all())
        assert float(result[:, :, :10].abs().max()) < 0.2


def test_the_result_does_not_depend_on_how_much_is_searched_at_once(monkeypatch):
    seen = noisy(waves(60, 40), 0.5)
    whole = patches.low_rank(seen, sd(0.5))
    monkeypatch.setattr(patches, "BAND", 600)
    monkeypatch.setattr(patches, "AT_ONCE", 50)
    torch.testing.assert_close(patches.low_rank(seen, sd(0.5)), whole, atol=1e-4, rtol=1e-4)


def test_a_shifted_image_gives_a_shifted_result():
    clean = waves(61, 64)
    seen = noisy(clean, 0.5)
    inside = (slice(None), slice(20, 40), slice(20, 40))
    moved = (slice(None), slice(20 - patches.STEP[2], 40 - patches.STEP[2]), slice(20, 40))
    first, second = patches.low_rank(seen, sd(0.5)), patches.low_rank(seen[:, patches.STEP[2] :], sd(0.5))
    torch.testing.assert_close(first[inside], second[moved], atol=0.05, rtol=0)


def test_a_channel_of_noise_does_not_choose_which_patches_are_alike():
    clean = torch.cat([waves(64, 64), torch.zeros(2, 64, 64)])
    seen = noisy(clean, 0.5)
    alone = error(patches.low_rank(seen[:1], sd(0.5)), clean[:1])
    assert error(patches.low_rank(seen, sd(0.5))[:1], clean[:1]) < 1.1 * alone


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_result_has_a_name_of_its_own(ndim, again):
    image = torch.zeros(1, *[9] * ndim)
    names = patches.refinements(ndim, again=again)
    assert len(set(names)) == len(names) == len(patches.refined(image, image, sd(1.0), again=again))


def test_like_patches_are_looked_for_farther_away_once_more():
    """Of marks 16 voxels apart, a first search sees one alone; between all, noise is more than halved."""
    clean = torch.zeros(1, 80, 80)
    mark = torch.randn(6, 6, generator=torch.Generator().manual_seed(4))
    for y, x in itertools.product(range(4, 80, 16), repeat=2):
        clean[0, y : y + 6, x : x + 6] = 3 * mark
    at = clean != 0
    seen = noisy(clean, 0.5)
    first, again = (
        error(torch.stack(patches.refined(seen, clean, sd(0.5), again=again)).mean(dim=0)[at], clean[at])
        for again in (False, True)
    )
    assert again < 0.5 * first


METHODS = {
    "low rank": patches.low_rank,
    "with a pilot": lambda image, sigma: torch.stack(patches.refined(image, image, sigma)),
    **{method.name: method.apply for method in classical_methods(correlated=False)},
}


@pytest.mark.parametrize("name", METHODS)
def test_channels_in_other_units_are_denoised_alike(name):
    units = torch.tensor([1.0, 0.3, 4.0])[:, None, None]
    image = noisy(torch.cat([waves(48, 40), waves(48, 40).flip(1), waves(40, 48).mT]), 0.5)
    method, level = METHODS[name], torch.full((3, 1, 1), 0.5)
    torch.testing.assert_close(method(units * image, units * level), units * method(image, level), rtol=0, atol=0.01)


def test_a_channel_without_noise_keeps_its_detail():
    clean = waves(48, 40)
    fine = 0.5 * noisy(torch.zeros_like(clean), 1.0, seed=3)
    level = torch.tensor([0.5, 1e-6])[:, None, None]
    result = patches.low_rank(torch.cat([noisy(clean, 0.5), fine]), level)
    assert error(result[1:], fine) < 0.01


def smooth(reach=5, width=1.1):
    """Autocorrelation of noise that was smoothed by a Gaussian."""
    lag = torch.arange(-reach, reach + 1)
    return torch.exp(-(lag[:, None].square() + lag.square()) / (4 * width**2))


def test_independent_noise_needs_no_covariance():
    alone = torch.zeros(5, 5)
    alone[2, 2] = 1
    found = PatchNoise.of(alone, (4, 4))
    torch.testing.assert_close(found.covariance, torch.eye(16))
    torch.testing.assert_close(found.whitener, torch.eye(16))
    assert PatchNoise.of(None, (4, 4)) is None


def test_a_patch_s_noise_is_that_of_what_is_drawn():
    drawn = Texture((0.6 * smooth() + 0.4 * (smooth() == 1)).numpy()).draw((600, 64, 64), rng())
    patch = drawn[:, 20:25, 30:35].flatten(1)
    found = PatchNoise.of(0.6 * smooth() + 0.4 * (smooth() == 1), (5, 5))
    torch.testing.assert_close(found.covariance, patch.T @ patch / len(patch), atol=0.2, rtol=0)
    white = patch @ found.whitener
    # Half of the mean counts at least, so that what is weaker comes out weaker than 1.
    assert float(white.square().mean()) == pytest.approx(0.9, abs=0.12)


def test_frames_share_no_noise():
    found = PatchNoise.of(smooth(), (3, 4, 4)).covariance.reshape(3, 16, 3, 16)
    torch.testing.assert_close(found[0, :, 0], found[2, :, 2])
    assert float(found[0, :, 1].abs().max()) < 1e-5


@pytest.mark.parametrize(("width", "gain"), [(0.6, 0.92), (1.1, 0.97)])
@pytest.mark.parametrize("seed", range(3))
def test_noise_that_neighbours_share_is_told_from_content_by_how_they_do(width, gain, seed):
    clean = waves(64, 64)
    seen = clean + 0.5 * Texture(smooth(width=width).numpy()).draw(clean.shape, rng(seed))
    white = patches.low_rank(seen, sd(0.5))
    first = patches.low_rank(seen, sd(0.5), shared=smooth(width=width))
    assert error(first, clean) < gain * error(white, clean)
    alone = patches.refined(seen, white, sd(0.5))
    together = patches.refined(seen, first, sd(0.5), shared=smooth(width=width))
    for one, other in zip(alone, together, strict=True):
        assert error(other, clean) < gain * error(one, clean)


@pytest.mark.parametrize("seed", range(3))
def test_of_many_frames_what_stays_is_not_parted_by_each_groups_noise(seed):
    rng = np.random.default_rng(seed)
    still = gaussian_filter(rng.normal(size=(64, 64)), 1.5)
    still /= still.std()
    frames = (still + rng.normal(0, 1, (16, 64, 64))).astype(np.float32)
    found = patches.low_rank(torch.from_numpy(frames), torch.tensor(1.0)).numpy()
    # The mean of the frames misses by 0.0625.
    assert np.mean((found - still) ** 2) < 0.04
