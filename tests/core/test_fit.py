"""The loop: the same seed, the same result; it notices when it goes wrong, and stops when told."""

import itertools
import math
import random
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scenes import problem, rng
from torch import nn

from dip_sci import fit, generators, held_out
from dip_sci.averaging import OutputAverage, WeightAverage
from dip_sci.ensemble import Ensemble
from dip_sci.errors import FitError
from dip_sci.fit import Settings, _Health, iter_fit
from dip_sci.recipe import InputOptions, Recipe
from dip_sci.stopping import Discrepancy, Fixed, HeldOut, MovingVariance, StopReason, Sure, Verdict
from dip_sci.supervision import Full
from dip_sci.supervision_recorrupted import Hide

SETTINGS = Settings(
    steps=6, rate=0.005, schedule="constant", averaging=0.9, seeds=1, seed=0, precision="float32", max_seconds=None
)
SHAPE = (24, 20)


def teach(kind, p, seeds=1, held_out=None):
    if kind == "full":
        return Full(p, InputOptions(channels=4), seeds, held_out, rng())
    return Hide(p, patch=SHAPE, batch=1, seeds=seeds, held_out=held_out, passes=2, hidden=(0.2, 0.4))


def generator(kind):
    kind = "hourglass" if kind == "full" else "unet"
    dropout = 0.3 if kind == "unet" else 0.0
    return Recipe.parse({"generator": {"kind": kind, "channels": (8, 8), "dropout": dropout}}).generator


def maker(teacher, kind):
    options = generator(kind)
    return lambda: generators.build(options, inside=teacher.inside, outside=1, shape=SHAPE, spacing=(1.0, 1.0))


def start(kind="hide", *, rule=None, cancel=None, p=None, teacher=None, **changes):
    settings = replace(SETTINGS, **changes)
    p = p or problem(*SHAPE)
    teacher = teacher or teach(kind, p, settings.seeds)
    return iter_fit(maker(teacher, kind), p, teacher, rule or Fixed(), settings, cancel)


def finish(run, seen=None, watch=None):
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        if seen is not None:
            seen.append(progress)
        if watch is not None:
            watch(progress)


KINDS = ["full", "hide"]


@pytest.mark.parametrize("seed", range(4))
def test_predictions_miss_by_the_noise_of_whichever_planes_they_were_last_drawn_from(seed):
    sd = torch.tensor([0.05, 0.1, 0.3, 1.0])[:, None, None, None]
    p = replace(problem(*SHAPE, images=4), sigma=sd)
    p = replace(p, observation=sd * torch.randn(p.observation.shape, generator=rng(seed)))
    done = finish(start(p=p, seed=seed, steps=12))
    assert done.miss is not None
    # The neighbours that predict a voxel are noisy as well.
    assert 1.0 < done.miss < 1.8


