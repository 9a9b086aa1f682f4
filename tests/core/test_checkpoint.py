"""A run that was cut off goes on from its checkpoint and ends as if it had not been."""

import itertools
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from scenes import noisy, tiny

from dip_sci import checkpoint as module
from dip_sci import functions, patches
from dip_sci.checkpoint import Checkpoint
from dip_sci.errors import WriteError
from dip_sci.finished import first_of
from dip_sci.restore import denoise, iter_restore

FULL = {"supervision": {"kind": "full"}}
WAYS = {
    "hide": {},
    "split": {"supervision": {"recorrupt": "split", "passes": 3}},
    "blend": {"output": {"classical": "blend"}},
    "3d": {"generator": {"ndim": "3d"}},
    "two networks": {"fit": {"seeds": 2}},
    "full": FULL,
    "windowed": {**FULL, "stop": {"rule": "windowed_variance", "window": 5, "min_start": 0}},
    "moving": {**FULL, "stop": {"rule": "moving_variance", "min_start": 0}},
    "held out": {"stop": {"rule": "held_out"}},
    "sure": {"stop": {"rule": "sure"}},
}
STEPS = 28


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Save at each step, and leave it to the system when that reaches the disk."""
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(module, "SHARE", 1e9)
    monkeypatch.setattr("dip_sci.io.files._to_disk", lambda path: None)


def recipe_of(way):
    changes = WAYS[way]
    return tiny(**changes).merged({"fit": {"steps": STEPS}})


def image_of(way):
    # Two planes, which full supervision fits one after the other.
    shape = (8, 24, 24) if way == "3d" else (2, 24, 24)
    return noisy(*shape, axes="ZYX", spacing=(1.0,) * 3)


def cut_off(image, recipe, path, after):
    run = iter_restore(image, recipe, checkpoint=path)
    done = len(list(itertools.islice(run, after)))
    run.close()
    return done


def same(a, b):
    assert np.array_equal(a.image.array, b.image.array)
    told = ("reason", "steps", "best_step", "data_terms", "stop_curve", "weights", "risks")
    assert {n: getattr(a.report, n) for n in told} == {n: getattr(b.report, n) for n in told}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_cut_off_anywhere_ends_bit_equal(way, tmp_path, monkeypatch):
    turns = itertools.count()
    monkeypatch.setattr(Checkpoint, "due", lambda self: next(turns) % 4 == 3)
    image, recipe = image_of(way), recipe_of(way)
    whole = denoise(image, recipe)
    steps = sum(1 for _ in iter_restore(image, recipe))
    # Beyond a state that a diverged fit goes back to; at the end, among the passes.
    for after in (27, steps - 1):
        path, turns = tmp_path / f"{after}.npz", itertools.count(after)
        cut_off(image, recipe, path, after)
        again = denoise(image, recipe, checkpoint=path)
        same(whole, again)
        assert any("went on from a checkpoint" in note for note in again.report.notes)


def _asked(name, image, recipe, path):
    """Each of the tasks beside denoising, through its public function."""
    missing = np.zeros(image.shape, bool)
    missing[:, 5:9, 6:11] = True
    psf = np.zeros((3, 3), np.float32)
    psf[1], psf[:, 1] = 0.2, 0.2
    given = {"inpaint": missing, "super_resolve": 2, "fuse": image.array, "deconvolve": psf}
    return getattr(functions, name)(image, given[name], recipe, checkpoint=path)


@pytest.mark.parametrize("name", ["inpaint", "super_resolve", "fuse", "deconvolve"])
def test_every_task_goes_on_from_its_checkpoint(name, tmp_path, monkeypatch):
    image, recipe, path = image_of("hide"), tiny(fit={"steps": 12}), tmp_path / "run.npz"
    whole = _asked(name, image, recipe, None)
    save, left = Checkpoint.save, [6]

    def cut(self, state):
        save(self, state)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        _asked(name, image, recipe, path)
    again = _asked(name, image, recipe, path)
    assert np.array_equal(again.image.array, whole.image.array)
    # Where noise is removed first, that is what was cut off.
    assert first_of(path).exists() or any("went on from a checkpoint" in note for note in again.report.notes)


def test_what_the_blends_methods_have_made_is_not_made_again(tmp_path, monkeypatch):
    image, recipe = image_of("blend"), recipe_of("blend")
    made = []
    for name in ("low_rank", "refined"):
        method = getattr(patches, name)
        monkeypatch.setattr(patches, name, lambda *given, m=method, n=name, **how: made.append(n) or m(*given, **how))
    whole = denoise(image, recipe)
    all_made = list(made)
    assert {"low_rank", "refined"} <= set(all_made)
    steps = sum(1 for _ in iter_restore(image, recipe))
    left = []
    for after in (*range(STEPS + 2, steps, 6), steps):
        path = tmp_path / f"{after}.npz"
        cut_off(image, recipe, path, after)
        made.clear()
        same(whole, denoise(image, recipe, checkpoint=path))
        left.append(len(made))
    assert left == sorted(left, reverse=True)
    assert left[0] == len(all_made)
    # What was being made when it was cut off, at most.
    assert left[-1] <= 1


def test_cut_off_again_and_again_it_ends_bit_equal(tmp_path):
    image, recipe = image_of("hide"), recipe_of("hide")
    for after in (3, 4, 5, 20):
        cut_off(image, recipe, tmp_path / "run.npz", after)
    same(denoise(image, recipe), denoise(image, recipe, checkpoint=tmp_path / "run.npz"))


def test_steps_done_are_not_done_again(tmp_path):
    image, recipe = image_of("hide"), recipe_of("hide")
    cut_off(image, recipe, tmp_path / "run.npz", 20)
    first = next(iter_restore(image, recipe, checkpoint=tmp_path / "run.npz"))
    # The state of the last step yielded is saved after it: one step is lost.
    assert first.step == 20


def test_a_diverged_run_goes_back_to_the_same_state(tmp_path, monkeypatch):
    from dip_sci.fit import _Health

    judged, limit = _Health.diverged, [30]

    def diverged(self, data_term, of_base):
        limit[0] -= 1
        return limit[0] == 0 or judged(self, data_term, of_base)

    monkeypatch.setattr(_Health, "diverged", diverged)
    image, recipe = image_of("hide"), recipe_of("hide").merged({"fit": {"steps": 40}})
    whole = denoise(image, recipe)
    assert "restarted" in " ".join(whole.report.notes)
    limit[0] = 30 + 1
    cut_off(image, recipe, tmp_path / "run.npz", 28)
    # 28 steps begun, of which one was lost.
    limit[0] = 30 - 27
    same(whole, denoise(image, recipe, checkpoint=tmp_path / "run.npz"))


@pytest.mark.parametrize("change", ["image", "recipe", "region", "version"])
def test_a_checkpoint_of_something_else_is_left_out_of_account(change, tmp_path, monkeypatch):
    image, recipe, region = image_of("hide"), recipe_of("hide"), None
    path = tmp_path / "run.npz"
    cut_off(image, recipe, path, 9)
    if change == "image":
        image = image.with_array(image.array + 1)
    elif change == "recipe":
        recipe = recipe.merged({"seed": 1})
    elif change == "region":
        region = np.zeros(image.shape, bool)
        region[:, 2:20, 2:20] = True
    else:
        monkeypatch.setattr(module, "__version__", "99")
    again = denoise(image, recipe, region=region, checkpoint=path)
    assert any("of another image, recipe or version" in note for note in again.report.notes)
    same(denoise(image, recipe, region=region), again)


def test_a_damaged_checkpoint_is_left_out_of_account(tmp_path):
    image, recipe = image_of("hide"), recipe_of("hide")
    path = tmp_path / "run.npz"
    cut_off(image, recipe, path, 9)
    path.write_bytes(path.read_bytes()[:-200])
    again = denoise(image, recipe, checkpoint=path)
    assert any("damaged" in note for note in again.report.notes)
    same(denoise(image, recipe), again)


def test_a_file_that_is_none_is_neither_used_nor_replaced(tmp_path):
    path = tmp_path / "thesis.npz"
    path.write_text("three years of work")
    with pytest.raises(WriteError, match="no checkpoint"):
        denoise(image_of("hide"), recipe_of("hide"), checkpoint=path)
    assert path.read_text() == "three years of work"


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_run(tmp_path):
    again = denoise(image_of("hide"), recipe_of("hide"), checkpoint=tmp_path / "missing" / "run.npz")
    assert any("could not be saved" in note for note in again.report.notes)


@pytest.mark.parametrize("name", ["dip_sci", "data"])
def test_arrays_of_something_else_are_neither_used_nor_replaced(name, tmp_path):
    path = tmp_path / "run.npz"
    # An object would be unpickled, which executes what it says.
    np.savez(path, **{name: np.array([print], dtype=object) if name == "dip_sci" else np.ones(3)})
    before = path.read_bytes()
    with pytest.raises(WriteError, match="no checkpoint"):
        Checkpoint(path, "x")
    assert path.read_bytes() == before


def test_a_state_comes_back_as_it_was(tmp_path):
    weights = torch.rand(4, 1, 3, 3).to(memory_format=torch.channels_last)
    wide = torch.rand(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d)
    state = {"n": None, 3: [1.5, float("inf"), "a", True], "t": (weights, wide, torch.rand(3).bfloat16())}
    saved = Checkpoint(tmp_path / "state.npz", "x")
    saved.save({**state, "nan": float("nan")})
    found = Checkpoint(tmp_path / "state.npz", "x").state
    assert np.isnan(found.pop("nan"))
    assert found["n"] is None
    assert found[3] == state[3]
    assert isinstance(found["t"], tuple)
    for before, after in zip(state["t"], found["t"], strict=True):
        assert torch.equal(before, after)
        assert before.stride() == after.stride()


def _run_to_the_end(path, out):
    module.EVERY, module.SHARE = 0.0, 1e9
    torch.set_num_threads(1)
    result = denoise(image_of("blend"), recipe_of("blend").merged({"fit": {"steps": 150}}), checkpoint=path)
    np.save(out, result.image.array)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_at_random_moments_it_ends_bit_equal(tmp_path):
    processes = multiprocessing.get_context("spawn")
    rng, path = random.Random(0), tmp_path / "run.npz"

    def start(name, file):
        process = processes.Process(target=_run_to_the_end, args=(file, tmp_path / name))
        process.start()
        return process

    start("whole.npy", tmp_path / "other.npz").join(120)
    for _ in range(3):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = start("cut.npy", path)
        end = time.monotonic() + 60
        while (path.stat().st_mtime_ns if path.exists() else 0) == before and process.is_alive():
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert (
        Checkpoint(path, "another").note == "The checkpoint is of another image, recipe or version: the run began anew."
    )
    start("cut.npy", path).join(120)
    assert np.array_equal(np.load(tmp_path / "whole.npy"), np.load(tmp_path / "cut.npy"))
