"""Compression: an image becomes a small file, and comes out again with its grid, from nothing but that file."""

import contextlib
import io
import json
import pickle
import threading
import zipfile

import numpy as np
import pytest
import torch
from scenes import scene
from skimage.transform import resize

import dip_sci
from dip_sci.coded import Rounded, decoded, encoded
from dip_sci.compressed import Packed
from dip_sci.compression import compress, iter_compress
from dip_sci.decompression import decompress, fixed_input, network_of
from dip_sci.errors import ImageError, ReadError, RecipeError, WriteError
from dip_sci.image import Image, Source

AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -4], [0, 0, 2.0, 7], [0, 0, 0, 1]])


def stored(values, dtype):
    return np.rint(values).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


IMAGES = {
    "plane": Image(stored(scene(96, 83), np.uint8), "YX", (0.3, 0.3), ("micrometer",) * 2),
    "colour": Image(stored(np.stack([scene(64, 64, seed=k) for k in range(3)], -1), np.uint8), "YXS"),
    "volume": Image(
        stored(scene(12, 40, 36), np.int16),
        "ZYX",
        (2.0, 0.5, 0.5),
        ("millimeter",) * 3,
        AFFINE,
        value_range=(-1024.0, 3071.0),
        source=Source(channels=("DAPI",)),
    ),
    "series": Image(np.stack([scene(48, 40, seed=k) for k in range(4)]).astype(np.float32), "TYX"),
    "channels": Image(np.stack([[scene(8, 24, 24, seed=k)] * 2 for k in range(2)]).astype(np.float64), "TCZYX"),
}


def quick(image, **options):
    return compress(image, **{"factor": 4.0, "steps": 30, "device": "cpu", **options})


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_comes_back_on_its_grid(name, tmp_path):
    image = IMAGES[name]
    result = quick(image)
    path = result.save(tmp_path / "image.npz")
    back = dip_sci.decompress(path)
    assert np.array_equal(back.array, result.image.array)
    assert (back.dtype, back.axes, back.shape) == (image.dtype, image.axes, image.shape)
    assert (back.spacing, back.units, back.value_range) == (image.spacing, image.units, image.value_range)
    assert back.source.channels == image.source.channels
    assert (back.affine is None) if image.affine is None else np.array_equal(back.affine, image.affine)
    assert result.factor == image.array.nbytes / path.stat().st_size >= 4
    error = np.square(back.array.astype(float) - image.array).mean()
    assert result.psnr == pytest.approx(10 * np.log10(np.ptp(image.array.astype(float)) ** 2 / error))
    assert error < image.array.astype(float).var()


def test_the_file_is_smaller_than_half_of_what_was_asked_at_most():
    for factor in (2.0, 5.0, 10.0):
        found = quick(IMAGES["colour"], factor=factor, steps=3).factor
        assert factor <= found < 1.4 * factor


@pytest.mark.parametrize("name", ["plane", "volume"])
def test_the_same_seed_gives_the_same_file(name):
    a, b, c = (quick(IMAGES[name], seed=s, steps=5) for s in (1, 1, 2))
    assert a.content == b.content != c.content


def test_at_equal_size_it_beats_plain_downsampling():
    y, x = np.mgrid[0:96, 0:96] / 96
    values = 100 + 60 * np.sign(np.sin(9 * np.hypot(x - 0.3, y - 0.6))) + 20 * np.sin(7 * x + 2 * y)
    image = Image(values.astype(np.float32), "YX")
    result = compress(image, factor=16.0, steps=400, device="cpu")
    side = int(96 / np.sqrt(result.factor)) + 1
    small = resize(values, (side, side), order=1, anti_aliasing=True)
    errors = [np.square(resize(small, values.shape, order=order) - values).mean() for order in (1, 3)]
    assert np.square(result.image.array - values).mean() < 0.8 * min(errors)


