"""The blend with classical results: weights from the observation alone that are near those the truth would give."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import noisy, problem, rng, scene, tiny
from scipy.ndimage import gaussian_filter

from dip_sci import combination, interruption, patches, run, ways
from dip_sci.baseline import classical_methods
from dip_sci.combination import NETWORK, Combination, combine
from dip_sci.image import Image
from dip_sci.operators import Identity
from dip_sci.problem import Problem
from dip_sci.restore import denoise, iter_restore
from dip_sci.stopping import StopReason
from dip_sci.texture import Texture

FILTERS = [*patches.refinements(2), *(name + ways.AGAIN for name in patches.refinements(2, again=True))]

BLEND = {"output": {"classical": "blend", "dtype": "float32"}}


def blend(observed, estimate, again):
    *shares, found = combine(observed, estimate, again, rng(), correlated=False)
    assert isinstance(found, Combination)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == pytest.approx(1)
    return found


def smoother(amount):
    """A stand-in for a fitted network: a linear filter, whose risk on a copy is what it is on the original."""

    def again(observed):
        y = observed.observation
        mean = torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
        return ((1 - amount) * y + amount * mean)[None]

    return again


def error(image, truth):
    return float((image - truth).square().mean())


def waves(size, sigma, seed=0):
    observed = problem(size, size, sigma=sigma, seed=seed)
    clean = scene(size, size, seed=seed)
    clean = (clean - clean.mean()) / clean.std()
    return observed, torch.from_numpy(clean.astype(np.float32))[None, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_the_blend_is_about_as_good_as_with_weights_from_the_truth(amount, seed):
    observed, truth = waves(128, 0.5, seed)
    again = smoother(amount)
    found = blend(observed, again(observed), again)
    results = [again(observed)[0]]
    results += [m.apply(observed.observation[0], torch.tensor(0.5))[None] for m in classical_methods(correlated=False)]
    # The best blend of any two, weighed with the truth.
    oracle = min(error(w * a + (1 - w) * b, truth) for a in results for b in results for w in np.linspace(0, 1, 11))
    assert error(found.estimate.mean(0), truth) < 1.1 * oracle
    assert sum(found.weights.values()) == pytest.approx(1)
    assert min(found.weights.values()) >= 0


@pytest.mark.parametrize("seed", range(3))
def test_noise_shared_otherwise_than_found_is_no_reason_to_go_by_small_differences(seed, monkeypatch):
    """What gives back more of the real noise seems better than it is: a blend of several is better than what seems to be the best."""
    observed, truth = waves(128, 0.5, seed)
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal((128, 128)), 1)
    shared = torch.from_numpy((0.2 * smooth / smooth.std()).astype(np.float32))
    observed = replace(observed, observation=truth + 0.9 * (observed.observation - truth) + shared)

    def found():
        *_, found = combine(observed, smoother(1.0)(observed), smoother(1.0), rng(), correlated=True)
        assert isinstance(found, Combination)
        assert sum(found.weights.values()) == pytest.approx(1)
        return found

    several = found()
    monkeypatch.setattr(combination, "UNSURE", 0)
    best = found()
    assert error(several.estimate.mean(0), truth) < 0.97 * error(best.estimate.mean(0), truth)
    assert max(several.weights.values()) < 0.5


@pytest.mark.parametrize("useless", [False, True])
def test_under_shared_noise_the_best_classical_method_alone_stands_beside_the_filters(useless, monkeypatch):
    """Where they are of no use, it has their place."""
    if useless:
        monkeypatch.setattr(patches, "refined", lambda image, *_, only, **__: [image for _ in only])
    observed, _ = waves(128, 0.5)
    *_, found = combine(observed, smoother(1.0)(observed), smoother(1.0), rng(), correlated=True)
    assert isinstance(found, Combination)
    best = min((method.name for method in classical_methods(correlated=True)), key=found.risks.__getitem__)
    assert {name for name, share in found.weights.items() if share > 0} <= {best, *patches.refinements(2)}
    assert (found.weights[best] > 0.9) == useless


def test_a_network_that_knows_the_noise_by_heart_has_no_weight():
    """Whatever it is shown, it gives back what it was fitted to: its risk seems to be less than nothing."""
    observed, truth = waves(128, 0.5)
    learned = 0.5 * (observed.observation + truth)[None]
    found = blend(observed, learned, lambda _: learned)
    assert found.risks[NETWORK] < combination.IMPOSSIBLE
    assert found.weights[NETWORK] == 0
    assert sum(found.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_noise_told_too_strong_costs_a_good_network_nothing(seed):
    """Then all seem better than perfect, those that learn nothing, too."""
    observed, truth = waves(128, 0.5, seed)
    told = replace(observed, sigma=1.08 * observed.sigma)
    good = (truth + 0.12 * torch.randn(truth.shape, generator=rng(99)))[None]
    found = blend(told, good, lambda _: good)
    assert found.risks[NETWORK] < combination.IMPOSSIBLE
    assert min(found.risks[method.name] for method in classical_methods(correlated=False)) < 0
    assert found.weights[NETWORK] + sum(found.weights[name] for name in FILTERS) > 0.95
    assert error(found.estimate.mean(0), truth) < error(good[0], truth)


def test_a_network_taught_with_drawn_noise_only_leads_the_filters_that_are_judged_by_it():
    """It seems to be better than they are, as it gives back a little of the noise it has seen."""
    observed, truth = waves(128, 0.5)
    made = (truth + 0.015 * (observed.observation - truth))[None]
    *_, found = combine(observed, made, lambda _: made, rng(), correlated=True)
    assert isinstance(found, Combination)
    filters = patches.refinements(2)
    assert found.risks[NETWORK] < min(found.risks[name] for name in filters)
    assert found.weights[NETWORK] == 0
    assert sum(found.weights[name] for name in filters) == pytest.approx(1)
    (pilot,) = found.piloting
    assert pilot[NETWORK] > 0.9


def test_the_risk_is_the_mean_square_error():
    observed, truth = waves(192, 0.6)
    again = smoother(1.0)
    found = blend(observed, again(observed), again)
    # At the slightly stronger noise of the look; the filter passes on 1/9 of the added variance, a quarter.
    assert found.risks[NETWORK] == pytest.approx(error(again(observed)[0], truth) / 0.36 + 0.25 / 9, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_what_filters_have_made_leads_them_once_more(seed):
    """The first pilot holds some of the noise: the second result is better."""
    truth = squares(128, seed)
    one = torch.ones_like(truth)
    y = truth + 0.5 * torch.randn(truth.shape, generator=rng(seed))
    observed, again = Problem(y, one, one, 0.5 * one, Identity((1.0, 1.0))), smoother(1.0)
    estimate = again(observed)
    found = blend(observed, estimate, again)
    assert sum(share for name, share in found.weights.items() if name.endswith(ways.AGAIN)) > 0.8
    first, second = found.piloting
    once = combination.blend(observed, estimate, second, [first])
    assert error(found.estimate, truth) < 0.98 * error(once, truth)


def squares(size, seed):
    """Squares of many sizes and values, one over the other, of the standard deviation 1."""
    g = np.random.default_rng(seed)
    at, clean = np.stack(np.mgrid[:size, :size]), np.zeros((size, size))
    for _ in range(60):
        middle = g.uniform(0, size, (2, 1, 1))
        clean[np.abs(at - middle).max(axis=0) < g.uniform(4, 16)] = g.normal()
    clean = (clean - clean.mean()) / clean.std()
    return torch.from_numpy(clean.astype(np.float32))[None, None]


def test_filters_are_not_led_once_more_for_nothing(monkeypatch):
    observed, _ = waves(64, 0.5)
    asked = []

    def idle(image, pilot, sigma, *, only, again, **_):
        asked.append(again)
        return [pilot for _ in only]

    monkeypatch.setattr(patches, "refined", idle)
    again = smoother(1.0)
    found = blend(observed, again(observed), again)
    assert True in asked
    assert not any(share > 0 for name, share in found.weights.items() if name.endswith(ways.AGAIN))
    assert len(found.piloting) == 1


def test_shared_noise_is_not_filtered_once_more():
    observed, _ = waves(64, 0.5)
    again = smoother(1.0)
    *_, found = combine(observed, again(observed), again, rng(), correlated=True)
    assert isinstance(found, Combination)
    assert not any(name.endswith(ways.AGAIN) for name in found.risks)


def test_a_network_that_knows_the_truth_gets_all_the_weight():
    observed, truth = waves(128, 0.5)
    found = blend(observed, truth[None], lambda _: truth[None])
    # The filters whose pilot is the truth are almost as good.
    assert found.weights[NETWORK] + sum(found.weights[name] for name in FILTERS) > 0.95
    assert error(found.estimate.mean(0), truth) < 0.02 * 0.25


def test_a_ruined_network_gets_none():
    observed, _ = waves(128, 0.3)
    found = blend(observed, torch.full((1, 1, 1, 128, 128), 9.0), lambda p: torch.full((1, *p.observation.shape), 9.0))
    assert found.weights[NETWORK] == 0
    assert float(found.estimate.max()) < 5


def test_unmeasured_voxels_do_not_spread():
    observed, _ = waves(64, 0.3)
    holes = observed.measured.clone()
    holes[..., 20:24, 20:24] = 0
    broken = observed.__class__(
        observed.observation * holes - 50 * (1 - holes), holes, holes, observed.sigma, observed.operator
    )
    found = blend(broken, broken.filled()[None], lambda p: p.filled()[None])
    assert float(found.baseline.min()) > -5


def test_others_see_in_holes_what_the_network_makes_of_them():
    observed, truth = waves(64, 0.3)
    known = observed.measured.clone()
    known[..., 20:32, 20:32] = 0
    holed = observed.__class__(observed.observation * known, known, known, observed.sigma, observed.operator)
    found = blend(holed, truth[None], lambda p: truth[None])
    there = known == 0
    assert error(found.baseline[there], truth[there]) < 0.1 * error(holed.filled()[there], truth[there])


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (48, 48)), ("ZYX", (10, 24, 24)), ("CYX", (2, 32, 32)), ("YXS", (32, 32, 3))]
)
def test_a_run_reports_the_classical_result_and_the_weights(axes, shape):
    result = denoise(noisy(*shape, axes=axes), tiny(**BLEND, fit={"steps": 60}, noise={"sigma": 8}))
    assert result.baseline is not None
    assert result.baseline.array.shape == shape
    assert result.report.weights
    assert sum(result.report.weights.values()) == pytest.approx(1)
    assert "%" in result.report.reasons["output.classical"]
    clean = scene(*shape)
    before, after = (np.mean((a - clean) ** 2) for a in (noisy(*shape, axes=axes).array, result.image.array))
    assert after < 0.7 * before


def test_beside_leaves_the_result_alone():
    image = noisy(48, 48)
    alone, beside = (denoise(image, tiny(output={"classical": c})) for c in ("none", "beside"))
    np.testing.assert_array_equal(alone.image.array, beside.image.array)
    assert alone.baseline is None
    assert beside.baseline is not None


def test_full_supervision_has_a_baseline_but_no_blend():
    result = denoise(noisy(32, 32), tiny(**BLEND, supervision={"kind": "full"}))
    assert result.baseline is not None
    assert result.report.weights == {NETWORK: 1.0}


def test_outside_of_a_region_the_baseline_is_the_image_too():
    image = noisy(40, 40)
    region = np.zeros((40, 40), bool)
    region[8:30, 8:30] = True
    result = denoise(image, tiny(**BLEND), region=region)
    assert result.baseline is not None
    for made in (result.image, result.baseline):
        np.testing.assert_array_equal(made.array[~region], image.array[~region])
        assert not np.array_equal(made.array[region], image.array[region])


def test_progress_goes_on_while_it_weighs():
    run, seen = iter_restore(noisy(48, 48), tiny(**BLEND)), []
    seen.extend(p.eta for p in run)
    assert len(seen) > len(list(iter_restore(noisy(48, 48), tiny())))
    assert seen[-1] == pytest.approx(0, abs=0.2)


def test_an_interrupted_run_does_not_weigh():
    recipe = tiny(output={"classical": "blend"}, stop={"max_seconds": 1e-3})
    assert denoise(noisy(48, 48), recipe).baseline is None


def test_integers_and_counts_keep_their_type():
    counts = np.random.default_rng(0).poisson(scene(48, 48)).astype(np.uint16)
    result = denoise(Image(counts, "YX"), tiny(output={"classical": "blend"}))
    assert result.baseline is not None
    assert result.image.dtype == result.baseline.dtype == np.uint16


def test_noise_that_is_told_too_strong_is_not_believed():
    image = noisy(64, 64, sigma=8)
    recipe = {"output": {"classical": "blend"}, "fit": {"steps": 120}}
    right, wrong = (denoise(image, tiny(**recipe, noise={"sigma": s})).report for s in (8, 30))
    assert wrong.weights == {NETWORK: 1.0}
    assert "not as strong" in wrong.reasons["output.classical"]
    assert "not as strong" not in right.reasons["output.classical"]


@pytest.mark.parametrize("seed", range(2))
def test_dark_voxels_that_scatter_less_than_they_are_said_to_are_no_contradiction(seed):
    """No transform makes few photons' noise as strong as that of many: what is known of it is what misses are held against."""
    light = 0.2 + 6 * np.exp(-((np.sin(np.arange(96) / 9)[:, None] + np.cos(np.arange(96) / 9)) ** 2) * 6)
    values = 3.3 * np.random.default_rng(seed).poisson(light) + np.random.default_rng(seed).normal(0, 0.4, light.shape)
    noise = {"gain": 3.3, "offset": 0.0, "read_noise": 0.4}
    recipe = tiny(output={"classical": "blend"}, fit={"steps": 150}, noise=noise, seed=seed)
    report = denoise(Image(values.astype(np.float32), "YX"), recipe).report
    assert "not as strong" not in report.reasons["output.classical"]


