"""What the network sees and what it is asked for: nothing leaks, and noises are as independent as they should be."""

import itertools
from dataclasses import replace

import pytest
import torch
from scenes import problem, rng

from dip_sci import held_out, tiling
from dip_sci.inputs import Jitter
from dip_sci.recipe import InputOptions
from dip_sci.supervision import Full
from dip_sci.supervision_recorrupted import Hide, Split

SHAPES = [(32, 24), (8, 16, 12)]


def hide(p, *, patch=None, batch=1, seeds=1, held_out=None, passes=4, hidden=(0.1, 0.6), flips=False):
    patch = patch or p.observation.shape[2:]
    shared = {"batch": batch, "seeds": seeds, "held_out": held_out, "passes": passes, "flips": flips}
    return Hide(p, patch=patch, hidden=hidden, **shared)


def split(p, *, strength=1.0, passes=4, seeds=1, patch=None, flips=False):
    patch = patch or p.observation.shape[2:]
    return Split(p, patch=patch, batch=1, seeds=seeds, passes=passes, strength=(strength, strength), flips=flips)


def with_observation(p, y):
    return replace(p, observation=y)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", range(3))
def test_hiding_shows_nothing_of_what_it_asks_for(shape, step):
    p = problem(*shape, channels=2)
    lesson = hide(p).example(rng(step))
    asked = lesson.weights[0] > 0
    assert asked.any()
    spoiled = with_observation(p, torch.where(asked, p.observation + 100, p.observation))
    again = hide(spoiled).example(rng(step))
    assert torch.equal(again.inputs, lesson.inputs)
    assert torch.equal(again.base, lesson.base)
    assert torch.equal(again.weights, lesson.weights)
    assert not torch.equal(again.target, lesson.target)


def test_hiding_draws_its_share_anew_within_its_limits():
    teacher = hide(problem(64, 64), hidden=(0.2, 0.5))
    shares = [float(teacher.example(rng(k)).weights.mean()) for k in range(60)]
    assert min(shares) > 0.17
    assert max(shares) < 0.53
    assert max(shares) - min(shares) > 0.2
    fixed = hide(problem(64, 64), hidden=(0.3, 0.3))
    assert all(abs(float(fixed.example(rng(k)).weights.mean()) - 0.3) < 0.04 for k in range(5))


def test_hidden_voxels_are_told_to_the_network():
    lesson = hide(problem(32, 32)).example(rng())
    assert torch.equal(lesson.inputs[:, :, 1:2] < 0, lesson.weights > 0)


def test_an_example_is_a_function_of_its_random_numbers():
    for teacher in (hide(problem(32, 32)), split(problem(32, 32)), full(problem(32, 32))):
        a, b, c = (teacher.example(rng(k)) for k in (1, 1, 2))
        assert torch.equal(a.inputs, b.inputs)
        assert not torch.equal(a.inputs, c.inputs)


@pytest.mark.parametrize("make", [hide, split])
def test_unmeasured_voxels_are_neither_seen_nor_asked_for(make):
    p = problem(32, 32)
    measured = torch.ones_like(p.measured)
    measured[..., :, 20:] = 0
    p = replace(p, measured=measured, weights=measured.clone())
    lesson = make(p).example(rng())
    assert lesson.weights[..., 20:].sum() == 0
    other = with_observation(p, torch.where(measured > 0, p.observation, torch.tensor(50.0)))
    again = make(other).example(rng())
    assert torch.equal(again.inputs, lesson.inputs)
    assert torch.equal(again.base, lesson.base)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_splitting_makes_two_independent_noises_of_the_right_size(strength):
    # A flat truth, each voxel its own draw: what is left is noise, and its moments are counted directly.
    sigma = 0.7
    clean = torch.zeros(1, 1, 256, 256)
    noise = sigma * torch.randn(clean.shape, generator=rng(5))
    p = replace(
        problem(256, 256),
        observation=clean + noise,
        sigma=torch.full((1, 1, 1, 1), sigma),
    )
    lesson = split(p, strength=strength).example(rng(6))
    seen, aim = lesson.inputs[0, 0, 0].flatten(), lesson.target.flatten()
    assert float(seen.var()) == pytest.approx(sigma**2 * (1 + strength**2), rel=0.03)
    assert float(aim.var()) == pytest.approx(sigma**2 * (1 + 1 / strength**2), rel=0.03)
    together = torch.corrcoef(torch.stack([seen, aim]))[0, 1]
    assert abs(float(together)) < 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [hide, split])
