"""The whole way: what goes in comes out with less noise, and everything else as it was."""

import itertools
import threading

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny

from dip_sci.cost import expected_cost
from dip_sci.errors import ImageError, RecipeError
from dip_sci.image import Image, Source
from dip_sci.restore import denoise, iter_restore
from dip_sci.stopping import StopReason

FULL = {"supervision": {"kind": "full"}}
SPLIT = {"supervision": {"recorrupt": "split"}}
WAYS = pytest.mark.parametrize("way", [{}, FULL, SPLIT], ids=["hide", "full", "split"])


def finish(run, watch=None):
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        if watch is not None:
            watch(progress)


@WAYS
def test_everything_but_the_values_is_kept(way):
    image = noisy(
        32,
        30,
        dtype=np.int16,
        spacing=(0.5, 0.25),
        units=("millimeter", "millimeter"),
        affine=np.diag([0.25, 0.5, 1, 1.0]),
        value_range=(-1024, 3071),
        source=Source("dicom", "a", {"k": 1}, ("Assumed something.",)),
        valid=np.ones((32, 30), bool),
    )
    before = image.array.copy()
    result = denoise(image, tiny(**way))
    out = result.image
    for name in ("axes", "spacing", "units", "value_range", "source", "dtype", "shape"):
        assert getattr(out, name) == getattr(image, name)
    np.testing.assert_array_equal(out.affine, image.affine)
    np.testing.assert_array_equal(out.valid, image.valid)
    np.testing.assert_array_equal(image.array, before)
    assert not np.array_equal(out.array, before)
    assert "Assumed something." in result.report.notes


LEARN = {
    "hide": ({"fit": {"steps": 60, "rate": 0.01}}, 0.5),
    "split": ({**SPLIT, "fit": {"steps": 60, "rate": 0.01}}, 0.5),
    "full": (
        {
            **FULL,
            "generator": {"channels": (8, 16, 16)},
            "input": {"channels": 8},
            "stop": {"rule": "fixed"},
            "fit": {"steps": 100, "rate": 0.03, "averaging": 0.9},
        },
        0.25,
    ),
}


@pytest.mark.parametrize("name", LEARN)
def test_noise_is_removed(name):
    changes, left = LEARN[name]
    image, clean = noisy(48, 48, sigma=12), scene(48, 48)
    out = denoise(image, tiny(**changes)).image.array
    assert np.mean((out - clean) ** 2) < left * np.mean((image.array - clean) ** 2)


@WAYS
def test_the_same_seed_gives_the_same_bits(way):
    image = noisy(24, 24)
    a, b, c = (denoise(image, tiny(**way, seed=s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.image.array, b.image.array)
    assert a.report.data_terms == b.report.data_terms
    assert not np.array_equal(a.image.array, c.image.array)


@WAYS
def test_torchs_random_state_is_left_alone(way):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = denoise(noisy(24, 24), tiny(**way)).image.array
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(denoise(noisy(24, 24), tiny(**way)).image.array, first)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">i2", ">f4"])
@WAYS
def test_the_stored_type_is_kept(kind, way):
    values = (scene(24, 24) + np.random.default_rng(0).normal(0, 8, (24, 24))) / 2
    image = Image(np.clip(values, 0, 127).astype(kind), "YX")
    out = denoise(image, tiny(**way)).image.array
    assert out.dtype == np.dtype(kind)
    assert np.isfinite(out).all()
    assert abs(out.astype(float).mean() - values.mean()) < 10


@pytest.mark.parametrize("kind", ["i8", "u8"])
@WAYS
def test_64_bit_integers_beyond_float64_are_kept_where_nothing_is_restored(kind, way):
    array = noisy(24, 24, 4, axes="YXS", dtype=kind).array
    array[..., 3] = 2**60 + 1
    array[:8] = 2**62 + 3
    region = np.zeros((24, 24), bool)
    region[16:] = True
    out = denoise(Image(array, "YXS"), tiny(**way), region=region).image.array
    np.testing.assert_array_equal(out[~region], array[~region])
    np.testing.assert_array_equal(out[..., 3], array[..., 3])
    flat = np.full((16, 16), 2**62 + 1, kind)
    flat[0] += 2
    np.testing.assert_array_equal(denoise(Image(flat, "YX"), tiny(fit={"steps": 0})).image.array, flat)


