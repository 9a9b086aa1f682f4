"""Holes that like patches complete: better where an image repeats itself, and never believed without evidence."""

import numpy as np
import pytest
import torch

from dip_sci import completion, patches
from dip_sci.combination import NETWORK, Combination
from dip_sci.functions import inpaint
from dip_sci.image import Image
from dip_sci.operators import Identity
from dip_sci.problem import Problem
from dip_sci.recipe import Recipe


def waves(*shape):
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    return torch.sin(sum(p * w for p, w in zip(places, (0.9, 0.5, 0.3), strict=False)))[None]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def holes(share, *shape):
    return torch.rand(shape, generator=rng(1)) < share


def error(image, truth, where):
    return float((image - truth)[:, where].square().mean())


def observed(truth, missing, sigma=1e-3):
    known = (~missing).float()[None, None]
    sd = torch.full((1, 1, *[1] * missing.ndim), sigma)
    return Problem(truth[None] * known, known, known, sd, Identity((1.0,) * missing.ndim, base=0))


def last(run):
    *_, found = run
    assert isinstance(found, Combination)
    return found


@pytest.mark.parametrize("shape", [(64, 48), (12, 24, 20)])
def test_what_repeats_itself_is_completed(shape):
    truth, missing = waves(*shape), holes(0.4, *shape)
    pilot = truth + 0.3 * torch.randn(truth.shape, generator=rng()) * missing
    found = patches.complete(truth * ~missing, ~missing, pilot, torch.full((1,), 0.02), missing)
    assert error(found, truth, missing) < 0.2 * error(pilot, truth, missing)
    assert torch.equal(found[:, ~missing], pilot[:, ~missing])


def test_what_no_patch_reaches_stays_the_pilots():
    truth = waves(64, 64)
    missing = torch.zeros(64, 64, dtype=torch.bool)
    missing[16:48, 16:48] = True
    pilot = torch.randn(truth.shape, generator=rng())
    found = patches.complete(truth * ~missing, ~missing, pilot, torch.full((1,), 0.02), missing)
    assert torch.equal(found[:, 24:40, 24:40], pilot[:, 24:40, 24:40])


@pytest.mark.parametrize("shape", [(5, 5), (7, 30), (4, 4, 4), (2, 9, 9)])
def test_images_smaller_than_a_search_are_completed_too(shape):
    truth, missing = waves(*shape), holes(0.3, *shape)
    found = patches.complete(truth * ~missing, ~missing, truth, torch.full((1,), 0.02), missing)
    assert found.shape == truth.shape
    assert found.isfinite().all()


@pytest.mark.parametrize("known_noise", [False, True])
def test_completion_is_weighed_by_what_it_foretells(known_noise):
    truth, missing = waves(96, 96), holes(0.5, 96, 96)
    problem = observed(truth, missing, 0.02)
    kept = completion.keep(problem, rng())
    poor = (truth + 0.3 * torch.randn(truth.shape, generator=rng(2)))[None, None]
    found = last(completion.complete(problem, poor, kept, known_noise=known_noise))
    assert found.weights[completion.COMPLETED] > 0.5
    assert error(found.estimate[0, 0], truth, missing) < 0.2 * error(poor[0, 0], truth, missing)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_a_network_that_knows_better_is_believed():
    truth = torch.randn((1, 96, 96), generator=rng(3))
    missing = holes(0.5, 96, 96)
    problem = observed(truth, missing)
    found = last(completion.complete(problem, truth[None, None], completion.keep(problem, rng()), known_noise=False))
    assert found.weights[NETWORK] > 0.95


def test_few_known_voxels_are_kept_for_judging():
    for shape, least in (((200, 200), 256), ((20, 20), 16)):
        problem = observed(waves(*shape), holes(0.5, *shape))
        kept = completion.keep(problem, rng())
        assert not (kept * (problem.weights == 0)).any()
        assert least <= int(kept.sum()) < 0.16 * int(problem.weights.sum())


def test_a_deep_hole_is_judged_by_copies_of_it():
    missing = torch.zeros(96, 96, dtype=torch.bool)
    missing[20:46, 30:56] = True
    problem = observed(waves(96, 96), missing)
    kept = completion.keep(problem, rng(), deep=True)
    assert not (kept * (problem.weights == 0)).any()
    assert 0.8 * 26 * 26 <= int(kept.sum()) <= 0.1 * int(problem.weights.sum())
    inside = torch.nn.functional.avg_pool2d(kept, 9, 1)
    assert inside.max() == 1, "no place is as far from what is known as in the hole"