def test_flipped_lessons_are_of_the_flipped_image(make, shape):
    p = problem(*shape)
    teacher, seen = make(p, flips=True), set()
    axes = range(2, 2 + len(shape))
    ways = [w for k in range(len(shape) + 1) for w in itertools.combinations(axes, k)]
    for step in range(12 * len(ways)):
        lesson = teacher.example(rng(step))
        # With as much noise added as there is, half of what is seen and aimed at is the observation.
        y = lesson.target[0] if make is hide else (lesson.inputs[0, :, :1] + lesson.target[0]) / 2
        found = [w for w in ways if torch.allclose(y, p.observation.flip(w), atol=1e-5)]
        assert len(found) == 1
        seen.add(found[0])
        if make is hide:
            assert torch.equal(lesson.inputs[:, :, 1:2] < 0, lesson.weights > 0)
    assert seen == set(ways)
    assert make(p).example(rng()).target.shape == lesson.target.shape


@pytest.mark.parametrize("make", [hide, split])
def test_what_was_seen_flipped_comes_back_as_it_was(make):
    quiet = replace(problem(48, 40), sigma=torch.full((1, 1, 1, 1), 1e-3))
    ramp = torch.linspace(0, 1, 40).expand(48, 40) + torch.linspace(0, 3, 48)[:, None]
    p = with_observation(quiet, ramp[None, None])
    *_, found = make(p, flips=True).passes(lambda x: torch.zeros_like(x[:, :, :1]), rng())
    assert torch.allclose(found[0], p.observation, atol=0.3)


def test_splitting_uses_each_channels_own_noise():
    p = problem(64, 64, channels=2, images=2)
    sigma = torch.tensor([[0.1, 1.0], [2.0, 0.5]]).view(2, 2, 1, 1)
    p = replace(p, observation=torch.zeros_like(p.observation), sigma=sigma)
    found = {}
    for step in range(30):
        lesson = split(p).example(rng(step))
        sds = tuple(round(float(s), 1) for s in lesson.inputs[0, 0, :2].std((1, 2)))
        found[sds] = True
    assert {tuple(round(float(v), 1) for v in row) for row in sigma.view(2, 2)} <= set(found)


def full(p, *, seeds=1, held_out=None, seed=0, **options):
    return Full(p, InputOptions(**options), seeds, held_out, rng(seed))


def test_noise_input_is_uniform_and_each_networks_own():
    teacher = full(problem(64, 64), kind="noise", channels=8, scale=0.4, jitter=0, seeds=2)
    assert teacher.inside == 8
    assert teacher.z.shape == (2, 1, 8, 64, 64)
    assert teacher.z.min() >= 0
    assert teacher.z.max() <= 0.4
    assert float(teacher.z.mean()) == pytest.approx(0.2, abs=0.005)
    assert float(teacher.z.std()) == pytest.approx(0.4 / 12**0.5, rel=0.02)
    assert not torch.equal(teacher.z[0], teacher.z[1])
    assert torch.equal(teacher.example(rng()).inputs, teacher.z)


def test_meshgrid_input_is_the_coordinates():
    teacher = full(problem(4, 8, 16), kind="meshgrid", jitter=0)
    assert teacher.z.shape == (1, 1, 3, 4, 8, 16)
    z = teacher.z[0, 0]
    assert torch.allclose(z[0, :, 3, 3], torch.linspace(0, 1, 4))
    assert torch.allclose(z[1, 3, :, 3], torch.linspace(0, 1, 8))
    assert torch.allclose(z[2, 3, 3, :], torch.linspace(0, 1, 16))


def test_image_input_is_the_observation():
    p = problem(16, 16, channels=3)
    teacher = full(p, kind="image", jitter=0)
    assert teacher.inside == 3
    assert torch.equal(teacher.z[0], p.observation)


def test_full_supervision_asks_for_the_observation_itself():
    p = problem(16, 16)
    lesson = full(p).example(rng())
    assert torch.equal(lesson.target[0], p.observation)
    assert torch.equal(lesson.weights[0], p.weights)
    assert float(lesson.base.abs().sum()) == 0


def test_full_supervision_passes_once_without_jitter():
    teacher = full(problem(16, 16), jitter=0.5)
    seen = []
    assert len(list(teacher.passes(lambda z: seen.append(z) or z, rng()))) == 1
    assert torch.equal(seen[0], teacher.z)