@WAYS
def test_a_large_offset_changes_nothing_else(way):
    base = noisy(32, 32, dtype=np.float64).array
    near, far = (denoise(Image(base + o, "YX"), tiny(**way, noise={"sigma": 8})).image.array for o in (0, 1e9))
    np.testing.assert_allclose(far - 1e9, near, atol=0.1)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_unit_of_the_values_does_not_matter(scale):
    base = noisy(32, 32, dtype=np.float64).array
    one, other = (denoise(Image(base * s, "YX"), tiny()).image.array / s for s in (1, scale))
    np.testing.assert_allclose(other, one, atol=0.1)


@pytest.mark.parametrize("kind", ["unet", "hourglass"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "axes"), [((33, 37), "YX"), ((9, 17, 18), "ZYX")])
@WAYS
def test_every_network_serves_every_supervision(way, shape, axes, precision, kind):
    image = noisy(*shape, axes=axes)
    generator = {"kind": kind, "ndim": f"{len(shape)}d"}
    result = denoise(image, tiny(**way, generator=generator, fit={"seeds": 2, "precision": precision}))
    assert np.isfinite(result.image.array).all()
    assert np.isfinite(result.spread.array).all()


@pytest.mark.parametrize("kind", ["u1", "i4", "f8"])
def test_float32_can_be_asked_for(kind):
    image = noisy(24, 24, dtype=kind)
    out = denoise(image, tiny(output={"dtype": "float32"})).image.array
    assert out.dtype == np.float32
    assert np.mean(out != np.rint(out)) > 0.9


@pytest.mark.parametrize("limits", [(0, 100), None])
def test_whole_numbers_are_rounded_clipped_and_counted(limits):
    image = noisy(32, 32, dtype=np.uint8, value_range=limits)
    exact = denoise(image, tiny(output={"dtype": "float32"})).image.array
    result = denoise(image, tiny())
    low, high = limits or (0, 255)
    np.testing.assert_array_equal(result.image.array, np.clip(np.rint(exact), low, high))
    assert result.report.clipped == np.count_nonzero((np.rint(exact) > high) | (np.rint(exact) < low))
    if limits:
        assert result.report.clipped > 50
        assert any(f"{result.report.clipped} voxels were clipped" in note for note in result.report.notes)


def test_coarse_numbers_are_warned_about():
    assert any("output.dtype" in n for n in denoise(noisy(32, 32, sigma=1, dtype=np.uint8), tiny()).report.notes)
    assert not any("output.dtype" in n for n in denoise(noisy(32, 32, sigma=9, dtype=np.uint8), tiny()).report.notes)
    assert not any("output.dtype" in n for n in denoise(noisy(32, 32, sigma=1), tiny()).report.notes)


def test_correlated_noise_is_warned_about():
    rng = np.random.default_rng(0)
    white = rng.normal(0, 8, (65, 65))
    blurred = white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]
    for noise, warned in ((white[1:, 1:], False), (blurred, True)):
        report = denoise(Image((scene(64, 64) + noise).astype(np.float32), "YX"), tiny()).report
        assert any("correlated" in note for note in report.notes) is warned


@WAYS
def test_outside_the_region_every_bit_is_kept(way):
    image = noisy(96, 40)
    image.array[90, 3] = np.nan
    image.array[91, 3] = -0.0
    region = np.zeros((96, 40), np.uint8)
    region[5:20, 10:30] = 2
    out = denoise(image, tiny(**way), region=region).image.array
    outside = region == 0
    assert out[outside].tobytes() == image.array[outside].tobytes()
    assert np.mean(out[~outside] != image.array[~outside]) > 0.95


