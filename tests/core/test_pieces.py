"""Images too large for one fit: restored piece by piece, without seams, whatever the task."""

import threading
from functools import partial

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny

from dip_sci import fitting, large, pieces, sample
from dip_sci.ensemble import begin_with, fresh, weights_of
from dip_sci.errors import FitError
from dip_sci.functions import deconvolve, fuse, inpaint, super_resolve
from dip_sci.image import Image
from dip_sci.restore import denoise, finish, iter_restore
from dip_sci.stopping import StopReason
from dip_sci.tasks import Inpaint

LEARN = {"generator": {"channels": (8, 8), "dropout": 0.0}, "fit": {"steps": 40, "rate": 0.01}}
FULL = {"supervision": {"kind": "full"}, "stop": {"rule": "fixed"}}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pieces are small, and so are their overlaps."""
    monkeypatch.setattr(large, "LEAST", {"2d": 32, "3d": 16})
    monkeypatch.setattr(large, "MARGIN", {"2d": 8, "3d": 4})
    monkeypatch.setattr(large, "TRIM", {"2d": 2, "3d": 1})


def tiled(tile=48, **changes):
    return tiny(**changes).merged({"output": {"tile": tile}})


def holes(*shape, share=0.4, seed=3):
    return np.random.default_rng(seed).random(shape) < share


def in_pieces(result):
    return next((int(n.split(" pieces")[0].split()[-1]) for n in result.report.notes if " pieces, each by" in n), 0)


@pytest.mark.parametrize(("shape", "axes", "tile"), [((80, 96), "YX", 48), ((12, 40, 72), "ZYX", 48)])
def test_holes_are_filled_piece_by_piece_as_well_as_at_once(shape, axes, tile):
    truth, missing = scene(*shape).astype(np.float32), holes(*shape)
    image = Image(np.where(missing, -999, truth).astype(np.float32), axes)
    whole, parts = (inpaint(image, missing, recipe) for recipe in (tiny(**LEARN), tiled(tile, **LEARN)))
    assert in_pieces(whole) == 0
    assert in_pieces(parts) >= 2
    np.testing.assert_array_equal(parts.image.array[~missing], truth[~missing])
    one, many = (np.sqrt(np.mean((r.image.array - truth)[missing] ** 2)) for r in (whole, parts))
    assert many < 1.3 * one


def test_full_supervision_leaves_no_seams():
    """On a smooth ramp with noise, what a border adds to the differences of neighbours is within the result's noise."""
    y, x = np.mgrid[:96, :112]
    ramp = 500 + 2.0 * x + 1.5 * y
    image = Image((ramp + np.random.default_rng(0).normal(0, 20, ramp.shape)).astype(np.float32), "YX")
    result = denoise(image, tiled(48, **LEARN | {"fit": {"steps": 150, "rate": 0.01}}, **FULL))
    assert result.report.recipe.supervision.kind == "full"
    assert in_pieces(result) >= 4
    error = result.image.array - ramp
    assert error.std() < 0.7 * 20
    steps = np.abs(np.diff(error, axis=1)).mean(axis=0)
    edges = {e for box, _ in large.line(112, 48, 8, 2) for e in (box.start - 1, box.stop - 1) if 0 <= e < 111}
    at_border = np.array([steps[e] for e in sorted(edges)])
    elsewhere = np.array([s for e, s in enumerate(steps) if e not in edges])
    assert at_border.mean() < elsewhere.mean() + 2 * elsewhere.std()


def test_finer_voxels_piece_by_piece_have_the_whole_ones_geometry():
    image = Image(scene(64, 72).astype(np.uint16), "YX", (0.5, 0.25), ("micrometer",) * 2)
    whole, parts = (super_resolve(image, (2, 3), recipe) for recipe in (tiny(**LEARN), tiled(**LEARN)))
    assert in_pieces(parts) >= 4
    assert parts.image.shape == whole.image.shape == (128, 216)
    assert parts.image.spacing == whole.image.spacing
    assert parts.image.dtype == np.uint16
    difference = parts.image.array.astype(float) - whole.image.array
    assert np.sqrt(np.mean(difference**2)) < 0.1 * np.ptp(whole.image.array.astype(float))
    assert abs(difference.mean()) < 1


@pytest.mark.parametrize("task", ["fuse", "deconvolve"])
def test_other_tasks_go_piece_by_piece_too(task):
    image, guide = noisy(64, 80), scene(64, 80)
    psf = np.full((3, 3), 1 / 9)
    result = fuse(image, guide, tiled(**LEARN)) if task == "fuse" else deconvolve(image, psf, tiled(**LEARN))
    assert in_pieces(result) >= 2
    assert result.image.shape == image.shape
    # Better than nothing was done, everywhere.
    truth, before = scene(64, 80), image.array
    for part in (np.s_[:32, :40], np.s_[32:, :40], np.s_[:32, 40:], np.s_[32:, 40:]):
        assert np.std((result.image.array - truth)[part]) < np.std((before - truth)[part])


def test_a_piece_without_anything_known_looks_further():
    truth = scene(96, 96).astype(np.float32)
    missing = np.zeros(truth.shape, bool)
    missing[24:72, 24:72] = True
    result = inpaint(Image(np.where(missing, 0, truth), "YX"), missing, tiled(**LEARN))
    assert in_pieces(result) >= 4
    filled = result.image.array
    np.testing.assert_array_equal(filled[~missing], truth[~missing])
    assert filled[missing].min() > truth.min() - 40
    assert filled[missing].max() < truth.max() + 40