def test_jitter_has_its_strength_and_is_new_at_each_step():
    z = torch.zeros(1, 8, 64, 64)
    jitter, g = Jitter(z, 0.3, rng()), rng(1)
    steps = torch.stack([jitter.add(z, g) for _ in range(10)]).flatten(1)
    assert float(steps.mean()) == pytest.approx(0, abs=0.01)
    assert float(steps.std()) == pytest.approx(0.3, rel=0.02)
    apart = torch.corrcoef(steps) - torch.eye(10)
    assert float(apart.abs().max()) < 0.05


def test_no_jitter_leaves_the_input_alone():
    z = torch.rand(1, 4, 8, 8)
    assert torch.equal(Jitter(z, 0.0, rng()).add(z, rng()), z)


def test_held_out_voxels_are_a_share_of_those_that_count():
    p = problem(128, 128)
    p.weights[..., :64] = 0
    held = held_out.voxels(p, 0.1, rng())
    assert held[..., :64].sum() == 0
    assert float(held[..., 64:].mean()) == pytest.approx(0.1, abs=0.01)
    assert set(held.unique().tolist()) == {0.0, 1.0}


def test_blocks_are_held_out_whole():
    p = problem(320, 250, images=2)
    held = held_out.blocks(p, rng())
    assert float(held.mean()) == pytest.approx(held_out.SHARE, abs=0.03)
    for block in held.split(held_out.EDGE, dim=2):
        for one in block.split(held_out.EDGE, dim=3):
            assert len(one[0].unique()) == 1
    assert not torch.equal(held[0], held[1])


def test_no_blocks_are_held_out_of_little():
    assert held_out.blocks(problem(64, 64), rng()) is None


@pytest.mark.parametrize("make", [hide, full])
def test_held_out_voxels_are_never_asked_for(make):
    p = problem(32, 32)
    held = held_out.voxels(p, 0.2, rng())
    teacher = make(p, held_out=held)
    for step in range(5):
        weights = teacher.example(rng(step)).weights[0]
        assert float((weights * held).sum()) == 0
        assert float(weights.sum()) > 0


@pytest.mark.parametrize("make", [hide, full])
def test_the_risk_is_the_error_at_the_held_out_voxels(make):
    p = problem(32, 32)
    held = held_out.voxels(p, 0.2, rng())

    def off_by(value):
        # Replies with the observation plus an error, whatever it is shown.
        if make is full:
            return lambda z: (p.observation + value)[None]
        return lambda seen: (p.observation + value)[None] - seen[:, :, 3:4]  # the base is the middle smooth image

    assert make(p, held_out=held).risk(off_by(0.0)) == pytest.approx(0, abs=1e-6)
    assert make(p, held_out=held).risk(off_by(0.5 * held)) == pytest.approx(0.25, rel=1e-3)
    assert make(p, held_out=held).risk(off_by(9.0 * (1 - held))) == pytest.approx(0, abs=1e-6)


def test_the_risk_under_hiding_does_not_show_the_held_out_voxels():
    p = problem(32, 32)
    held = held_out.voxels(p, 0.2, rng())
    inputs = []
    for y in (p.observation, p.observation + 40 * held):
        teacher = hide(with_observation(p, y), held_out=held)
        teacher.risk(lambda seen: inputs.append(seen) or torch.zeros(1, 1, 1, 32, 32))
    assert torch.equal(inputs[0], inputs[1])


def test_each_voxel_is_hidden_once_in_four_passes():
    shown = []
    list(
        hide(problem(16, 16), passes=4).passes(
            lambda seen: shown.append(seen[0, 0, 1] > 0) or 0 * seen[:, :, :1], rng()
        )
    )
    assert len(shown) == 4
    assert torch.equal(torch.stack(shown).sum(0), torch.full((16, 16), 3))


@pytest.mark.parametrize("make", [hide, split])
def test_passes_are_the_running_mean_of_more_and_more(make):
    p, calls = problem(16, 16, images=2), []

    def network(seen):
        calls.append(1)
        return -seen[:, :, 3:4] + len(calls)  # takes the base off: what is left is a count of the calls

    outs = list(make(p, passes=3).passes(network, rng()))
    assert len(outs) == 3
    # Two images per pass, restored one after the other: 1, 2 | 3, 4 | 5, 6.
    for k, out in enumerate(outs):
        assert out.shape == (1, 2, 1, 16, 16)
        means = [2 * k / 2 + 1, 2 * k / 2 + 2]
        assert [float(v) for v in out.mean((0, 2, 3, 4))] == pytest.approx(means, abs=1e-4)