def test_a_region_is_an_image_or_an_array_of_the_image_or_of_space():
    image = noisy(2, 3, 24, 24, axes="TCYX")
    plane = np.zeros((24, 24), bool)
    plane[8:16, 8:16] = True
    whole = np.broadcast_to(plane, image.shape)
    results = [
        denoise(image, tiny(), region=region).image.array
        for region in (plane, whole, Image(plane.astype(np.uint8), "YX"), plane.astype(np.float32))
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
    assert (results[0] != image.array)[whole].mean() > 0.95
    np.testing.assert_array_equal(results[0][~whole], image.array[~whole])


def test_a_region_may_count_more_while_all_is_restored():
    image = noisy(40, 64, sigma=2.0)
    region = np.zeros(image.shape, bool)
    region[:, :20] = True

    def miss(weight):
        options = {"fit": {"steps": 60, "outside": weight, "rate": 0.01, "averaging": 0.0}}
        out = denoise(image, tiny(**FULL, **options, output={"outside": "restore"}), region=region).image.array
        assert (out != image.array).mean() > 0.99
        return [np.square(out - image.array)[part].mean() for part in (region, ~region)]

    (inside, outside), (even_inside, even_outside) = miss(0.001), miss(1.0)
    # What the network is good for goes into the region, at the cost of the rest.
    assert inside < 0.8 * even_inside
    assert outside > even_outside


def test_a_region_may_differ_from_frame_to_frame():
    image = noisy(2, 24, 24, axes="TYX")
    region = np.zeros(image.shape, bool)
    region[1, 4:12, 4:12] = True
    out = denoise(image, tiny(), region=region).image.array
    np.testing.assert_array_equal(out != image.array, region)


def test_what_is_not_a_number_is_outside_the_region():
    image = noisy(24, 24)
    region = np.full((24, 24), np.nan)
    region[4:12, 4:12] = 1
    out = denoise(image, tiny(), region=region).image.array
    np.testing.assert_array_equal(out[region != 1], image.array[region != 1])
    assert np.mean(out[region == 1] != image.array[region == 1]) > 0.95


@WAYS
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_stay_and_do_not_leak(way, fill):
    image = noisy(32, 32)
    spoiled = image.array.copy()
    spoiled[3:9, 20:] = fill
    spoiled[0, 0] = fill
    out = denoise(Image(spoiled, "YX"), tiny(**way)).image.array
    held = ~np.isfinite(spoiled)
    np.testing.assert_array_equal(out[held], spoiled[held])
    assert np.isfinite(out[~held]).all()
    assert np.mean(out[~held] != spoiled[~held]) > 0.95
    masked = Image(image.array, "YX", valid=~held)
    np.testing.assert_array_equal(denoise(masked, tiny(**way)).image.array[~held], out[~held])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(
    "way", [{}, FULL, SPLIT, {**FULL, "input": {"kind": "image"}}], ids=["hide", "full", "split", "image"]
)
def test_padding_stays_and_does_not_leak(way, dtype):
    image = noisy(40, 32, dtype=dtype)
    valid = np.ones((40, 32), bool)
    valid[:9] = False
    valid[:, 28:] = False
    outs = []
    for fill in (-2000, 0, 32000):
        array = np.where(valid, image.array, np.array(fill, dtype))
        outs.append(denoise(Image(array, "YX", valid=valid), tiny(**way)).image.array)
        np.testing.assert_array_equal(outs[-1][~valid], array[~valid])
    np.testing.assert_array_equal(outs[0][valid], outs[1][valid])
    np.testing.assert_array_equal(outs[0][valid], outs[2][valid])
    assert np.mean(outs[0][valid] != image.array[valid]) > 0.5


@WAYS
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_a_constant_image_is_returned_as_it_is(way, dtype):
    array = np.full((16, 16), 77, dtype)
    result = denoise(Image(array, "YX"), tiny(**way))
    assert result.report.reason is StopReason.NOTHING
    np.testing.assert_array_equal(result.image.array, array)
    assert result.report.steps == 0
    assert result.spread is None


def test_an_image_constant_where_it_was_measured_is_constant():
    array = np.full((16, 16), 77, np.float32)
    array[:3] = np.nan
    result = denoise(Image(array, "YX"), tiny())
    assert result.report.reason is StopReason.NOTHING
    np.testing.assert_array_equal(result.image.array, array)


@WAYS
@pytest.mark.parametrize("axes", ["CYX", "SYX"])
def test_a_constant_channel_is_kept_and_the_others_are_restored(way, axes):
    image = noisy(3, 24, 24, axes=axes)
    image.array[1] = 7
    result = denoise(image, tiny(**way, fit={"steps": 30}))
    np.testing.assert_array_equal(result.image.array[1], image.array[1])
    assert np.mean(result.image.array[[0, 2]] != image.array[[0, 2]]) > 0.95
    assert not any("diverged" in note for note in result.report.notes)


@WAYS
@pytest.mark.parametrize("axes", ["CYX", "SYX"])
def test_a_channel_without_measured_voxels_is_kept_and_the_others_are_restored(way, axes):
    image = noisy(3, 24, 24, axes=axes)
    image.array[1] = np.nan
    result = denoise(image, tiny(**way))
    assert np.isnan(result.image.array[1]).all()
    assert np.isfinite(result.image.array[[0, 2]]).all()
    assert np.mean(result.image.array[[0, 2]] != image.array[[0, 2]]) > 0.95
    assert result.report.noise[1] == "No voxel of this channel was measured."


@WAYS
def test_no_steps_return_the_image_as_it_is(way):
    image = noisy(16, 16)
    seen = []
    result = finish(iter_restore(image, tiny(**way, fit={"steps": 0})), seen.append)
    assert result.report.reason is StopReason.NOTHING
    assert result.image.array.tobytes() == image.array.tobytes()
    assert seen == []


@pytest.mark.parametrize(
    ("array", "axes", "says"),
    [
        (np.full((16, 16), np.nan), "YX", "no finite, measured voxel"),
        (np.ones((1, 1), np.float32), "YX", r"too small .*\(1, 1\)"),
        (np.eye(7, 32), "YX", r"too small .*\(7, 32\) \(YX\).* 8 voxels"),
        (np.zeros((32, 32, 5)) + np.arange(5), "ZYX", r"too small .*\(32, 32, 5\)"),
        (scene(16, 16) * 1e200, "YX", "beyond single precision"),
        (scene(16, 16) * 1e-200, "YX", "beyond single precision"),
        (np.eye(16, dtype=bool), "YX", "true and false"),
        (np.eye(16, dtype=np.complex64), "YX", "type complex64"),
    ],
)
def test_images_that_cannot_be_restored_are_refused(array, axes, says):
    with pytest.raises(ImageError, match=says):
        denoise(Image(array, axes), tiny())


def test_an_image_of_padding_alone_is_refused():
    image = noisy(16, 16, valid=np.zeros((16, 16), bool))
    with pytest.raises(ImageError, match="no finite, measured voxel"):
        denoise(image, tiny())


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (np.ones((16, 17)), r"shape \(16, 17\) fits neither the image's \(2, 16, 16\) \(TYX\) nor .*\(16, 16\)"),
        (np.ones((2, 16)), r"shape \(2, 16\)"),
        (np.zeros((16, 16)), "no non-zero voxel"),
        (np.pad(np.zeros((15, 15)), ((1, 0), (1, 0)), constant_values=1)[::-1], None),
    ],
)
def test_regions_that_do_not_fit_are_refused(region, says):
    image = noisy(2, 16, 16, axes="TYX")
    if says is None:
        denoise(image, tiny(), region=region)
        return
    with pytest.raises(ImageError, match=says):
        denoise(image, tiny(), region=region)


