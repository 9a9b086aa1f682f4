"""Stop rules on made-up fits whose right answer is known."""

import pytest
import torch

from dip_sci import stopping
from dip_sci.recipe import Recipe
from dip_sci.stopping import Fixed, HeldOut, MovingVariance, StopReason, View, WindowedVariance


def no_risk():
    raise AssertionError("this rule asked for a risk that it does not need")


def iterates(spreads, voxels=400, seed=0):
    """Independent iterates of given standard deviations about a fixed image."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.randn(voxels, generator=rng)
    for sd in spreads:
        yield image + sd * torch.randn(voxels, generator=rng)


def valley(steps, at, depth=0.1, start=1.0, end=1.0):
    """Spreads that fall from `start` to `depth` at a step, and rise to `end`."""
    fall = [start + (depth - start) * k / at for k in range(at)]
    return fall + [depth + (end - depth) * k / (steps - at) for k in range(steps - at)]


def follow(rule, spreads):
    """Steps told to be best, and the step and reason of the stop (``None`` if there is none)."""
    best = []
    for step, iterate in enumerate(iterates(spreads), start=1):
        verdict = rule.observe(step, View(iterate, no_risk))
        if verdict.best:
            best.append(step)
        if verdict.stop is not None:
            return best, step, verdict.stop
    return best, None, None


RULES = {
    "windowed": lambda patience, min_start: WindowedVariance(10, patience, min_start),
    "moving": lambda patience, min_start: MovingVariance(0.1, patience, min_start),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("at", [80, 200])
def test_a_variance_rule_stops_after_the_valley_and_reports_it(name, at):
    best, stop, reason = follow(RULES[name](60, 40), valley(600, at))
    assert reason is StopReason.VARIANCE
    # Both averages look back over some ten steps.
    assert at - 10 <= best[-1] <= at + 25
    assert stop == best[-1] + 60


@pytest.mark.parametrize("name", RULES)
def test_a_variance_rule_waits_while_the_variance_falls(name):
    best, stop, _ = follow(RULES[name](60, 0), [1 / (1 + 0.05 * k) for k in range(400)])
    assert stop is None
    assert best[-1] > 380


@pytest.mark.parametrize("name", RULES)
def test_a_false_minimum_of_the_warm_up_does_not_count(name):
    # Deepest at step 30, in the warm-up; the true valley is at 300.
    spreads = valley(100, 30, depth=0.02) + valley(500, 200, depth=0.1)
    _, early, _ = follow(RULES[name](100, 0), spreads)
    assert early is not None
    assert early < 160
    best, stop, reason = follow(RULES[name](100, 120), spreads)
    assert reason is StopReason.VARIANCE
    assert 290 <= best[-1] <= 325
    assert stop == best[-1] + 100


@pytest.mark.parametrize("name", RULES)
def test_the_latest_state_is_kept_until_a_minimum_may_count(name):
    best, _, _ = follow(RULES[name](500, 50), [1.0 + 0.01 * k for k in range(60)])
    assert best[:49] == list(range(1, 50))


def test_the_windowed_variance_is_that_of_the_last_iterates():
    rule, seen = WindowedVariance(4, 100, 0), []
    for step, iterate in enumerate(iterates([1, 5, 2, 3, 1, 4, 2]), start=1):
        seen.append(iterate)
        value = rule.observe(step, View(iterate, no_risk)).value
        if step < 4:
            assert value is None
        else:
            assert value == pytest.approx(float(torch.stack(seen[-4:]).var(0, unbiased=False).mean()), rel=1e-4)


def test_the_moving_variance_is_the_papers():
    rule, mean, variance = MovingVariance(0.2, 100, 0), None, 0.0
    for step, iterate in enumerate(iterates([1, 5, 2, 3, 1]), start=1):
        value = rule.observe(step, View(iterate, no_risk)).value
        if mean is None:
            mean = iterate
            continue
        away = iterate - mean
        mean = mean + 0.2 * away
        variance = 0.8 * (variance + 0.2 * float((away**2).mean()))
        # The paper's average starts at zero and is small at first by the weight it still lacks.
        assert value == pytest.approx(variance / (1 - 0.8 ** (step - 1)), rel=1e-4)


@pytest.mark.parametrize("rule", [WindowedVariance(5, 100, 0), MovingVariance(0.1, 100, 0)])
def test_a_rule_does_not_hold_on_to_the_fits_own_tensor(rule):
    live = torch.zeros(10)
    values = []
    for step in range(1, 12):
        live += 1  # in place, as an optimiser would
        values.append(rule.observe(step, View(live, no_risk)).value)
    assert values[-1] > 0.1


def test_held_out_stops_when_the_risk_no_longer_falls():
    rule, asked, best = HeldOut(100, 0), [], []
    for step in range(1, 1001):
        verdict = rule.observe(step, View(None, lambda s=step: asked.append(s) or abs(s - 300) + 1.0))
        if verdict.best:
            best.append(step)
        if verdict.stop is not None:
            break
    assert verdict.stop is StopReason.HELD_OUT
    assert (step, best[-1]) == (400, 300)
    assert asked == list(range(10, 401, 10))


def test_held_out_does_not_count_what_comes_before_its_start():
    rule = HeldOut(50, 200)
    best = []
    for step in range(1, 1001):
        risk = 0.0 if step == 50 else abs(step - 300) + 1.0
        verdict = rule.observe(step, View(None, lambda r=risk: r))
        if verdict.best:
            best.append(step)
        if verdict.stop:
            break
    assert best[-1] == 300


def test_the_fixed_rule_never_stops():
    best, stop, _ = follow(Fixed(), [1.0] * 200)
    assert stop is None
    assert best == list(range(1, 201))


@pytest.mark.parametrize("reason", StopReason)
def test_a_reason_is_a_sentence(reason):
    assert reason.value[0].isupper()
    assert reason.value.endswith(".")
    assert len(reason.value.split()) >= 3


def test_a_recipe_builds_the_rule_it_names():
    def made(**options):
        return stopping.build(Recipe.parse({"stop": {"patience": 7, "min_start": 3, **options}}).stop)

    assert isinstance(made(rule="fixed"), Fixed)
    windowed, moving = made(rule="windowed_variance", window=20), made(rule="moving_variance", alpha=0.3)
    assert isinstance(windowed, WindowedVariance)
    assert windowed.window == 20
    assert isinstance(moving, MovingVariance)
    assert moving.alpha == 0.3
    assert isinstance(made(rule="held_out"), HeldOut)
    # Patience and start, by what they do: rising values from the first step on.
    verdicts = [moving.observe(k, View(torch.full((4,), float(k**2)), no_risk)) for k in range(1, 20)]
    assert next(k for k, v in enumerate(verdicts, start=1) if v.stop) == 3 + 7