def test_split_passes_add_new_noise_each_time():
    p = replace(problem(16, 16), sigma=torch.full((1, 1, 1, 1), 1.0))
    seen = []
    list(split(p, strength=2.0, passes=5).passes(lambda x: seen.append(x[0, 0, 0]) or 0 * x[:, :, :1], rng()))
    added = torch.stack(seen) - p.observation[0, 0]
    assert float(added.std()) == pytest.approx(2, rel=0.1)
    assert not torch.equal(added[0], added[1])


@pytest.mark.parametrize("make", [hide, split])
def test_patches_lie_everywhere_and_fit(make):
    at = torch.arange(3 * 20 * 12, dtype=torch.float32).view(3, 1, 20, 12)
    # Splitting takes a little noise off its aim; what is left names the voxel all the same.
    p = replace(problem(20, 12, images=3), observation=at, sigma=torch.full((3, 1, 1, 1), 1e-3))
    teacher = make(p, patch=(8, 64))
    assert teacher.shape == (8, 12)
    seen = torch.zeros(3 * 20 * 12)
    for step in range(120):
        target = teacher.example(rng(step)).target
        assert target.shape == (1, 1, 1, 8, 12)
        seen[target.flatten().round().long()] = 1
    assert seen.all()


@pytest.mark.parametrize("make", [hide, split])
def test_patches_are_taken_where_voxels_count_more(make):
    p = problem(64, 64)
    weights = torch.full_like(p.weights, 0.1)
    weights[..., :16] = 1
    heavy, even = make(replace(p, weights=weights), patch=(16, 16)), make(p, patch=(16, 16))

    def mass(lesson):
        draw = rng()
        return sum(float(weights[lesson.patches.draw(draw)[0]].mean()) for _ in range(400)) / 400

    # The mean of the squared weight over the mean weight, of all patches: by 2.5 times more than of one anywhere.
    assert mass(heavy) > 2 * mass(even)
    assert [even.patches.draw(rng(k)) for k in range(9)] == [
        make(p, patch=(16, 16)).patches.draw(rng(k)) for k in range(9)
    ]


def test_several_patches_make_a_batch():
    lesson = hide(problem(32, 32), patch=(16, 16), batch=3, seeds=2).example(rng())
    assert lesson.target.shape == (2, 3, 1, 16, 16)
    assert lesson.inputs.shape[:2] == (2, 3)
    assert not torch.equal(lesson.target[0, 0], lesson.target[0, 1])
    assert torch.equal(lesson.target[0], lesson.target[1])


def test_the_data_term_is_the_weighted_mean_square():
    p = problem(8, 8, channels=2)
    target = torch.zeros(1, 2, 8, 8)
    x = torch.ones(1, 2, 8, 8)
    x[:, 1] = 3
    weights = torch.zeros(1, 1, 8, 8)
    weights[..., 0, 0] = 0.5
    weights[..., 1, 1] = 1.5
    assert float(p.data_term(x, target, weights)) == pytest.approx((1 + 9) / 2)
    x[..., 1, 1] *= 2
    assert float(p.data_term(x, target, weights)) == pytest.approx(0.25 * 5 + 0.75 * 20)
    assert float(p.data_term(x, target, 0 * weights)) == 0


@pytest.mark.parametrize("shape", [(40, 100), (100, 33), (20, 20)])
def test_tiles_make_up_the_whole_image(monkeypatch, shape):
    monkeypatch.setattr(tiling, "LIMIT", {2: 32, 3: 16})
    image = torch.randn(1, 2, *shape)
    sizes = []

    def twice(x):
        sizes.append(max(x.shape[2:]))
        return torch.cat([2 * x, x[:, :1]], 1)

    out = tiling.apply(twice, image)
    assert torch.allclose(out, torch.cat([2 * image, image[:, :1]], 1), atol=1e-5)
    assert max(sizes) <= 32


def test_tiles_make_up_the_whole_volume(monkeypatch):
    monkeypatch.setattr(tiling, "LIMIT", {2: 32, 3: 16})
    volume = torch.randn(1, 1, 5, 20, 40)
    assert torch.allclose(tiling.apply(lambda x: x + 1, volume), volume + 1, atol=1e-5)