def test_predictions_of_what_a_network_has_seen_miss_by_nothing_known():
    assert finish(start("full")).miss is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_bits(kind, precision):
    a, b, other = (finish(start(kind, seed=s, precision=precision)) for s in (1, 1, 2))
    assert torch.equal(a.estimate, b.estimate)
    assert a.data_terms == b.data_terms
    assert not torch.equal(a.estimate, other.estimate)
    assert a.estimate.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_the_random_states_of_others_alone(kind):
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = finish(start(kind))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
    # And the other way round: the state it finds does not change the run.
    torch.manual_seed(6)
    random.seed(6)
    assert torch.equal(finish(start(kind)).estimate, first.estimate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_lowers_its_data_term(kind):
    done = finish(start(kind, steps=60, rate=0.01))
    assert np.mean(done.data_terms[-5:]) < 0.9 * np.mean(done.data_terms[:5])
    assert len(done.data_terms) == done.steps == 60
    assert done.best_step == 60
    assert (done.reason, done.restarts) == (StopReason.STEPS, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_reported(kind):
    seen = []
    done = finish(start(kind), seen)
    # After the last step, each pass that the estimate averages is reported but the last.
    steps, passes = seen[:6], seen[6:]
    assert [p.step for p in steps] == [1, 2, 3, 4, 5, 6]
    assert {p.steps for p in seen} == {6}
    assert [p.data_term for p in steps] == done.data_terms
    assert [p.best_step for p in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].eta == 0
    assert [p.step for p in passes] == ([] if kind == "full" else [6])
    assert all(p.eta > 0 for p in passes)
    assert all(p.memory > 0 for p in seen)
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_preview_is_the_current_estimate_and_changes_nothing(kind):
    done = finish(start(kind))
    previews = [p.preview().clone() for p in start(kind)]
    assert all(p.shape == (1, 1, 1, *SHAPE) for p in previews)
    assert not torch.equal(previews[0], previews[-1])
    if kind == "full":
        assert torch.equal(previews[-1], done.estimate)
    assert torch.equal(finish(start(kind), watch=lambda p: p.preview()).estimate, done.estimate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_preview_stays_as_it_was_made(kind):
    run = start(kind)
    first = next(run).preview()
    kept = first.clone()
    finish(run)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_side_by_side_do_not_touch_each_other(kind):
    p = problem(*SHAPE)
    teacher = Full(p, InputOptions(channels=4, jitter=0), 3, None, rng()) if kind == "full" else teach(kind, p, 3)
    many = finish(start(kind, p=p, teacher=teacher, seeds=3)).estimate
    assert many.shape == (3, 1, 1, *SHAPE)
    assert not torch.equal(many[0], many[1])
    alone = Full(p, InputOptions(channels=4, jitter=0), 1, None, rng()) if kind == "full" else teach(kind, p, 1)
    single = finish(start(kind, p=p, teacher=alone, seeds=1)).estimate
    assert torch.allclose(many[0], single[0], atol=1e-5)


def test_each_network_is_the_one_of_its_own_seed():
    p = problem(*SHAPE)
    three = Full(p, InputOptions(kind="meshgrid", jitter=0), 3, None, rng())
    one = Full(p, InputOptions(kind="meshgrid", jitter=0), 1, None, rng())
    many = finish(start("full", p=p, teacher=three, seeds=3)).estimate
    for k in range(3):
        single = finish(start("full", p=p, teacher=one, seed=7919 * k)).estimate
        assert torch.allclose(many[k], single[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [1, 3])
def test_a_cancelled_fit_returns_what_it_has(kind, after):
    cancel = threading.Event()
    run = start(kind, cancel=cancel, steps=50)
    for _ in range(after):
        next(run)
    cancel.set()
    done = finish(run)
    assert done.reason is StopReason.CANCELLED
    assert done.steps == done.best_step == after
    assert torch.isfinite(done.estimate).all()
    if kind == "full":
        assert torch.equal(done.estimate, finish(start(kind, steps=after)).estimate)


def test_a_cancelled_fit_is_content_with_one_pass():
    p, cancel, made = problem(*SHAPE), threading.Event(), []
    teacher = teach("hide", p)
    passes = teacher.passes

    def counted(network, g, before=None):
        for estimate in passes(network, g, before):
            made.append(estimate)
            yield estimate

    teacher.passes = counted
    finish(start(p=p, teacher=teacher))
    assert len(made) == 2
    made.clear()
    cancel.set()
    finish(start(p=p, teacher=teacher, cancel=cancel))
    assert len(made) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_time_ends_a_fit(kind):
    done = finish(start(kind, steps=100_000, max_seconds=0.05))
    assert done.reason is StopReason.TIME
    assert 1 <= done.steps < 100_000
    assert torch.isfinite(done.estimate).all()


class At(Fixed):
    """A rule that calls one step the best, and stops at another."""

    def __init__(self, best, stop):
        self.best, self.stop = best, stop

    def observe(self, step, view):
        return Verdict(float(step), step == self.best, StopReason.VARIANCE if step == self.stop else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_rule_gets_the_state_that_it_called_best(kind):
    done = finish(start(kind, rule=At(3, 6), steps=20))
    assert (done.reason, done.steps, done.best_step) == (StopReason.VARIANCE, 6, 3)
    assert done.stop_curve == [(k, float(k)) for k in range(1, 7)]
    assert torch.equal(done.estimate, finish(start(kind, steps=3)).estimate)
    assert not torch.equal(done.estimate, finish(start(kind, steps=6)).estimate)


def test_a_variance_rule_sees_the_same_voxels_at_each_step(monkeypatch):
    monkeypatch.setattr(fit, "WATCHED", 50)
    p = problem(*SHAPE)
    p.weights[..., :10] = 0
    sizes, views = set(), []

    class Spy(Fixed):
        def observe(self, step, view):
            sizes.add(view.iterate.shape)
            views.append(view.iterate.clone())
            return super().observe(step, view)

    finish(start("full", p=p, rule=Spy()))
    assert sizes == {(50,)}
    assert not torch.equal(views[0], views[-1])


def test_recorrupted_supervision_shows_no_iterate():
    class Spy(Fixed):
        def observe(self, step, view):
            assert view.iterate is None
            return super().observe(step, view)

    finish(start("hide", rule=Spy()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_rule_asks_for_a_risk(kind):
    p = problem(*SHAPE)
    teacher = teach(kind, p, held_out=held_out.voxels(p, 0.1, rng()))
    done = finish(start(kind, p=p, teacher=teacher, rule=HeldOut(10, 0), steps=200, rate=1e-9))
    assert [step for step, _ in done.stop_curve] == list(range(10, 10 * len(done.stop_curve) + 1, 10))
    assert all(0.01 < value < 10 for _, value in done.stop_curve)


def test_a_moving_variance_stop_ends_a_real_fit_early():
    done = finish(start("full", rule=MovingVariance(0.1, 20, 5), steps=400, rate=0.05))
    assert done.reason is StopReason.VARIANCE
    assert done.best_step == done.steps - 20


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_fit_ends_where_the_residual_of_what_it_returns_is_the_noise(seeds):
    p = problem(*SHAPE)
    done = finish(start("full", p=p, rule=Discrepancy(1.0, 5), steps=600, rate=0.02, seeds=seeds))
    assert done.reason is StopReason.DISCREPANCY
    assert done.best_step == done.steps == len(done.stop_curve)
    residual = float(((done.estimate.mean(0) - p.observation) / p.sigma).square().mean())
    assert residual == pytest.approx(done.stop_curve[-1][1], rel=1e-4)
    assert 0.9 < residual <= 1


def test_the_residual_counts_voxels_by_their_weights_and_noise_by_its_channel():
    p = problem(*SHAPE, channels=2)
    p.weights[..., :10] = 0
    p = replace(p, sigma=torch.tensor([0.1, 0.4]).view(1, 2, 1, 1))
    teacher = teach("full", p)
    network = partial(generators.build, generator("full"), inside=4, outside=2, shape=SHAPE, spacing=(1.0, 1.0))
    done = finish(iter_fit(network, p, teacher, Discrepancy(1e-9, 0), SETTINGS))
    residual = ((done.estimate[0] - p.observation) / p.sigma)[..., 10:].square().mean()
    assert done.stop_curve[-1][1] == pytest.approx(float(residual), rel=1e-4)


def test_a_split_fit_ends_when_the_other_half_is_no_longer_predicted_better():
    p = problem(*SHAPE, sigma=0.7)
    teacher = Full(p, InputOptions(channels=4), 2, None, rng(), split=0.5)
    rule = HeldOut(60, 20, StopReason.SPLIT)
    done = finish(start("full", p=p, teacher=teacher, rule=rule, steps=1500, rate=0.02, seeds=2))
    assert done.reason is StopReason.SPLIT
    assert done.best_step == done.steps - 60
    assert teacher.risk(lambda _: done.estimate) == pytest.approx(dict(done.stop_curve)[done.best_step], rel=1e-5)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_sure_rule_asks_for_steins_estimate(seeds):
    done = finish(start("hide", rule=Sure(30, 0), steps=200, rate=1e-9, seeds=seeds))
    assert [step for step, _ in done.stop_curve] == [30, 60]
    assert done.reason is StopReason.RISK
    # An untrained network is off by about the image itself, whose variance is 1.
    assert all(0.05 < value < 3 for _, value in done.stop_curve)


def test_steins_estimate_is_not_made_in_coarse_numbers():
    values = []
    for precision in ("float32", "bfloat16"):
        rule = Sure(1, 0)
        rule.every = 1
        done = finish(start("hide", rule=rule, steps=1, rate=1e-9, precision=precision))
        values.append(done.stop_curve[0][1])
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_looking_changes_nothing():
    class Spy(Fixed):
        def observe(self, step, view):
            if step % 2:
                view.residual()
                view.sure()
            return super().observe(step, view)

    looked, blind = (finish(start("hide", rule=rule)) for rule in (Spy(), Fixed()))
    assert torch.equal(looked.estimate, blind.estimate)
    assert looked.data_terms == blind.data_terms


class Poisoned(Hide):
    """Hides as always; at certain calls its aim is far off or not a number."""

    def __init__(self, p, calls, value):
        super().__init__(p, patch=SHAPE, batch=1, seeds=1, held_out=None, passes=1, hidden=(0.2, 0.4))
        self.calls, self.value, self.call = calls, value, 0

    def example(self, g):
        self.call += 1
        lesson = super().example(g)
        return lesson._replace(target=lesson.target * self.value) if self.call in self.calls else lesson


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", [1, 4, 30])
def test_a_fit_that_breaks_once_goes_on(value, call):
    p = problem(*SHAPE)
    teacher = Poisoned(p, {call}, value)
    seen = []
    done = finish(start(p=p, teacher=teacher, steps=40), seen)
    assert (done.restarts, done.steps) == (1, 40)
    assert len(done.data_terms) == 40
    assert np.isfinite(done.data_terms).all()
    assert torch.isfinite(done.estimate).all()
    assert seen[-1].step == 40
    # It goes back to the last state kept: the start, or step 25.
    assert teacher.call == 40 + (call - 25 if call > 25 else call)


def spoil(monkeypatch, at, change):
    """Change all weights right after one of the optimiser's steps."""
    step, calls = torch.optim.Adam.step, []

    def spoiling(self, *args, **kwargs):
        out = step(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == at:
            with torch.no_grad():
                for p in itertools.chain.from_iterable(group["params"] for group in self.param_groups):
                    change(p)
        return out

    monkeypatch.setattr(torch.optim.Adam, "step", spoiling)


def test_a_fit_does_not_go_back_to_where_it_was_about_to_break(monkeypatch):
    spoil(monkeypatch, 23, lambda p: p.mul_(3))
    p = problem(*SHAPE)
    teacher = Poisoned(p, {26}, float("nan"))
    done = finish(start(p=p, teacher=teacher, steps=40))
    # At step 25, the last one kept otherwise, it was already off its way.
    assert (done.restarts, teacher.call) == (1, 40 + 26)


def test_a_fit_that_breaks_goes_on_at_half_the_rate(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    p = problem(*SHAPE)
    finish(start(p=p, teacher=Poisoned(p, {4}, float("nan"))))
    assert rates == [0.005] * 3 + [0.0025] * 6


def test_a_fit_that_breaks_goes_back_to_its_start():
    p = problem(*SHAPE)
    broken = finish(start(p=p, teacher=Poisoned(p, {1}, float("nan"))))
    calm = finish(start(p=p, teacher=Poisoned(p, {}, 0.0), rate=0.0025))
    assert torch.allclose(broken.estimate, calm.estimate, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_breaks_averages_nothing_of_what_broke(monkeypatch, value, kind):
    with monkeypatch.context() as spoiled:
        spoil(spoiled, 4, lambda p: p.fill_(value))
        broken = finish(start(kind, steps=40, averaging=0.98))
    calm = finish(start(kind, rate=0.0025, steps=40, averaging=0.98))
    assert broken.restarts == 1
    assert torch.allclose(broken.estimate, calm.estimate, atol=1e-4)


def test_a_fit_that_breaks_tells_each_step_of_its_curve_once():
    p = problem(*SHAPE)
    done = finish(start(p=p, teacher=Poisoned(p, {4}, float("nan")), rule=At(3, 99)))
    assert [step for step, _ in done.stop_curve] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "rule", [Discrepancy(1e-9, 0), Sure(None, 0), HeldOut(None, 0)], ids=lambda r: type(r).__name__
)
def test_a_fit_that_breaks_goes_on_to_be_watched(rule):
    p = problem(*SHAPE)
    teacher = Poisoned(p, {55}, float("nan"))
    teacher.held_out = held_out.voxels(p, 0.1, rng())
    done = finish(start(p=p, teacher=teacher, rule=rule, steps=62))
    every = getattr(rule, "every", 1)
    assert done.restarts == 1
    assert [step for step, _ in done.stop_curve] == list(range(every, 63, every))
    assert all(math.isfinite(value) for _, value in done.stop_curve)
    assert done.best_step > 0


def test_a_fit_that_keeps_breaking_says_what_to_do():
    p = problem(*SHAPE)
    with pytest.raises(FitError, match=r"diverged at step \d+, again .*fit\.rate to 0\.0001\d or less"):
        finish(start(p=p, teacher=Poisoned(p, {3, 6, 9, 12}, float("nan")), steps=20))


def test_a_rate_far_too_high_is_noticed():
    with pytest.raises(FitError, match="diverged"):
        finish(start("hide", rate=1e4, steps=200))


def small_ensemble():
    torch.manual_seed(0)
    return Ensemble([nn.Sequential(nn.Conv2d(1, 1, 1))])


@pytest.fixture
def own_random_state():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.usefixtures("own_random_state")
def test_kept_weights_are_not_those_that_go_on():
    live = small_ensemble()
    average = WeightAverage(0.5, live, lambda net, made: iter([net(torch.ones(1, 1, 1, 2, 2)).detach().clone()]))
    average.update(torch.zeros(1))
    average.keep()
    kept = next(average.estimate(best=True))
    for _ in range(3):
        with torch.no_grad():
            for p in live.parameters():
                p += 1
        average.update(torch.zeros(1))
    assert torch.equal(next(average.estimate(best=True)), kept)
    assert not torch.equal(next(average.estimate(best=False)), kept)


@pytest.mark.usefixtures("own_random_state")
def test_averaged_weights_lag_behind_and_arrive():
    live = small_ensemble()
    average = WeightAverage(0.9, live, lambda net, made: iter([]))
    weight = live.networks[0][0].weight
    before = average.mean.networks[0][0].weight.clone()
    with torch.no_grad():
        weight += 10
    for _ in range(200):
        last = average.mean.networks[0][0].weight.clone()
        average.update(torch.zeros(1))
        now = average.mean.networks[0][0].weight
        assert torch.all((now - last) >= 0)
    assert torch.allclose(now, weight, atol=1e-3)
    assert not torch.allclose(before, weight)


def test_kept_outputs_are_not_those_that_go_on():
    average = OutputAverage(0.5)
    output = torch.zeros(3)
    average.update(output)
    average.keep()
    output += 7
    average.update(torch.full((3,), 4.0))
    average.update(torch.full((3,), 4.0))
    assert torch.equal(next(average.estimate(best=True)), torch.zeros(3))
    assert torch.allclose(next(average.estimate(best=False)), torch.full((3,), 3.0))


def test_averaged_outputs_start_as_a_plain_mean():
    average = OutputAverage(0.9)
    for value in (1.0, 2.0, 6.0):
        average.update(torch.full((2,), value))
    assert torch.allclose(next(average.estimate(best=False)), torch.full((2,), 3.0))
    for _ in range(200):
        average.update(torch.full((2,), 5.0))
    average.update(torch.full((2,), 15.0))
    assert torch.allclose(next(average.estimate(best=False)), torch.full((2,), 6.0))


def test_a_one_cycle_schedule_warms_up_and_cools_down(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a, **k: rates.append(self.param_groups[0]["lr"]) or step(self, *a, **k)
    )
    finish(start(schedule="one_cycle", steps=41, rate=0.01))
    peak = int(np.argmax(rates))
    assert 2 <= peak <= 8
    assert rates[peak] == pytest.approx(0.01, rel=0.01)
    assert rates[0] < 0.1 * rates[peak]
    assert rates[-1] < 0.01 * rates[peak]
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))


def test_one_odd_patch_is_no_divergence_and_many_are():
    health = _Health()
    assert not any(health.diverged(0.1, 0.1) for _ in range(50))
    assert not health.diverged(10.0, 0.1)
    assert not any(health.diverged(0.1, 0.1) for _ in range(20))
    assert any(health.diverged(10.0, 0.1) for _ in range(6))


def test_a_rare_patch_of_other_contrast_is_no_divergence():
    health = _Health()
    patches = ([(0.015, 0.016)] * 12 + [(0.8, 0.14)]) * 8
    assert not any(health.diverged(*patch) for patch in patches)