def test_a_region_without_a_measured_voxel_is_refused():
    image = noisy(16, 16)
    image.array[:4] = np.nan
    region = np.zeros((16, 16), bool)
    region[:4] = True
    with pytest.raises(ImageError, match="holds no measured voxel"):
        denoise(image, tiny(), region=region)


@WAYS
@pytest.mark.parametrize(
    ("shape", "axes", "images", "samples"),
    [
        ((24, 20, 3), "YXS", 1, 3),
        ((3, 24, 20), "SYX", 1, 3),
        ((2, 3, 24, 20), "TCYX", 6, 1),
        ((24, 20, 2), "YXC", 2, 1),
        ((2, 3, 24, 20), "ZTYX", 6, 1),
    ],
)
def test_every_arrangement_of_axes_is_restored(way, shape, axes, images, samples):
    rng = np.random.default_rng(0)
    planes = scene(24, 20) + 50 * np.arange(np.prod(shape) // 480).reshape(-1, 1, 1)
    sizes = dict(zip(axes, shape, strict=True))
    rest = [a for a in axes if a not in "YX"]
    clean = planes.reshape(*(sizes[a] for a in rest), 24, 20)
    clean = clean.transpose([[*rest, "Y", "X"].index(a) for a in axes])
    image = Image((clean + rng.normal(0, 8, shape)).astype(np.float32), axes)
    counts = []
    result = finish(iter_restore(image, tiny(**way)), lambda p: counts.append((p.step, p.steps)))
    out = result.image.array
    assert out.shape == shape
    assert (result.image.axes, np.isfinite(out).all()) == (axes, True)
    if way != FULL:
        # Planes 50 apart: one put in another's place would show. (Five steps from nothing are too few to tell.)
        over = tuple(k for k, a in enumerate(axes) if a in "YX")
        np.testing.assert_allclose(out.mean(over), clean.mean(over), atol=20)
    channels = sizes.get("C", 1)
    assert len(result.report.noise) == channels * samples
    total = 5 * (images if way == FULL else 1)
    assert counts[:total] == [(k, total) for k in range(1, total + 1)]
    assert counts[total:] == ([] if way == FULL else [(total, total)]), "one of two passes"


@WAYS
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("samples", [2, 4])
def test_alpha_is_kept_bit_for_bit(way, dtype, samples):
    image = noisy(24, 20, samples, axes="YXS", dtype=dtype)
    image.array[..., -1] = np.random.default_rng(0).integers(0, 255, (24, 20))
    result = denoise(image, tiny(**way))
    assert result.image.array[..., -1].tobytes() == image.array[..., -1].tobytes()
    assert np.mean(result.image.array[..., :-1] != image.array[..., :-1]) > 0.5
    assert len(result.report.noise) == samples - 1


@WAYS
def test_alpha_does_not_influence_the_colours(way):
    image = noisy(24, 20, 4, axes="YXS")
    other = image.array.copy()
    other[..., 3] = 5
    outs = [denoise(Image(a, "YXS"), tiny(**way)).image.array[..., :3] for a in (image.array, other)]
    np.testing.assert_array_equal(*outs)


@WAYS
@pytest.mark.parametrize("shape", [(3, 16, 18), (9, 12, 11), (2, 8, 8)])
def test_a_volume_is_restored_in_3d(way, shape):
    image = noisy(*shape, axes="ZYX", spacing=(2.0, 1.0, 1.0))
    result = denoise(image, tiny(**way, generator={"ndim": "3d"}))
    assert result.image.shape == shape
    assert np.isfinite(result.image.array).all()
    assert result.report.recipe.generator.ndim == "3d"
    assert np.mean(result.image.array != image.array) > 0.95


@pytest.mark.parametrize(
    ("shape", "spacing", "ndim"),
    [((3, 16, 16), (1.0,) * 3, "2d"), ((9, 16, 16), (1.0,) * 3, "3d"), ((9, 16, 16), (7.5, 1.0, 1.0), "2d")],
)
def test_dimensions_are_chosen_and_explained(shape, spacing, ndim):
    report = denoise(noisy(*shape, axes="ZYX", spacing=spacing), tiny()).report
    assert report.recipe.generator.ndim == ndim
    assert report.reasons["generator.ndim"].startswith(ndim)


def test_a_volume_in_time_is_restored_in_3d():
    result = denoise(noisy(2, 8, 12, 12, axes="TZYX"), tiny())
    assert result.report.recipe.generator.ndim == "3d"
    assert np.isfinite(result.image.array).all()


@WAYS
def test_previews_are_images_of_the_current_state(way):
    image = noisy(24, 20, 3, axes="YXS", dtype=np.uint8)
    region = np.zeros((24, 20), bool)
    region[4:20, 4:18] = True
    previews, recipe = [], tiny(**way, stop={"rule": "fixed"})
    result = finish(iter_restore(image, recipe, region=region), lambda p: previews.append(p.preview()))
    for preview in previews:
        assert preview.shape == image.shape
        assert preview.dtype.kind == "f"
        assert np.isfinite(preview).all()
        np.testing.assert_array_equal(preview[~region], image.array[~region])
    assert not np.array_equal(previews[0], previews[-1])
    if way == FULL:
        np.testing.assert_array_equal(np.rint(previews[-1]), result.image.array)
    np.testing.assert_array_equal(result.image.array, denoise(image, recipe, region=region).image.array)


def test_previews_under_full_supervision_keep_the_images_already_done():
    image = noisy(2, 16, 16, axes="TYX")
    previews = [p.preview() for p in iter_restore(image, tiny(**FULL))]
    np.testing.assert_array_equal(previews[0][1], image.array[1])
    assert not np.array_equal(previews[0][0], image.array[0])
    np.testing.assert_array_equal(previews[5][0], previews[9][0])
    assert not np.array_equal(previews[9][1], image.array[1])


@WAYS
def test_cancelling_returns_what_there_is(way):
    cancel = threading.Event()
    run = iter_restore(noisy(24, 24), tiny(**way, fit={"steps": 1000}), cancel=cancel)
    for _ in itertools.islice(run, 3):
        pass
    cancel.set()
    result = finish(run)
    assert result.report.reason is StopReason.CANCELLED
    assert not result.report.complete
    assert result.report.steps == result.report.best_step == 3
    assert not np.array_equal(result.image.array, noisy(24, 24).array)


def test_cancelling_leaves_images_not_reached_as_they_are():
    image, cancel = noisy(3, 16, 16, axes="TYX"), threading.Event()
    run = iter_restore(image, tiny(**FULL), cancel=cancel)
    for _ in itertools.islice(run, 7):
        pass
    cancel.set()
    result = finish(run)
    changed = (result.image.array != image.array).mean((1, 2))
    assert (changed > 0.9).tolist() == [True, True, False]
    np.testing.assert_array_equal(result.image.array[2], image.array[2])
    assert any("first 2 of 3 images" in note for note in result.report.notes)


@WAYS
def test_time_ends_a_run(way):
    result = denoise(noisy(24, 24), tiny(**way, fit={"steps": 100_000}, stop={"max_seconds": 0.3}))
    assert result.report.reason is StopReason.TIME
    assert not result.report.complete
    assert np.isfinite(result.image.array).all()


@WAYS
def test_several_networks_give_a_mean_and_a_spread(way):
    image = noisy(24, 24)
    still = {**way, "input": {"jitter": 0.0}}
    two = denoise(image, tiny(**still, fit={"seeds": 2}))
    one = denoise(image, tiny(**still))
    assert one.spread is None
    assert two.spread.array.dtype == np.float32
    assert two.spread.axes == image.axes
    assert (two.spread.array > 0).mean() > 0.95
    # The first of the two is the single one; of two values the spread is their distance over the root of two.
    apart = np.abs(one.image.array - two.image.array)
    np.testing.assert_allclose(apart, two.spread.array / np.sqrt(2), atol=2e-2)
    three = denoise(image, tiny(**still, fit={"seeds": 3}))
    assert not np.array_equal(three.image.array, two.image.array)


def test_the_spread_is_zero_where_nothing_was_restored():
    image = noisy(24, 24, 4, axes="YXS")
    image.array[5, 5] = np.inf
    region = np.zeros((24, 24), bool)
    region[4:12] = True
    spread = denoise(image, tiny(fit={"seeds": 2}), region=region).spread.array
    assert (spread[~region] == 0).all()
    assert (spread[..., 3] == 0).all()
    assert (spread[5, 5] == 0).all()
    assert (spread[region][:, :3] > 0).mean() > 0.95


@WAYS
def test_the_report_says_how_it_came_about(way):
    report = denoise(noisy(24, 24), tiny(**way)).report
    assert (report.steps, report.best_step, report.reason) == (5, report.best_step, StopReason.STEPS)
    assert len(report.data_terms) == 5
    assert report.complete
    assert report.device.startswith("CPU")
    assert report.seconds > 0
    assert report.memory > 1e6
    assert report.recipe.fit.rate is not None
    assert report.noise[0].endswith(".")
    assert ("stop.rule" in report.reasons) is True
    assert bool(report.stop_curve) is (way == FULL)


def test_each_channel_has_its_own_noise():
    rng = np.random.default_rng(0)
    image = Image(np.stack([scene(64, 64) + rng.normal(0, s, (64, 64)) for s in (2, 20)]).astype(np.float32), "CYX")
    noise = denoise(image, tiny(noise={"model": "gaussian"})).report.noise
    found = [float(sentence.split("deviation ")[1].split(",")[0]) for sentence in noise]
    assert found == pytest.approx([2, 20], rel=0.1)


def test_photon_noise_is_restored_without_bias():
    rng = np.random.default_rng(0)
    clean = 2 + 30 * (np.indices((64, 64)).sum(0) / 126) ** 2
    image = Image((100 + 3 * rng.poisson(clean)).astype(np.float32), "YX")
    recipe = tiny(noise={"gain": 3.0, "offset": 100.0}, fit={"steps": 60, "rate": 0.01})
    result = denoise(image, recipe)
    photons = (result.image.array - 100) / 3
    assert "Poisson-Gaussian" in result.report.noise[0]
    assert photons.mean() == pytest.approx(clean.mean(), rel=0.05)
    assert np.mean((photons - clean) ** 2) < 0.4 * clean.mean()


@pytest.mark.parametrize("seed", range(3))
def test_an_almost_dark_image_stays_dark(seed):
    clean = np.full((48, 48), 0.05)
    clean[10:20, 10:20] = 30
    image = Image(np.random.default_rng(1).poisson(clean).astype(np.float32), "YX")
    changes = {"noise": {"gain": 1.0, "offset": 0.0}, "generator": {"channels": (16, 16, 16)}}
    out = denoise(image, tiny(**changes, fit={"steps": 60, "rate": 0.01}, seed=seed)).image.array
    assert out.min() >= 0
    assert out.max() < 1.5 * image.array.max()


@pytest.mark.parametrize("recorrupt", ["hide", "split"])
@pytest.mark.parametrize("seed", range(3))
def test_patches_of_empty_background_are_no_divergence(recorrupt, seed):
    image = noisy(128, 128)
    image.array[:, :80] = 0
    supervision = {"patch": 16, "recorrupt": recorrupt}
    report = denoise(image, tiny(fit={"steps": 60}, supervision=supervision, seed=seed)).report
    assert report.steps == 60
    assert not any("diverged" in note for note in report.notes)


def test_a_fit_too_short_for_its_held_out_rule_returns_its_last_step():
    report = denoise(noisy(32, 32), tiny(stop={"rule": "held_out"})).report
    assert (report.steps, report.best_step, report.stop_curve) == (5, 5, [])


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match=r"'cuda:63' is not available here \(there is: .*cpu"):
        denoise(noisy(16, 16), tiny(device="cuda:63"))