def test_a_hole_without_room_for_a_copy_is_left_to_the_network():
    missing = torch.zeros(64, 64, dtype=torch.bool)
    missing[10:50, 10:50] = True
    assert completion.keep(observed(waves(64, 64), missing), rng(), deep=True) is None


def test_a_deep_hole_is_not_filled_by_what_is_only_right_near_its_rim():
    """Beside single voxels biharmonic interpolation of a smooth image is perfect; in the midst of a hole it is not."""
    truth = waves(96, 96)
    missing = torch.zeros(96, 96, dtype=torch.bool)
    missing[20:46, 30:56] = True
    problem = observed(truth, missing)
    network = (truth + 0.1 * torch.randn(truth.shape, generator=rng(5)))[None, None]
    kept = completion.keep(problem, rng(), deep=True)
    found = last(completion.complete(problem, network, kept, known_noise=False))
    assert found.weights[completion.BIHARMONIC] < 0.05
    assert error(found.estimate[0, 0], truth, missing) < 2 * 0.1**2


def test_a_handful_of_voxels_is_no_evidence():
    missing = holes(0.5, 8, 8)
    assert completion.keep(observed(waves(8, 8), missing), rng()) is None
    big = holes(0.5, 64, 64)
    kept = torch.zeros(1, 1, 64, 64)
    kept[..., :2, :5] = 1
    problem = observed(waves(64, 64), big)
    estimate = torch.randn((1, 1, 1, 64, 64), generator=rng())
    (found,) = completion.complete(problem, estimate, kept * problem.weights, known_noise=False)
    assert found.weights == {NETWORK: 1.0}


def test_without_voxels_to_judge_by_the_network_stands_alone():
    truth, missing = waves(32, 32), holes(0.5, 32, 32)
    estimate = torch.randn((1, 1, 1, 32, 32), generator=rng())
    (found,) = completion.complete(observed(truth, missing), estimate, None, known_noise=False)
    assert torch.equal(found.estimate, estimate)
    assert error(found.baseline[0], truth, missing) < error(estimate[0, 0], truth, missing)


def test_noise_that_nobody_named_is_not_copied_into_the_holes():
    truth = 100 + 40 * waves(80, 80)[0].numpy()
    noisy = truth + np.random.default_rng(0).normal(0, 20, truth.shape)
    missing = holes(0.5, 80, 80).numpy()
    recipe = Recipe.parse({"fit": {"steps": 20}, "generator": {"channels": [8, 8]}})
    result = inpaint(Image(np.where(missing, 0, noisy).astype(np.float32), "YX"), missing, recipe)
    filled = result.image.array[missing]
    assert np.std(filled - truth[missing]) < 15
    assert result.report.weights
    assert result.baseline is not None
    assert np.array_equal(result.image.array[~missing], noisy.astype(np.float32)[~missing])


@pytest.mark.parametrize("good", [True, False])
def test_a_blend_is_refilled_where_like_patches_know_better(good):
    truth = waves(64, 64)
    missing = holes(0.3, 64, 64)
    noisy = truth + 0.2 * torch.randn(truth.shape, generator=rng(2))
    problem = observed(noisy, missing, sigma=0.2)
    kept = completion.keep(problem, rng())
    assert kept is not None
    fitted = truth if good else truth + 0.5 * torch.randn(truth.shape, generator=rng(3))
    alone = Combination(fitted[None, None], fitted[None], {NETWORK: 1.0}, {})
    found = last(completion.refill(problem, alone, fitted[None, None], kept))
    result = found.estimate[0, 0]
    torch.testing.assert_close(result[:, ~missing], fitted[:, ~missing])
    if good:
        assert error(result, truth, missing) < 0.2**2 / 10
    else:
        assert found.refilled > 0.8
        assert error(result, truth, missing) < 0.3 * error(fitted, truth, missing)
        assert "completion" in found.sentence


def test_nothing_to_judge_by_leaves_a_blend_as_it_is():
    truth, missing = waves(64, 64), holes(0.3, 64, 64)
    problem, kept = observed(truth, missing, sigma=0.2), torch.zeros(1, 1, 64, 64)
    alone = Combination(truth[None, None], truth[None], {NETWORK: 1.0}, {})
    assert last(completion.refill(problem, alone, truth[None, None], kept)) is alone