def test_noise_that_is_cut_off_in_a_part_is_believed_elsewhere():
    """Where the image is saturated, predictions hardly miss."""
    image = noisy(96, 96, sigma=8)
    values = image.array.copy()
    values[:, 48:] += 300
    report = denoise(
        Image(np.minimum(values, 255), "YX"), tiny(output={"classical": "blend"}, fit={"steps": 120})
    ).report
    assert "saturated" in report.noise[-1]
    assert "not as strong" not in report.reasons["output.classical"]


def test_detail_that_neighbours_do_not_foretell_is_kept_where_noise_is_weak():
    """A network that never sees the voxel it restores cannot know it: its result alone would be worse than the noisy image."""
    fine = 100 + 60 * np.sign(np.random.default_rng(5).normal(size=(16, 16))).repeat(6, axis=0).repeat(6, axis=1)
    image = Image(fine + np.random.default_rng(6).normal(0, 5, fine.shape).astype(np.float32), "YX")
    recipe = {"output": {"classical": "blend", "dtype": "float32"}, "fit": {"steps": 120}, "noise": {"sigma": 5}}
    result = denoise(image, tiny(**recipe))
    assert result.baseline is not None
    ours, classical, before = (np.mean((a.array - fine) ** 2) for a in (result.image, result.baseline, image))
    assert ours < 1.05 * classical < before
    assert any("neighbours foretell" in note for note in result.report.notes)


