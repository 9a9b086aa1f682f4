"""Stop rules on made-up fits whose right answer is known."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scenes import noisy, problem, rng
from torch.nn import functional

from dip_sci import denoise, fitting, held_out, stopping
from dip_sci.choices import decide
from dip_sci.errors import RecipeError
from dip_sci.recipe import InputOptions, Recipe
from dip_sci.stopping import (
    Discrepancy,
    Fixed,
    HeldOut,
    MovingVariance,
    StopReason,
    Sure,
    View,
    WindowedVariance,
)
from dip_sci.supervision import Full
from dip_sci.supervision_recorrupted import Hide, Split
from dip_sci.texture import Texture


def not_asked():
    raise AssertionError("this rule asked for something that it does not need")


def view(iterate=None, **asked):
    return View(**{"iterate": iterate, **dict.fromkeys(("risk", "residual", "sure"), not_asked), **asked})


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
        verdict = rule.observe(step, view(iterate))
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
        value = rule.observe(step, view(iterate)).value
        if step < 4:
            assert value is None
        else:
            assert value == pytest.approx(float(torch.stack(seen[-4:]).var(0, unbiased=False).mean()), rel=1e-4)


def test_the_moving_variance_is_the_papers():
    rule, mean, variance = MovingVariance(0.2, 100, 0), None, 0.0
    for step, iterate in enumerate(iterates([1, 5, 2, 3, 1]), start=1):
        value = rule.observe(step, view(iterate)).value
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
        values.append(rule.observe(step, view(live)).value)
    assert values[-1] > 0.1


def look(rule, asks, value):
    """Steps asked at, the last best step, the step of the stop and its reason; `value` is a function of the step."""
    asked, best = [], []
    for step in range(1, 2001):
        verdict = rule.observe(step, view(**{asks: lambda s=step: asked.append(s) or value(s)}))
        assert (verdict.value is None) == (step not in asked)
        if verdict.best:
            best.append(step)
        if verdict.stop is not None:
            return asked, best[-1], step, verdict.stop
    return asked, best[-1], None, None


RISKS = {
    "held_out": (lambda *when: HeldOut(*when), "risk", 10, StopReason.HELD_OUT),
    "split": (lambda *when: HeldOut(*when, StopReason.SPLIT), "risk", 10, StopReason.SPLIT),
    "sure": (lambda *when: Sure(*when), "sure", 30, StopReason.RISK),
}


@pytest.mark.parametrize("name", RISKS)
def test_a_risk_rule_stops_when_the_risk_no_longer_falls(name):
    make, asks, every, reason = RISKS[name]
    # A risk may be negative: it is an estimate, and may be given up to a constant.
    asked, best, stop, why = look(make(120, 0), asks, lambda s: (abs(s - 300) - 50) / 100)
    assert (best, stop, why) == (300, 420, reason)
    assert asked == list(range(every, 421, every))


@pytest.mark.parametrize("name", RISKS)
def test_a_risk_rule_does_not_count_what_comes_before_its_start(name):
    make, asks, _, _ = RISKS[name]
    _, best, _, _ = look(make(60, 200), asks, lambda s: 0.0 if s < 100 else abs(s - 300) + 1.0)
    assert best == 300


@pytest.mark.parametrize("name", RISKS)
def test_a_risk_rule_left_to_itself_waits_half_as_long_as_the_best_took(name):
    make, asks, _, _ = RISKS[name]
    assert look(make(None, 0), asks, lambda s: abs(s - 600))[1:3] == (600, 900)


def test_the_discrepancy_principle_stops_where_the_residual_is_the_noise():
    _, best, stop, why = look(Discrepancy(1.0, 0), "residual", lambda s: 3 - s / 100)
    assert (best, stop, why) == (200, 200, StopReason.DISCREPANCY)
    assert look(Discrepancy(1.5, 0), "residual", lambda s: 3 - s / 100)[1:3] == (150, 150)
    assert look(Discrepancy(1.0, 250), "residual", lambda s: 3 - s / 100)[1:3] == (250, 250)


def test_a_residual_above_the_noise_does_not_stop():
    asked, best, stop, _ = look(Discrepancy(1.0, 0), "residual", lambda s: 1.01)
    assert (best, stop, len(asked)) == (2000, None, 2000)


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
    held_out, split, sure = (made(rule=rule) for rule in ("held_out", "split", "sure"))
    assert isinstance(held_out, HeldOut)
    assert isinstance(split, HeldOut)
    assert isinstance(sure, Sure)
    assert look(held_out, "risk", lambda s: s)[3] is StopReason.HELD_OUT
    assert look(split, "risk", lambda s: s)[3] is StopReason.SPLIT
    assert look(made(rule="discrepancy", discrepancy=0.5), "residual", lambda s: 1 - s / 100)[2] == 50
    # Patience and start, by what they do: rising values from the first step on.
    verdicts = [moving.observe(k, view(torch.full((4,), float(k**2)))) for k in range(1, 20)]
    assert next(k for k, v in enumerate(verdicts, start=1) if v.stop) == 3 + 7


def decided(**groups):
    return decide(Recipe.parse(groups), noisy(32, 32), fast_bfloat16=False).recipe.stop.rule


@pytest.mark.parametrize("rule", ["discrepancy", "split"])
def test_a_rule_for_what_is_fitted_needs_full_supervision(rule):
    with pytest.raises(RecipeError, match=rf"stop\.rule is {rule}.*supervision\.kind full.*held_out or sure"):
        decided(stop={"rule": rule})
    assert decided(stop={"rule": rule}, supervision={"kind": "full"}) == rule


@pytest.mark.parametrize("kind", ["noise", "image"])
def test_stein_does_not_see_noise_in_the_weights(kind):
    with pytest.raises(RecipeError, match=r"stop\.rule is sure.*supervision\.kind recorrupted.*Use split"):
        decided(stop={"rule": "sure"}, supervision={"kind": "full"}, input={"kind": kind})
    assert decided(stop={"rule": "sure"}) == "sure"


SIGMA = 0.6


KERNEL = np.outer([0.2, 0.7, 1, 0.7, 0.2], [0.1, 0.5, 1, 0.5, 0.1]).astype(np.float32)
NOISES = {"white": Texture(), "correlated": Texture(KERNEL)}


def observed(seed, texture="white", images=1):
    """A problem whose noise is as it says, and the truth."""
    p = problem(128, 128, images=images, sigma=0.0)
    clean = p.observation
    p = replace(p, sigma=torch.full_like(p.sigma, SIGMA), texture=NOISES[texture])
    return p.seeing(clean + p.noise(rng(100 + seed))), clean


def smooth(y):
    """Neither linear nor a projection."""
    near = functional.avg_pool2d(y.flatten(0, -4), 3, 1, 1).view_as(y)
    return near + 0.3 * torch.tanh(2 * (y - near))


def agrees(told, true, naive):
    """Whether estimates of an error are right on average, and would not be without the noise that goes through."""
    told, true, naive = (float(torch.tensor(v).mean()) for v in (told, true, naive))
    return abs(told - true) < 0.04 * SIGMA**2 and naive < true - 0.2 * SIGMA**2


TEACHERS = {"hide": partial(Hide, hidden=(0.2, 0.4)), "split": partial(Split, strength=(0.7, 1.0))}


def recorrupted(kind, p, seeds=1, held_out=None):
    """A supervision, a network for it, and a list of what the network makes."""
    teacher, made = TEACHERS[kind](p, patch=(128, 128), batch=1, seeds=seeds, held_out=held_out, passes=1), []

    def network(seen):
        base, filled = seen[:, :, 3:4], seen[:, :, :1]
        made.append(smooth(filled))
        return made[-1] - base

    return teacher, network, made


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("texture", NOISES)
@pytest.mark.parametrize("kind", TEACHERS)
def test_steins_estimate_is_the_error_on_average(kind, texture, seeds):
    told, true, naive = [], [], []
    for draw in range(12):
        p, clean = observed(draw, texture, images=2)
        teacher, network, made = recorrupted(kind, p, seeds)
        told.append(teacher.sure(network))
        result = torch.cat([one.mean(0) for one in made[:2]])
        true.append(float((result - clean).square().mean()))
        naive.append(float((result - p.observation).square().mean()) - SIGMA**2)
    assert agrees(told, true, naive)


@pytest.mark.parametrize("kind", TEACHERS)
def test_steins_estimate_of_correlated_noise_taken_to_be_white_is_far_too_low(kind):
    p, _ = observed(0, "correlated")
    right, wrong = (recorrupted(kind, given)[:2] for given in (p, replace(p, texture=Texture())))
    assert wrong[0].sure(wrong[1]) < right[0].sure(right[1]) - 0.4 * SIGMA**2


def test_steins_estimate_sees_shared_noise_that_the_fit_does_not_go_by():
    p, _ = observed(0, "correlated")
    slight = replace(p, texture=Texture(), detail=p.texture)
    right, told = (recorrupted("hide", given)[:2] for given in (p, slight))
    assert told[0].sure(told[1]) == right[0].sure(right[1])


@pytest.mark.parametrize("kind", TEACHERS)
def test_steins_estimate_counts_voxels_by_their_weights(kind):
    p, _ = observed(0)
    weights = torch.ones_like(p.weights)
    weights[..., 64:] = 0
    half = replace(p, weights=weights)
    spoiled = replace(half, observation=p.observation + 9 * (torch.arange(128) > 90))
    told = []
    for given in (half, spoiled):
        teacher, network, _ = recorrupted(kind, given)
        told.append(teacher.sure(network))
    assert told[0] == pytest.approx(told[1], abs=1e-3)


@pytest.mark.parametrize("kind", TEACHERS)
def test_noise_known_by_heart_counts_for_nothing_where_blocks_are_held_out(kind):
    p, clean = observed(0, images=3)
    blocks = held_out.blocks(p, rng(1))
    # The truth, and the noise of what was learned from, whatever is shown: Stein's estimate sees what changes with it.
    by_heart = clean + (p.observation - clean) * (1 - blocks)
    told = {}
    for name, kept in (("all", None), ("blocks", blocks)):
        teacher = recorrupted(kind, p, held_out=kept)[0]
        images = iter(2 * list(by_heart))
        told[name] = teacher.sure(lambda seen, images=images: next(images)[None, None] - seen[:, :, 3:4])
    assert told["all"] < -0.7 * SIGMA**2
    assert abs(told["blocks"]) < 0.1 * SIGMA**2


@pytest.mark.parametrize("recorrupt", ["Hide", "Split"])
@pytest.mark.parametrize("rule", ["sure", "held_out", "fixed"])
def test_what_a_rule_judges_by_is_kept_out_of_the_fit(rule, recorrupt, monkeypatch):
    kept = []

    class Watched(getattr(fitting, recorrupt)):
        def __init__(self, *given, held_out, **options):
            kept.append(held_out)
            super().__init__(*given, held_out=held_out, **options)

    monkeypatch.setattr(fitting, recorrupt, Watched)
    tiny = {"generator": {"channels": [4, 4]}, "fit": {"steps": 1}, "output": {"classical": "none"}}
    lesson = {"recorrupt": recorrupt.lower(), "passes": 1}
    denoise(noisy(200, 200), Recipe.parse({**tiny, "stop": {"rule": rule}, "supervision": lesson}))
    assert (kept[0] is None) == (rule == "fixed")


@pytest.mark.parametrize("kind", TEACHERS)
def test_looking_twice_tells_the_same(kind):
    teacher, network, _ = recorrupted(kind, observed(0)[0])
    assert teacher.sure(network) == teacher.sure(network)


def full(p, split, seeds=1, **options):
    return Full(p, InputOptions(**options), seeds, None, rng(7), split)


@pytest.mark.parametrize("texture", NOISES)
@pytest.mark.parametrize("split", [0.3, 1.0])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_what_is_split_off_is_independent_of_what_is_fitted(split, seeds, texture):
    p, clean = observed(0, texture)
    target = full(p, split, seeds).example(rng()).target
    aim = p.observation - (target - p.observation) / split**2
    for seen, kept in zip(target - clean, aim - clean, strict=True):
        assert float(seen.var()) == pytest.approx(SIGMA**2 * (1 + split**2), rel=0.1)
        assert float(kept.var()) == pytest.approx(SIGMA**2 * (1 + 1 / split**2), rel=0.1)
        for near in (seen, seen.roll(1, -1), seen.roll(1, -2)):
            assert abs(float(torch.corrcoef(torch.stack([near.flatten(), kept.flatten()]))[0, 1])) < 0.05
    if seeds > 1:
        assert torch.allclose(target[:2].mean(0), p.observation, atol=1e-6)
    if seeds > 2:
        added = (target - p.observation)[[0, 2]].flatten(1)
        assert abs(float(torch.corrcoef(added)[0, 1])) < 0.05


@pytest.mark.parametrize("texture", NOISES)
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_risk_of_a_split_is_the_error_of_the_mean_network(seeds, texture):
    told, true, naive = [], [], []
    for draw in range(12):
        p, clean = observed(draw, texture)
        # Noise of its own for each draw: what is fitted is all that the rule looks at.
        teacher = Full(p, InputOptions(), seeds, None, rng(draw), 0.5)
        made = smooth(teacher.example(rng()).target)
        told.append(teacher.risk(lambda _, made=made: made))
        true.append(float((made.mean(0) - clean).square().mean()))
        naive.append(float((made.mean(0) - p.observation).square().mean()) - SIGMA**2)
    assert agrees(told, true, naive)


def test_a_network_that_sees_the_image_sees_the_half_that_is_fitted():
    teacher = full(observed(0)[0], 0.5, 2, kind="image", jitter=0)
    lesson = teacher.example(rng())
    assert torch.equal(lesson.inputs, lesson.target)


def test_without_a_split_the_observation_is_fitted():
    p, _ = observed(0)
    target = full(p, None, 2).example(rng()).target
    assert torch.equal(target, p.observation.expand_as(target))
