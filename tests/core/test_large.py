"""Large images: learned from parts, restored tile by tile, without seams, in the memory of a tile."""

import threading

import numpy as np
import pytest
import torch

from dip_sci import large, sample
from dip_sci.choices import decide
from dip_sci.errors import FitError, WriteError
from dip_sci.image import Image
from dip_sci.lazy import Lazy
from dip_sci.preparation import Preparation
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise, iter_restore
from dip_sci.scratch import Scratch
from dip_sci.stopping import StopReason

CPU = torch.device("cpu")
TINY = {
    "device": "cpu",
    "generator": {"channels": [4, 4]},
    "fit": {"steps": 3},
    "supervision": {"patch": 32, "passes": 1},
    "output": {"classical": "none"},
    # In whose standard deviations everything is measured.
    "noise": {"model": "gaussian", "sigma": 1.0},
}
NOISE = np.random.default_rng(0).standard_normal((40, 72, 96)).astype(np.float32)
RAMP = 500 + sum(np.meshgrid(*(s * np.arange(n) for s, n in zip((2, 3, 1.5), NOISE.shape, strict=True)), indexing="ij"))
VOLUME = Image((RAMP + 20 * NOISE).astype(np.float32), "ZYX", (1.0, 1.0, 1.0), ("millimeter",) * 3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Everything counts as large, and tiles are small."""
    monkeypatch.setattr(sample, "LARGE", 1000)
    monkeypatch.setattr(sample, "EDGES", {"2d": {"Y": 40, "X": 40}, "3d": {"Z": 20, "Y": 40, "X": 40}})
    monkeypatch.setattr(sample, "VOXELS", 2**17)
    monkeypatch.setattr(large, "EDGE", {"2d": 60, "3d": 40})
    monkeypatch.setattr(large, "LEAST", {"2d": 30, "3d": 20})
    monkeypatch.setattr(large, "MARGIN", {"2d": 12, "3d": 8})
    monkeypatch.setattr(large, "TRIM", {"2d": 3, "3d": 2})


def tiles(image, again, region=None, **options):
    """Tiles of an image with a function in the place of fitted networks."""
    recipe = decide(Recipe.parse({**TINY, **options}), image, fast_bfloat16=False).recipe
    ndim, series = str(recipe.generator.ndim), (recipe.generator.along, recipe.generator.neighbours or 0)
    places = sample.places(image, ndim, 0, series=series)
    along = image.axes.find(recipe.generator.along)
    frames = 1 if along < 0 else places[0][along].stop - places[0][along].start
    prepared = Preparation(sample.cut(image, places), recipe, None, frames=frames)
    return large.Tiles(image, region, prepared, again, ({"network": 1.0}, {}), CPU)


def brighter(problem, passes):
    return problem.observation[None] + 0.5


@pytest.mark.parametrize("length", [5, 20, 41, 59, 60, 61, 97, 130, 400])
@pytest.mark.parametrize(("margin", "trim"), [(0, 0), (1, 1), (6, 0), (6, 2), (5, 5)])
def test_weights_sum_to_one(length, margin, trim):
    total = np.zeros(length)
    for box, ramp in large.line(length, 30, margin, trim):
        assert box.stop - box.start <= 30
        assert ramp.min() >= 0
        total[box] += ramp
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "YXS", "TCZYX", "XZY"])
def test_what_changes_everywhere_alike_shows_no_tiles(axes):
    sizes = {"T": 2, "C": 2, "S": 3, "Z": 12, "Y": 70, "X": 90}
    values = np.random.default_rng(1).normal(100, 9, [sizes[a] for a in axes]).astype(np.float32)
    done = tiles(Image(values, axes), brighter)
    assert len(done.planned) > 3
    list(done.run())
    change = done.result()[0].array - values
    # Half of the standard deviation, of each channel.
    np.testing.assert_allclose(change, change.mean(), atol=0.4)
    if axes in ("YX", "ZYX"):
        np.testing.assert_allclose(change, 0.5 * done.prepared.scaling.width.item(), rtol=1e-3)


def test_mixtures_of_colours_are_tiled_as_they_were_learned():
    matrix = np.array([[1.6, -0.45, -0.15], [-0.3, 1.5, -0.2], [-0.05, -0.55, 1.6]])
    values = (100 + np.random.default_rng(1).normal(0, 9, (130, 150, 3)) @ matrix.T).astype(np.float32)
    values[..., 2] += 50
    done = tiles(Image(values, "YXS"), brighter, noise={"model": "auto", "sigma": None})
    assert done.prepared.noise.rotated
    list(done.run())
    change = done.result()[0].array - values
    half = 0.5 * done.prepared.scaling.width.flatten() * done.prepared.noise.sd.flatten()
    np.testing.assert_allclose(change, np.broadcast_to(half @ done.prepared.noise.mixing.to, change.shape), atol=0.01)


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", ">i2"])
def test_what_does_not_change_keeps_its_bits(kind):
    values = (VOLUME.array * 1000 if kind == "i4" else VOLUME.array / 8).astype(kind)
    if kind == "f4":
        values[3, 4, 5] = np.nan
    region = np.zeros(values.shape, bool)
    region[10:20, 30:, :50] = True
    done = tiles(Image(values, "ZYX"), brighter, region)
    list(done.run())
    result, clipped = done.result()
    assert clipped == 0
    assert result.array.dtype == values.dtype
    assert result.array[~region].tobytes() == values[~region].tobytes()
    assert (result.array[region] > values[region])[np.isfinite(values[region])].all()


def test_short_memory_halves_the_tile_and_goes_on():
    sizes = []

    def limited(problem, passes):
        size = problem.observation.numel()
        if size > 15_000:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory")
        sizes.append(size)
        return brighter(problem, passes)

    done = tiles(VOLUME, limited)
    assert np.prod(done.shape) > 15_000
    list(done.run())
    change = done.result()[0].array - VOLUME.array
    np.testing.assert_allclose(change, 0.5 * done.prepared.scaling.width.item(), rtol=1e-3)

    def never(problem, passes):
        raise MemoryError

    with pytest.raises(FitError, match="not enough memory for a tile of"):
        list(tiles(VOLUME, never).run())

    def broken(problem, passes):
        raise RuntimeError("sizes do not fit")

    with pytest.raises(RuntimeError, match="sizes do not fit"):
        list(tiles(VOLUME, broken).run())


def test_tiles_follow_the_free_memory(monkeypatch):
    most = np.prod(tiles(VOLUME, brighter).shape)
    monkeypatch.setattr(large, "ROOM", 2**21)
    assert np.prod(tiles(VOLUME, brighter).shape) < most


def test_a_smooth_ramp_shows_no_seams_and_no_bright_ends():
    recipe = Recipe.parse({**TINY, "generator": {"channels": [8, 8, 8]}, "fit": {"steps": 40}, "noise": {}})
    result = denoise(VOLUME, recipe)
    off = result.image.array - RAMP
    noise = off.std()
    assert noise < 4, "a fifth of the noise"
    assert any("learned from" in note for note in result.report.notes)
    done = tiles(VOLUME, brighter)
    for axis, (length, tile) in enumerate(zip(VOLUME.shape, done.shape, strict=True)):
        steps = np.abs(np.diff(off, axis=axis)).mean(axis=tuple(k for k in range(3) if k != axis))
        mean_steps = np.abs(np.diff(off.mean(axis=tuple(k for k in range(3) if k != axis))))
        borders = [edge for box, _ in large.line(length, tile, 8, 2) for edge in (box.start, box.stop - 1)]
        inside = [b for b in borders if 2 < b < length - 3]
        assert inside or not axis
        for b in inside:
            assert steps[b - 1 : b + 1].max() < noise
            assert mean_steps[b - 1 : b + 1].max() < 0.5 * noise
    for end in (off[0], off[-1], off[:, 0], off[:, -1]):
        assert abs(end.mean()) < 0.5 * 20, "half of the noise that was there"


def test_a_lazy_image_is_never_read_as_a_whole(tmp_path):
    largest = []

    def part(box):
        largest.append(VOLUME.array[box].size)
        return VOLUME.array[box]

    lazy = Image(Lazy(VOLUME.shape, VOLUME.dtype, part, (8, 24, 32)), "ZYX", VOLUME.spacing)
    result = denoise(lazy, Recipe.parse(TINY))
    assert result.image.is_lazy
    assert result.image.shape == VOLUME.shape
    # The parts to learn from and the tiles; counting what was clipped goes by whole planes of the chunks.
    assert sum(size > 40**3 for size in largest) <= 1
    np.testing.assert_array_equal(denoise(VOLUME, Recipe.parse(TINY)).image.array, result.image.loaded().array)
    largest.clear()
    same = denoise(lazy, Recipe.parse({**TINY, "fit": {"steps": 0}}))
    assert same.report.reason is StopReason.NOTHING
    assert same.image.array is lazy.array
    assert max(largest) <= 20 * 40 * 40
    assert denoise(lazy, Recipe.parse({**TINY, "fit": {"steps": 0}, "output": {"dtype": "float32"}})).image.is_lazy


def test_an_end_before_all_tiles_keeps_those_that_are_done():
    cancel = threading.Event()
    run = iter_restore(VOLUME, Recipe.parse(TINY), cancel=cancel)
    steps = 0
    while True:
        try:
            progress = next(run)
            steps += 1
            # Three steps, and two tiles.
            if steps == 5:
                assert progress.preview().shape == VOLUME.shape
                cancel.set()
        except StopIteration as end:
            result = end.value
            break
    assert result.report.reason is StopReason.CANCELLED
    assert any("of the image was restored before the end" in note for note in result.report.notes)
    changed = result.image.array != VOLUME.array
    assert changed[:10, :10, :10].all()
    assert not changed[-10:, -10:, -10:].any()


def test_frames_at_the_seams_see_the_neighbours_that_they_have():
    """Whatever tile a frame lies in, it is made of the same frames."""
    frames = Image(np.random.default_rng(1).normal(100, 9, (23, 50, 90)).astype(np.float32), "TYX")

    def mean_of_neighbours(problem, passes):
        assert problem.timed
        every = [problem.beside((slice(n, n + 1), *(slice(None),) * 3)) for n in range(len(problem.observation))]
        return torch.cat(every).mean(dim=1, keepdim=True)[None]

    done = tiles(frames, mean_of_neighbours, generator={"channels": [4, 4], "neighbours": 2})
    assert len({(box[0].start, box[0].stop) for box, _ in done.planned}) > 2
    list(done.run())
    values = frames.array
    others = (-2, -1, 1, 2)
    inner = np.mean([values[2 + k : len(values) - 2 + k] for k in others], axis=0)
    np.testing.assert_allclose(done.result()[0].array[2:-2], inner, atol=1e-3)


def test_a_large_series_is_learned_from_frames_that_follow_each_other():
    frames = Image((RAMP + 20 * NOISE).astype(np.float32), "TYX")
    result = denoise(frames, Recipe.parse({**TINY, "output": {"classical": "blend", "dtype": "float32"}}))
    assert result.report.recipe.generator.neighbours == 3
    assert any("through time" in name for name in result.report.risks)
    assert np.abs(result.image.array - RAMP).mean() < np.abs(frames.array - RAMP).mean()


@pytest.mark.parametrize(
    ("axes", "series"),
    [("YX", ("Z", 0)), ("ZYX", ("Z", 0)), ("TYX", ("T", 0)), ("TYX", ("T", 1)), ("CTYX", ("T", 1)), ("YXS", ("T", 0))],
)
def test_what_was_cut_out_goes_back_where_it_was(axes, series):
    sizes = {"T": 8, "C": 2, "S": 3, "Z": 12, "Y": 70, "X": 90}
    image = Image(np.random.default_rng(1).normal(100, 9, [sizes[a] for a in axes]).astype(np.float32), axes)
    boxes = sample.places(image, "3d" if "Z" in axes else "2d", 0, series=series)
    assert np.array_equal(sample.placed(image, boxes, sample.cut(image, boxes).array), image.array)
    changed = sample.placed(image, boxes[:1], sample.cut(image, boxes[:1]).array + 1) - image.array
    assert np.allclose(changed[boxes[0]], 1, atol=1e-4)
    assert np.count_nonzero(changed) == changed[boxes[0]].size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masked", [False, True])
def test_the_one_cell_of_an_empty_field_is_learned_from_and_hot_pixels_are_none(seed, masked, monkeypatch):
    monkeypatch.setattr(sample, "EDGES", {"2d": {"Y": 100, "X": 100}})
    monkeypatch.setattr(sample, "VOXELS", 4 * 100 * 100)
    rng = np.random.default_rng(seed)
    field = rng.normal(100, 5, (500, 500)).astype(np.float32)
    field[rng.integers(500, size=20), rng.integers(500, size=20)] = 60000
    field[205:225, 325:345] = rng.normal(400, 20, (20, 20))
    valid = None
    if masked:
        field[:, :200], valid = np.nan, np.ones(field.shape, bool)
        field[350:], valid[350:] = 5000, False
        field[390:] = -5000
    boxes = sample.places(Image(field, "YX", valid=valid), "2d", seed)
    assert len(boxes) == len(set(map(str, boxes))) == 4
    assert any(y.start < 215 < y.stop and x.start < 335 < x.stop for y, x in boxes)


def test_a_preview_of_the_parts_lies_in_the_whole():
    run = iter_restore(VOLUME, Recipe.parse(TINY))
    preview = next(run).preview()
    run.close()
    assert preview.shape == VOLUME.shape
    changed = preview != VOLUME.array
    boxes = sample.places(VOLUME, "3d", 0)
    inside = np.zeros(VOLUME.shape, bool)
    for box in boxes:
        inside[box] = True
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.99
    # What is seen there is the image as one step has it, and not another part of it.
    here, there = (np.abs(preview[boxes[0]] - VOLUME.array[box]).mean() for box in boxes[:2])
    assert here < 0.5 * there


@pytest.mark.parametrize("outside", ["keep", "restore"])
def test_a_region_of_a_large_image_is_all_that_changes_or_counts_more(outside):
    region = np.zeros(VOLUME.shape, bool)
    region[5:15, 10:30, 10:30] = True
    recipe = Recipe.parse({**TINY, "output": {"classical": "none", "outside": outside}})
    changed = denoise(VOLUME, recipe, region=region).image.array != VOLUME.array
    assert changed[region].mean() > 0.99
    assert changed[~region].mean() > 0.99 if outside == "restore" else not changed[~region].any()


def test_the_spread_of_several_networks():
    result = denoise(VOLUME, Recipe.parse({**TINY, "fit": {"steps": 2, "seeds": 2}}))
    assert (result.spread.array > 0).mean() > 0.99


def test_parts_lie_where_they_are_wanted():
    mask = np.zeros(VOLUME.shape, bool)
    mask[30:, 60:, 80:] = True
    boxes = sample.places(VOLUME, "3d", 0, [mask])
    assert boxes
    assert all(mask[box].any() for box in boxes)
    assert boxes != sample.places(VOLUME, "3d", 0)[: len(boxes)]
    assert sample.cut(VOLUME, boxes).shape == (len(boxes), 20, 40, 40)


def test_no_room_for_the_result_is_said_before_the_work(tmp_path):
    with pytest.raises(WriteError, match=r"cannot take .* free some room there"):
        Scratch((2**20, 2**20, 2**10), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0.0, -1000.3])
def test_padding_keeps_its_bits_in_whatever_tiles_it_lies(value):
    y, x = np.mgrid[-1:1:72j, -1:1:96j]
    inside = np.broadcast_to(np.hypot(y, x) < 0.8, VOLUME.shape)
    values = np.where(inside, VOLUME.array, np.float32(value)).astype(np.float32)
    done = tiles(Image(values, "ZYX", (1.0, 1.0, 1.0), ("millimeter",) * 3), brighter)
    list(done.run())
    result = done.result()[0].array
    assert result[~inside].tobytes() == values[~inside].tobytes()
    assert (result[inside] > values[inside]).all()
