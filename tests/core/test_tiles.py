"""Tiles that are done are not done again: not after a crash, not by another worker, and to the last bit the same."""

import itertools

import numpy as np
import pytest

from dip_sci import finished, large, restore
from dip_sci.errors import FitError, WriteError
from dip_sci.image import Image
from dip_sci.lazy import Lazy
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise, finish, iter_restore, iter_tiles

RECIPE = Recipe.parse(
    {
        "device": "cpu",
        "generator": {"channels": [4, 4], "ndim": "2d"},
        "fit": {"steps": 3},
        "supervision": {"patch": 32, "passes": 2},
        "output": {"tile": 128, "classical": "none"},
        "noise": {"model": "gaussian", "sigma": 9.0},
    }
)
VALUES = np.random.default_rng(0).normal(100, 9, (2, 200, 220)).astype(np.float32)
SCAN = Image(VALUES, "ZYX", (2.0, 1.0, 1.0), ("millimeter",) * 3)
LEARN = slice(0, 0)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Leave it to the system when a file reaches the disk."""
    monkeypatch.setattr("dip_sci.io.files._to_disk", lambda path: None)


@pytest.fixture
def passes(monkeypatch):
    """The boxes of all tiles that are restored."""
    seen, made = [], large.Tiles._pass
    monkeypatch.setattr(large.Tiles, "_pass", lambda self, box: seen.append(box) or made(self, box))
    return seen


def kept(path):
    return sorted(finished.folder_of(path).glob("*.npy"))


def test_an_edge_makes_an_image_large(tmp_path):
    assert not restore.is_large(SCAN, RECIPE.merged({"output": {"tile": 220}}), restore.Task())
    assert restore.is_large(SCAN, RECIPE, restore.Task())
    notes = denoise(SCAN, RECIPE).report.notes
    assert any("The image is large" in note for note in notes)


@pytest.mark.parametrize("seeds", [1, 2])
def test_cut_off_among_its_tiles_it_does_the_others_only(seeds, tmp_path, passes):
    recipe = RECIPE.merged({"fit": {"seeds": seeds}})
    whole = denoise(SCAN, recipe)
    count, path = len(passes), tmp_path / "run.npz"
    run = iter_restore(SCAN, recipe, checkpoint=path)
    tiles = (progress.tiles for progress in run)
    assert list(itertools.islice((t for t in tiles if t is not None), 5))[-1] == 5 / count
    run.close()
    assert len(kept(path)) == 5
    passes.clear()
    again = denoise(SCAN, recipe, checkpoint=path)
    assert len(passes) == count - 5
    assert np.array_equal(again.image.array, whole.image.array)
    if seeds > 1:
        assert np.array_equal(again.spread.array, whole.spread.array)
    # To write it once more costs no tile at all.
    passes.clear()
    assert np.array_equal(denoise(SCAN, recipe, checkpoint=path).image.array, whole.image.array)
    assert passes == []
    finished.remove(path)
    assert list(tmp_path.iterdir()) == []


def test_several_do_their_share_and_one_puts_it_together(tmp_path, passes):
    whole, path = denoise(SCAN, RECIPE), tmp_path / "run.npz"
    passes.clear()
    count = finish(iter_tiles(SCAN, RECIPE, LEARN, path))
    assert passes == []
    state = path.read_bytes()
    for share in (slice(7, count), slice(0, 7)):
        assert finish(iter_tiles(SCAN, RECIPE, share, path)) == count
    assert len(passes) == count
    assert path.read_bytes() == state
    together = denoise(SCAN, RECIPE, checkpoint=path)
    assert len(passes) == count
    assert np.array_equal(together.image.array, whole.image.array)
    assert together.report.weights == whole.report.weights


def test_the_plan_is_that_of_whoever_learned(tmp_path, monkeypatch, passes):
    whole, path = denoise(SCAN, RECIPE), tmp_path / "run.npz"
    finish(iter_tiles(SCAN, RECIPE, LEARN, path))
    monkeypatch.setattr(large, "ROOM", 2**18)
    monkeypatch.setattr(large, "LEAST", {"2d": 96})
    again = denoise(SCAN, RECIPE, checkpoint=path)
    assert np.array_equal(again.image.array, whole.image.array)
    assert not np.array_equal(denoise(SCAN, RECIPE).image.array, whole.image.array), "smaller tiles, other digits"


def test_tiles_of_other_values_are_not_taken(tmp_path, passes):
    path = tmp_path / "run.npz"
    first = denoise(SCAN, RECIPE, checkpoint=path)
    count = len(kept(path))
    # A region is no part of what is learned: only those of its tiles that hold some border of it are others.
    region = np.zeros(SCAN.shape, bool)
    region[:, :150] = True
    passes.clear()
    part = denoise(SCAN, RECIPE, region=region, checkpoint=path)
    assert 0 < len(passes) <= count
    assert np.array_equal(part.image.array[~region], VALUES[~region])
    kept(path)[0].write_bytes(b"half of a tile")
    passes.clear()
    assert np.array_equal(denoise(SCAN, RECIPE, checkpoint=path).image.array, first.image.array)
    assert len(passes) <= 1


def test_nobody_does_tiles_before_it_was_learned(tmp_path):
    with pytest.raises(FitError, match="holds nothing that was learned"):
        finish(iter_tiles(SCAN, RECIPE, slice(0, 3), tmp_path / "run.npz"))
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_tiles_ends_a_share_and_not_a_run(tmp_path, monkeypatch):
    whole, path = denoise(SCAN, RECIPE), tmp_path / "run.npz"
    finish(iter_tiles(SCAN, RECIPE, LEARN, path))

    def full(self, name, values):
        raise WriteError("No space left on device.")

    monkeypatch.setattr(finished.Finished, "keep", full)
    with pytest.raises(WriteError, match="No space left"):
        finish(iter_tiles(SCAN, RECIPE, slice(0, 3), path))
    again = denoise(SCAN, RECIPE, checkpoint=path)
    assert np.array_equal(again.image.array, whole.image.array)
    assert any("could not be saved on the way: No space left" in note for note in again.report.notes)
    with pytest.raises(WriteError, match="could not be kept"):
        finish(iter_tiles(SCAN, RECIPE, LEARN, tmp_path / "missing" / "run.npz"))


def test_a_tile_reads_no_more_than_itself(tmp_path):
    largest = []

    def part(box):
        largest.append(max(b.stop - b.start for b in box))
        return VALUES[box]

    lazy = Image(Lazy(SCAN.shape, SCAN.dtype, part), "ZYX", SCAN.spacing, SCAN.units)
    finish(iter_tiles(lazy, RECIPE, LEARN, tmp_path / "run.npz"))
    largest.clear()
    finish(iter_tiles(lazy, RECIPE, slice(2, 4), tmp_path / "run.npz"))
    # Two tiles, read once to know them and once to restore them; and what was learned from.
    assert sum(edge <= 128 for edge in largest) == 4