def test_stored_weights_may_be_exact():
    found = [quick(IMAGES["plane"], weights=w, factor=2.0) for w in ("int8", "float16", "float32")]
    assert [Packed.from_bytes(f.content).weights.dtype.name for f in found] == ["int8", "float16", "float32"]
    assert found[0].width > 1.3 * found[1].width
    assert found[1].width > 1.3 * found[2].width


def test_rounded_weights_stand_for_more_than_exact_ones_in_as_many_bytes():
    image = Image(stored(scene(128, 128), np.uint8), "YX")
    rounded, exact = (compress(image, weights=w, steps=600, device="cpu") for w in ("int8", "float16"))
    assert min(rounded.factor, exact.factor) >= 8
    assert rounded.psnr > exact.psnr + 0.5


def test_rounded_weights_are_those_that_the_file_keeps_and_learn_as_if_exact():
    header = Packed.from_bytes(packed()).header
    network = network_of(header)
    z = torch.from_numpy(fixed_input(header))
    near = Rounded(network)
    expected = near(z)
    expected.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.head.parameters())
    back = decoded(*encoded(network.parameters()), [p.numel() for p in network.parameters()])
    exact = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    assert 0 < np.abs(back - exact).max() <= np.abs(exact).max() / 254
    torch.nn.utils.vector_to_parameters(torch.from_numpy(back), network.parameters())
    assert torch.equal(network(z), expected)


def test_steps_that_do_not_fit_the_network_are_refused():
    with np.load(io.BytesIO(packed())) as file:
        parts = dict(file)
    for steps in (
        parts["steps"][:-1],
        parts["steps"][None],
        parts["steps"].astype(np.float64),
        parts["steps"] * np.nan,
        None,
    ):
        out = io.BytesIO()
        np.savez(out, **{name: part for name, part in (parts | {"steps": steps}).items() if part is not None})
        with pytest.raises(ReadError, match="damaged"):
            decompress(out.getvalue())


def test_what_was_not_measured_stays_so():
    values = scene(64, 64).astype(np.float32)
    values[:5] = np.nan
    valid = np.ones((64, 64), bool)
    valid[:, 60:] = False
    values[:, 60:] = np.where(np.isnan(values[:, 60:]), np.nan, -1000)
    back = quick(Image(values, "YX", valid=valid), steps=60).image
    assert np.array_equal(back.valid, np.isfinite(values) & valid)
    assert np.isfinite(back.array[back.valid]).all()
    assert np.isnan(back.array[~back.valid]).all()
    scan = Image(stored(np.where(valid, scene(64, 64), -1000), np.int16), "YX", valid=valid)
    back = quick(scan).image
    assert (back.array[~valid] == -1000).all()


def test_it_goes_by_steps_and_ends_when_asked():
    stop = threading.Event()
    seen = []
    run = iter_compress(IMAGES["series"], factor=4.0, steps=50, device="cpu", cancel=stop)
    try:
        while True:
            seen.append(next(run))
            stop.set()
    except StopIteration as end:
        result = end.value
    assert [p.step for p in seen] == [1]
    assert seen[0].preview().shape == IMAGES["series"].shape
    assert result.reason.name == "CANCELLED"
    assert decompress(result.content).shape == IMAGES["series"].shape


def test_both_fits_are_reported_as_one():
    seen = list(iter_compress(IMAGES["plane"], factor=4.0, steps=20, device="cpu"))
    assert [p.step for p in seen] == list(range(1, 21))
    assert {p.steps for p in seen} == {20}
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)
    assert seen[-1].eta == 0