@pytest.mark.parametrize("correlated", [False, True])
def test_known_weights_give_the_same_blend(correlated):
    g = torch.Generator().manual_seed(0)
    at = torch.arange(64.0)
    truth = (torch.sin(at / 6)[:, None] + torch.cos(at / 9))[None, None]

    def guess(like):
        return truth + 0.12 * torch.randn(like.shape, generator=g)

    y, one = truth + 0.3 * torch.randn(truth.shape, generator=g), torch.ones_like(truth)
    # Estimates are judged by a little correlation whether methods are chosen by it or not.
    texture = Texture(np.array([[0, 0.05, 0], [0.05, 1, 0.05], [0, 0.05, 0]], np.float32))
    observed = Problem(y, one, one, torch.full_like(y, 0.3), Identity((1.0, 1.0)), texture)
    estimate = guess(y)[None]
    *_, found = combine(observed, estimate, lambda other: guess(other.observation)[None], g, correlated=correlated)
    assert found.piloting
    for shares in found.piloting:
        assert sum(shares.values()) == pytest.approx(1)
    torch.testing.assert_close(combination.blend(observed, estimate, found.weights, found.piloting), found.estimate)


@pytest.mark.parametrize("correlated", [False, True])
def test_methods_are_known_by_name_whatever_noise_the_estimates_are_judged_by(correlated):
    y = torch.randn((1, 1, 32, 32), generator=rng())
    texture = Texture(np.array([[0, 0.05, 0], [0.05, 1, 0.05], [0, 0.05, 0]], np.float32))
    observed = Problem(y, torch.ones_like(y), torch.ones_like(y), torch.ones_like(y), Identity((1.0, 1.0)), texture)
    for method in classical_methods(correlated=correlated):
        alone = combination.blend(observed, torch.zeros_like(y)[None], {NETWORK: 0.0, method.name: 1.0}, [])
        torch.testing.assert_close(alone[0, 0], method.apply(y[0], torch.ones_like(y[0])))