def test_a_cost_is_predicted_without_a_full_run():
    cost = expected_cost(noisy(24, 24), tiny(fit={"steps": 100_000}))
    assert cost.seconds > 10
    assert cost.memory > 1e6
    assert expected_cost(noisy(24, 24), tiny(fit={"steps": 0})).seconds < 10


@pytest.mark.parametrize("way", [{}, SPLIT], ids=["hide", "split"])
def test_an_image_larger_than_its_patch_is_restored_whole(way):
    image = noisy(64, 48, sigma=10)
    changes = {**way, "supervision": {**way.get("supervision", {}), "patch": 16}, "fit": {"steps": 40, "rate": 0.01}}
    out = denoise(image, tiny(**changes)).image.array
    clean = scene(64, 48)
    assert np.mean((out - clean) ** 2) < 0.8 * np.mean((image.array - clean) ** 2)


@pytest.mark.parametrize("axes", ["CYX", "TYX"])
def test_a_channel_or_frame_without_anything_in_it_takes_nothing_from_the_others(axes):
    plain = noisy(96, 96).array
    alone = denoise(Image(plain, "YX"), tiny(output={"classical": "blend"}))
    empty = np.zeros_like(plain)
    result = denoise(Image(np.stack([plain, empty, empty]), axes), tiny(output={"classical": "blend"}))
    assert "network alone" not in result.report.reasons["output.classical"]
    truth = scene(96, 96)

    def error(values):
        return float(np.square(values - truth).mean())

    assert error(result.image.array[0]) < 1.25 * error(alone.image.array)
    assert np.abs(result.image.array[1:]).max() < 2