def test_torchs_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    quick(IMAGES["plane"], steps=2)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("image", "options", "error", "says"),
    [
        (Image(np.ones((8, 8), bool), "YX"), {}, ImageError, "type bool cannot be compressed"),
        (Image(np.full((8, 8), np.nan), "YX"), {}, ImageError, "no finite, measured voxel"),
        (
            IMAGES["plane"],
            {"factor": 500.0},
            ImageError,
            r"cannot be made 500 times smaller: the smallest network reaches",
        ),
        (IMAGES["plane"], {"factor": 0.0}, RecipeError, "factor must be positive, found 0"),
        (IMAGES["plane"], {"factor": float("nan")}, RecipeError, "factor must be positive"),
        (IMAGES["plane"], {"weights": "int4"}, RecipeError, "not as int4"),
        (IMAGES["plane"], {"steps": 0}, RecipeError, "found 0 and 0"),
        (IMAGES["plane"], {"device": "cuda:63"}, RecipeError, "cuda:63"),
    ],
)
def test_what_cannot_be_compressed_is_named(image, options, error, says):
    with pytest.raises(error, match=says):
        quick(image, **options)


def test_a_constant_image_is_no_trouble():
    result = quick(Image(np.full((40, 40), 7, np.uint16), "YX"), factor=2.0)
    assert (result.image.array == 7).all()
    assert result.psnr == float("inf")


def test_a_target_is_never_replaced_by_accident(tmp_path):
    result = quick(IMAGES["plane"], steps=1)
    with pytest.raises(WriteError, match=r"written as \.npz"):
        result.save(tmp_path / "image.nii")
    path = result.save(tmp_path / "image.npz")
    with pytest.raises(WriteError, match="exists already"):
        result.save(path)
    result.save(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["image.npz"]


def packed():
    return quick(IMAGES["plane"], steps=1).content


def changed(content, **header):
    """The same file with another header."""
    with np.load(io.BytesIO(content)) as parts:
        said = json.loads(parts["header"].tobytes()) | header
        out = io.BytesIO()
        np.savez(out, **(dict(parts) | {"header": np.frombuffer(json.dumps(said).encode(), np.uint8)}))
    return out.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        {"shape": [96]},
        {"shape": [96, 84, 1]},
        {"shape": [-1, 83]},
        {"shape": [10**6, 10**6]},
        {"shape": [10**30, 10**30]},
        {"axes": "YY"},
        {"axes": "AB"},
        {"spatial": "ZYX"},
        {"dtype": "object"},
        {"dtype": "O"},
        {"width": 10**6},
        {"width": 7},
        {"layers": 12},
        {"layers": 1},
        {"centre": [1.0, 2.0]},
        {"scale": [0.0]},
        {"scale": ["x"]},
        {"affine": [[1, 0, 0, 0]]},
        {"spacing": [0.3]},
        {"spacing": [0.3, -1]},
        {"made_by": "someone"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_lying_file_is_refused(header):
    with pytest.raises(ReadError):
        decompress(changed(packed(), **header))


def test_any_damage_is_refused_or_harmless():
    content = packed()
    rng = np.random.default_rng(0)
    for _ in range(150):
        raw = bytearray(content)
        for at in rng.integers(0, len(raw), 4):
            raw[at] = rng.integers(256)
        with contextlib.suppress(ReadError):
            assert decompress(bytes(raw)).shape == (96, 83)
    for cut in (0, 1, 30, 200, len(content) // 2, len(content) - 1):
        with pytest.raises(ReadError, match="compress"):
            decompress(content[:cut])


def test_nothing_in_a_file_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("written").write_text, ("x",))

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("header.npy", pickle.dumps(Evil()))
        archive.writestr("weights.npy", pickle.dumps(Evil()))
    with pytest.raises(ReadError):
        decompress(out.getvalue())
    out = io.BytesIO()
    np.savez(out, header=np.array([Evil()], dtype=object), weights=np.zeros(3, np.float16))
    with pytest.raises(ReadError):
        decompress(out.getvalue())
    assert not (tmp_path / "written").exists()


def test_a_bomb_is_refused_before_it_bursts():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", b"\0" * 50_000_000)
    with pytest.raises(ReadError):
        decompress(out.getvalue())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReadError, match=r"missing\.npz cannot be read"):
        decompress(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ReadError, match=r"text\.npz: This is no file of dip-sci compress"):
        decompress(tmp_path / "text.npz")