def test_only_pieces_in_which_something_is_asked_for_are_worked_on():
    missing = np.zeros((96, 96), bool)
    missing[5:9, 5:9] = True
    image = noisy(96, 96)
    result = inpaint(image, missing, tiled(48))
    assert in_pieces(result) == 1
    np.testing.assert_array_equal(result.image.array[~missing], image.array[~missing])
    region = np.zeros((96, 96), bool)
    region[60:90, 60:90] = True
    within = denoise(image, tiled(48, **FULL), region=region)
    assert in_pieces(within) < in_pieces(denoise(image, tiled(48, **FULL)))
    np.testing.assert_array_equal(within.image.array[~region], image.array[~region])
    assert (within.image.array != image.array)[region].mean() > 0.9


def test_where_memory_is_short_pieces_are_halved(monkeypatch):
    seen, begin = [], fitting.start

    def short(problem, *rest):
        seen.append(problem.observation.shape[2:])
        if np.prod(seen[-1]) > 1200:
            raise MemoryError
        return begin(problem, *rest)

    monkeypatch.setattr(fitting, "start", short)
    image = noisy(48, 64)
    result = denoise(image, tiled(48, **FULL))
    assert max(map(np.prod, seen)) > 1200
    assert min(map(np.prod, seen)) <= 1200
    assert (result.image.array != image.array).mean() > 0.9
    weights = np.zeros(image.shape)
    chosen = result.report.recipe
    cut = pieces.Pieces(
        image, Inpaint.of(image, holes(48, 64)), chosen.merged({"output": {"tile": 48}}), None, CPU, None
    )
    (first, *_), count = list(cut), cut.count
    cut.split(first)
    for half in cut:
        weights[half.box] += large.outer(half.ramps)
    np.testing.assert_allclose(weights[first.box], large.outer(first.ramps), atol=1e-6)
    assert cut.count > count

    monkeypatch.setattr(fitting, "start", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(FitError, match="not enough memory for a piece"):
        denoise(image, tiled(48, **FULL))


CPU = torch.device("cpu")


def test_a_fit_begins_where_the_one_before_it_ended(monkeypatch):
    given, ended, steps, begin = [], [], [], fitting.start

    def spy(problem, prepared, recipe, *rest):
        given.append(rest[-1])
        steps.append(recipe.fit.steps)
        fitted = yield from begin(problem, prepared, recipe, *rest)
        ended.append(fitted.weights)
        return fitted

    monkeypatch.setattr(fitting, "start", spy)
    inpaint(noisy(40, 150), holes(40, 150), tiled())
    assert steps == [5, *[2] * (len(steps) - 1)]
    assert given[0] is None
    assert len(ended) > 2
    for warm, before in zip(given[1:], ended[:-1], strict=True):
        assert torch.equal(warm, before)
        assert before.abs().sum() > 0


def test_networks_begin_with_the_weights_they_are_given():
    build = partial(torch.nn.Conv2d, 2, 3, 3)
    first, second = (fresh(build, 2, seed, CPU) for seed in (0, 1))
    begin_with(second, weights_of(first))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    before = weights_of(second)
    begin_with(second, torch.zeros(3))
    assert torch.equal(weights_of(second), before)


def test_a_cancelled_run_keeps_what_is_done_and_leaves_the_rest():
    image, cancel = noisy(64, 128), threading.Event()
    run = iter_restore(image, tiled(48, **LEARN, **FULL), cancel=cancel)
    for progress in run:
        if progress.step > 1.2 * progress.steps / 8:
            cancel.set()
            break
    result = finish(run)
    assert result.report.reason is StopReason.CANCELLED
    assert any("the rest is as it was" in note for note in result.report.notes)
    changed = result.image.array != image.array
    assert 0 < changed.mean() < 0.9


def test_a_run_that_was_cut_off_goes_on_and_ends_the_same(tmp_path):
    image, recipe = noisy(64, 96), tiled(48, **LEARN, **FULL)
    alone = denoise(image, recipe).image.array
    run = iter_restore(image, recipe, checkpoint=tmp_path / "run.npz")
    for progress in run:
        if progress.step > 0.6 * progress.steps:
            break
    run.close()
    again = denoise(image, recipe, checkpoint=tmp_path / "run.npz")
    assert any("went on from a checkpoint" in note and "pieces were done" in note for note in again.report.notes)
    np.testing.assert_array_equal(again.image.array, alone)


def test_previews_show_the_whole_image():
    image = noisy(64, 96)
    run = iter_restore(image, tiled(48, **LEARN, **FULL))
    for progress in run:
        if progress.step > 0.4 * progress.steps:
            break
    shown = progress.preview()
    assert shown.shape == image.shape
    assert 0.05 < (np.abs(shown - image.array) > 1e-3).mean() < 1
    run.close()


def test_what_is_large_goes_piece_by_piece_unasked(monkeypatch):
    image = noisy(64, 64)
    assert in_pieces(denoise(image, tiny(**FULL))) == 0
    monkeypatch.setattr(large, "EDGE", {"2d": 40, "3d": 20})
    monkeypatch.setattr(sample, "LARGE", 1000)
    assert in_pieces(denoise(image, tiny(**FULL))) > 1
    monkeypatch.setattr(sample, "LARGE", 2**25)
    monkeypatch.setattr(pieces, "free_room", lambda *_: 1000)
    assert in_pieces(denoise(image, tiny(**FULL))) > 1
    assert in_pieces(inpaint(image, holes(64, 64), tiny())) == 0