@pytest.mark.parametrize("why", ["cancelled", "late"])
def test_filters_end_in_the_midst_of_an_image_when_nobody_waits_for_them(why, monkeypatch):
    asked, after, distances = threading.Event(), [], patches._distances

    def watched(*given):
        if asked.is_set():
            after.append(1)
        asked.set()
        return distances(*given)

    monkeypatch.setattr(patches, "BAND", 2048)
    monkeypatch.setattr(patches, "_distances", watched)
    if why == "late":
        # Time passes when the filters begin.
        monkeypatch.setattr(run.time, "monotonic", lambda now=run.time.monotonic: now() + 1e4 * asked.is_set())
    recipe = tiny(output={"classical": "blend"}, stop={"max_seconds": 1e3})
    image = noisy(96, 96)
    result = denoise(image, recipe, cancel=asked if why == "cancelled" else None)
    # What is left of one part of the image: its other lines of shifts.
    assert 0 < len(after) < 2 * patches.REACH[2] + 1
    assert (result.report.reason is StopReason.CANCELLED) == (why == "cancelled")
    assert not result.report.risks
    assert not np.array_equal(result.image.array, image.array)


def test_nothing_is_interrupted_that_nobody_asked_to():
    interruption.check()
    with interruption.until(lambda: True), pytest.raises(interruption.Interrupted):
        interruption.check()
    interruption.check()
