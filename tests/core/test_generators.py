"""Generators: any size in 2D and 3D, and every network of the reference."""

import itertools

import pytest
import torch

from dip_sci.errors import RecipeError
from dip_sci.generators import build, input_grid
from dip_sci.generators.layers import Dropout, reseed, strides_by_scale
from dip_sci.recipe import Recipe

SIZES = [(8, 8), (9, 13), (33, 17), (31, 64), (8, 100), (3, 16, 17), (1, 9, 9), (9, 11, 13), (16, 16, 8), (2, 8, 40)]


def options(**generator):
    return Recipe.parse({"generator": {"kind": "hourglass", "channels": (8, 8, 8), **generator}}).generator


def network(shape, inside=3, outside=2, seed=0, spacing=None, **generator):
    torch.manual_seed(seed)
    spacing = spacing or (1.0,) * len(shape)
    return build(options(**generator), inside=inside, outside=outside, shape=shape, spacing=spacing)


@pytest.fixture(autouse=True)
def own_random_state():
    """Weights come from torch's global state: leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["hourglass", "unet"])
@pytest.mark.parametrize("downsample", ["stride", "average", "max"])
def test_a_generator_keeps_any_size(shape, kind, downsample):
    for upsample in ("nearest", "linear"):
        net = network(shape, kind=kind, downsample=downsample, upsample=(upsample,), channels=(4, 4, 4, 4, 4))
        out = net(torch.rand(2, 3, *shape))
        assert out.shape == (2, 2, *shape)
        assert out.dtype == torch.float32
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("shape", [(9, 13), (3, 9, 13)], ids=str)
@pytest.mark.parametrize("kind", ["hourglass", "unet"])
@pytest.mark.parametrize("kernels", [(1,), (3,), (5,), (7, 5)])
def test_kernels_of_any_odd_size_fit(shape, kind, kernels):
    channels = (4, 4) if kind == "hourglass" else (4, 4, 4)
    net = network(shape, kind=kind, channels=channels, kernel_down=kernels, kernel_up=kernels)
    assert net(torch.rand(1, 3, *shape)).shape == (1, 2, *shape)


@pytest.mark.parametrize("kind", ["hourglass", "unet"])
def test_weights_follow_torchs_random_state(kind):
    a, b, c = (network((16, 16), kind=kind, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("shape", [(16, 16), (8, 16, 16)])
def test_the_unet_starts_at_zero(shape):
    net = network(shape, kind="unet")
    assert torch.equal(net(torch.randn(1, 3, *shape)), torch.zeros(1, 2, *shape))


def test_the_hourglass_does_not_start_at_zero():
    assert network((16, 16))(torch.rand(1, 3, 16, 16)).abs().sum() > 0


def test_a_sigmoid_bounds_the_output():
    net = network((16, 16), output="sigmoid")
    torch.nn.init.constant_(net.head.conv.bias, 30.0)
    out = net(100 * torch.randn(1, 3, 16, 16))
    assert out.min() >= 0
    assert 0.99 < out.max() <= 1
    linear = network((16, 16))
    torch.nn.init.constant_(linear.head.conv.bias, 30.0)
    assert linear(torch.rand(1, 3, 16, 16)).max() > 2


# What is known of each network of the reference: its options and the kernels, strides and joins that follow.
ROWS = {
    "denoising (F16)": ({"channels": (128,) * 5, "skip_channels": (4,), "upsample": ("linear",)}, 32),
    "jpeg": ({"channels": (8, 16, 32, 64, 128), "skip_channels": (0, 0, 0, 4, 4), "upsample": ("linear",)}, 3),
    "super-resolution": ({"channels": (128,) * 5, "skip_channels": (4,), "upsample": ("linear",)}, 32),
    "text": ({"channels": (128,) * 5, "skip_channels": (128,), "upsample": ("nearest",)}, 32),
    "vase": ({"channels": (128,) * 5, "skip_channels": (0,), "upsample": ("nearest",)}, 2),
    "library": (
        {
            "channels": (16, 32, 64, 128, 128, 128),
            "kernel_down": (5,),
            "pointwise": False,
            "skip_channels": (0,),
            "upsample": ("nearest",),
        },
        1,
    ),
    "half missing": ({"channels": (128,) * 5, "skip_channels": (4,), "upsample": ("linear",)}, 32),
    "98 % missing": (
        {"channels": (16, 32, 64, 128, 128), "downsample": "average", "skip_channels": (0,), "upsample": ("linear",)},
        32,
    ),
    "flash": (
        {
            "channels": (128,) * 5,
            "skip_channels": (4,),
            "upsample": ("nearest", "nearest", "linear", "linear", "linear"),
        },
        3,
    ),
    "pre-image": (
        {
            "channels": (16, 32, 64, 128, 128, 128),
            "kernel_down": (7, 7, 5, 5, 3, 3),
            "kernel_up": (7, 7, 5, 5, 3, 3),
            "downsample": "average",
            "skip_channels": (4,),
            "upsample": ("nearest",),
        },
        32,
    ),
}


def conv(inside, outside, kernel):
    """Weights and biases of a 2D convolution, and the two numbers per channel of the batch norm after it."""
    return inside * outside * kernel**2 + outside + 2 * outside


def parameters(inside, outside, *, channels, skip_channels, kernel_down=(3,), kernel_up=(3,), pointwise=True, **_):
    """The number of parameters of the reference's skip network, from its description alone."""
    n = len(channels)
    skips, downs, ups = (v * n if len(v) == 1 else v for v in (skip_channels, kernel_down, kernel_up))
    total = channels[0] * outside + outside
    for k in range(n):
        before = channels[k - 1] if k else inside
        below = channels[k + 1] if k + 1 < n else channels[k]
        total += conv(before, channels[k], downs[k]) + conv(channels[k], channels[k], downs[k])
        total += conv(before, skips[k], 1) if skips[k] else 0
        total += 2 * (skips[k] + below)
        total += conv(skips[k] + below, channels[k], ups[k])
        total += conv(channels[k], channels[k], 1) if pointwise else 0
    return total


@pytest.mark.parametrize("row", ROWS)
def test_every_network_of_the_reference_can_be_said(row):
    said, inside = ROWS[row]
    net = network((64, 64), inside=inside, outside=3, **said, output="sigmoid")
    assert count(net) == parameters(inside, 3, **said)
    with torch.no_grad():
        assert net(torch.rand(1, inside, 64, 64)).shape == (1, 3, 64, 64)


def test_the_reference_network_has_about_two_million_parameters():
    said, inside = ROWS["denoising (F16)"]
    net = network((256, 256), inside=inside, outside=3, **said)
    assert count(net) == pytest.approx(2.2e6, rel=0.05)
    kinds = [type(m).__name__ for m in net.modules()]
    assert kinds.count("Conv2d") == 5 * 5 + 1
    assert kinds.count("BatchNorm2d") == 5 * 6
    assert all(m.negative_slope == 0.2 for m in net.modules() if isinstance(m, torch.nn.LeakyReLU))


def by_size(net, shape, inside=3):
    """Spatial sizes that the network's convolutions see, in order."""
    seen = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[2:])))
        for m in net.modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)
    ]
    with torch.no_grad():
        net(torch.rand(1, inside, *shape))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", ["hourglass", "unet"])
@pytest.mark.parametrize("downsample", ["stride", "average", "max"])
def test_each_scale_is_half_the_one_above(kind, downsample):
    channels = (4,) * (5 if kind == "hourglass" else 6)
    sizes = by_size(network((128, 128), kind=kind, channels=channels, downsample=downsample), (128, 128))
    assert set(sizes) == {(128 >> k,) * 2 for k in range(6)}


def test_an_anisotropic_volume_shrinks_in_plane_first():
    net = network((16, 64, 64), spacing=(4, 1, 1), channels=(4,) * 4)
    sizes = by_size(net, (16, 64, 64))
    assert {(16, 32, 32), (16, 16, 16), (8, 8, 8)} <= set(sizes)


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((256, 256), (1, 1), [(2, 2)] * 5),
        ((64, 64, 64), (1, 1, 1), [(2, 2, 2)] * 3),
        # 5 : 1, then 5 : 2, then 5 : 4, which is near enough.
        ((64, 256, 256), (5, 1, 1), [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]),
        # 3.3 : 1 like CT: once in plane is 3.3 : 2, still more than 1.5.
        ((16, 200, 200), (3.27, 0.98, 0.98), [(1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        ((256, 64, 256), (1, 5, 1), [(2, 1, 2), (2, 1, 2), (2, 2, 2)]),
        # Axes already too short are left alone, and do not hold the others back.
        ((3, 64, 64), (1, 1, 1), [(1, 2, 2)] * 3),
        ((3, 64, 64), (0.1, 1, 1), [(1, 2, 2)] * 3),
        ((8, 8), (1, 1), [(2, 2), (1, 1), (1, 1)]),
        ((64, 64), (1.2, 1.0), [(2, 2)] * 3),
    ],
)
def test_strides_follow_the_spacing(shape, spacing, expected):
    assert strides_by_scale(shape, spacing, len(expected)) == expected


@pytest.mark.parametrize("shape", [(7, 9, 1000), (15, 31, 8), (1, 17, 17)])
def test_no_axis_is_shrunk_below_use(shape):
    sizes = list(shape)
    for stride in strides_by_scale(shape, (1, 1, 1), 12):
        sizes = [-(-n // k) for n, k in zip(sizes, stride, strict=True)]
    for before, after in zip(shape, sizes, strict=True):
        assert min(before, 4) <= after < 8


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ({"channels": (8, 0, 8)}, "must be positive"),
        ({"kernel_down": (3, 3)}, "kernel_down holds 2 values for 3 scales"),
        ({"kernel_up": (3,) * 4}, "kernel_up holds 4 values for 3 scales"),
        ({"upsample": ("linear",) * 2}, "upsample holds 2"),
        ({"up_channels": (8, 8)}, "up_channels holds 2"),
        ({"skip_channels": (4, 4)}, "skip_channels holds 2"),
    ],
)
def test_lists_that_do_not_fit_are_named(generator, says):
    with pytest.raises(RecipeError, match=says):
        network((16, 16), **generator)


def test_the_way_up_may_be_narrower():
    net = network((16, 16), channels=(16, 16, 16), up_channels=(4, 6, 8))
    assert net(torch.rand(1, 3, 16, 16)).shape == (1, 2, 16, 16)
    assert net.head.conv.in_channels == 4
    assert count(net) < count(network((16, 16), channels=(16, 16, 16)))


@pytest.mark.parametrize(("norm", "name"), [("batch", "BatchNorm"), ("instance", "InstanceNorm")])
@pytest.mark.parametrize("kind", ["hourglass", "unet"])
@pytest.mark.parametrize("shape", [(16, 16), (8, 16, 16)])
def test_normalisation_looks_at_the_current_image_only(norm, name, kind, shape):
    net = network(shape, kind=kind, norm=norm)
    layers = [m for m in net.modules() if type(m).__name__ == f"{name}{len(shape)}d"]
    assert layers
    assert all(m.weight is not None for m in layers)
    x = torch.rand(1, 3, *shape)
    with torch.no_grad():
        trained = net.train()(x)
        net(5 + 100 * torch.rand(1, 3, *shape))
        assert torch.equal(net.eval()(x), trained)
    assert not any("Norm" in type(m).__name__ for m in network(shape, kind=kind, norm="none").modules())


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("kind", ["hourglass", "unet"])
@pytest.mark.parametrize("downsample", ["stride", "average", "max"])
@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (2, 9, 9)], ids=str)
def test_every_normalisation_can_learn_from_the_smallest_image(norm, kind, downsample, shape):
    for upsample in ("nearest", "linear"):
        net = network(shape, kind=kind, norm=norm, downsample=downsample, upsample=(upsample,), channels=(4,) * 5)
        (net.train()(torch.rand(1, 3, *shape)) - 1).square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
        assert any(p.grad.abs().sum() > 0 for p in net.parameters())


def test_auto_normalisation_is_batch_for_the_hourglass_and_none_for_the_unet():
    names = {kind: str(network((16, 16), kind=kind)) for kind in ("hourglass", "unet")}
    assert "BatchNorm2d" in names["hourglass"]
    assert "Norm" not in names["unet"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    drop = Dropout(share)
    out = drop(torch.ones(2, 8, 64, 64))
    assert (out == 0).float().mean() == pytest.approx(share, abs=0.02)
    assert out.mean() == pytest.approx(1, abs=0.03)
    assert not torch.equal(out, drop(torch.ones(2, 8, 64, 64)))
    assert torch.equal(drop.eval()(torch.ones(2, 8, 4, 4)), torch.ones(2, 8, 4, 4))


def test_dropout_masks_are_a_function_of_the_key():
    torch.manual_seed(0)
    net = torch.nn.Sequential(Dropout(0.5), Dropout(0.5))
    x = torch.ones(1, 4, 16, 16)
    drawn = []
    for key in ((0, 1), (0, 2), (0, 1)):
        reseed(net, *key)
        drawn.append(net(x))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


OTHERS = ["classic_unet", "resnet", "deep_decoder", "conv_decoder", "pixels"]


def other(kind, shape, inside=3, seed=0, spacing=None, **generator):
    """A small network of one of the other kinds, and an input for it."""
    if kind != "pixels":
        generator.setdefault("channels", (4,) * 4)
    said = Recipe.parse({"generator": {"kind": kind, **generator}}).generator
    spacing = spacing or (1.0,) * len(shape)
    torch.manual_seed(seed)
    net = build(said, inside=inside, outside=2, shape=shape, spacing=spacing)
    return net, torch.rand(1, inside, *input_grid(said, shape, spacing))


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("kind", OTHERS)
def test_the_others_make_an_image_of_any_size(kind, shape):
    for output in ("linear", "sigmoid"):
        net, z = other(kind, shape, output=output)
        out = net(z)
        assert out.shape == (1, 2, *shape)
        assert out.dtype == torch.float32
        assert torch.isfinite(out).all()
        if output == "sigmoid":
            assert out.min() >= 0
            assert out.max() <= 1


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("shape", [(17, 13), (6, 9, 13)], ids=str)
def test_every_weight_of_the_others_learns(kind, shape):
    net, z = other(kind, shape)
    target = torch.rand(1, 2, *shape)
    (net(z) - target).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    learns = [name for name, p in net.named_parameters() if p.grad.abs().max() > 1e-9]
    # A bias before a normalisation is taken out again; everything else must be reached.
    idle = {n for n, _ in net.named_parameters()} - set(learns)
    assert all(name.endswith("conv.bias") for name in idle)


@pytest.mark.parametrize("kind", OTHERS[:-1])
def test_the_others_follow_torchs_random_state(kind):
    a, b, c = (other(kind, (16, 16), seed=s)[0].state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(("width", "published"), [(128, 100_224), (64, 25_536)])
def test_the_deep_decoder_has_the_published_number_of_weights(width, published):
    said = Recipe.parse({"generator": {"kind": "deep_decoder", "channels": (width,) * 6}}).generator
    net = build(said, inside=width, outside=3, shape=(512, 512), spacing=(1, 1))
    assert count(net) == published
    assert input_grid(said, (512, 512), (1, 1)) == (16, 16)
    assert input_grid(said, (500, 333), (1, 1)) == (16, 11)


def test_the_deep_decoder_is_relu_then_normalisation_then_a_mixture():
    net, z = other("deep_decoder", (32, 32), channels=(6, 6), upsample=("linear",))
    x = z
    for k, size in enumerate([(32, 32), (32, 32)]):
        x = torch.einsum("oi,bi...->bo...", net.mix[k].conv.weight[:, :, 0, 0], x)
        if k == 0:
            x = torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = torch.relu(x)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = torch.einsum("oi,bi...->bo...", net.head.conv.weight[:, :, 0, 0], x)
    assert torch.allclose(net(z), expected, atol=1e-5)


def test_the_papers_other_networks_have_their_size():
    resnet, _ = other("resnet", (64, 64), inside=32, channels=(32,) * 8)
    # First and last convolution, 8 blocks of two without biases, one more; two numbers per channel of 17 norms.
    square = 32 * 32 * 9
    assert count(resnet) == (square + 32) + 16 * square + (square + 32) + (32 * 2 * 9 + 2) + 17 * 64
    unet, _ = other("classic_unet", (64, 64), inside=32, channels=(16, 32, 64, 128, 256))
    widths, total = (32, 16, 32, 64, 128, 256), 16 * 2 + 2
    for before, after in itertools.pairwise(widths):
        total += conv(before, after, 3) + conv(after, after, 3)
    for fine, coarse in itertools.pairwise(widths[1:]):
        total += coarse * fine * 16 + fine + conv(2 * fine, fine, 3) + conv(fine, fine, 3)
    assert count(unet) == total
    assert sum(type(m).__name__ == "InstanceNorm2d" for m in unet.modules()) == 18


def test_an_anisotropic_volume_grows_in_plane_last():
    net, z = other("deep_decoder", (16, 64, 64), spacing=(4, 1, 1))
    assert z.shape[2:] == (8, 8, 8)
    assert net.sizes == [(16, 16, 16), (16, 32, 32), (16, 64, 64), (16, 64, 64)]


def test_the_conv_decoder_grows_by_the_same_factor_each_time():
    net, z = other("conv_decoder", (512, 256), channels=(4,) * 7)
    assert z.shape[2:] == (8, 4)
    assert net.sizes == [(8, 4), (16, 8), (32, 16), (64, 32), (128, 64), (256, 128), (512, 256)]
    assert other("conv_decoder", (100, 7), channels=(4,))[0].sizes == [(100, 7)]


@pytest.mark.parametrize("kind", ["deep_decoder", "conv_decoder"])
def test_pixels_are_deaf_to_their_input_and_decoders_are_not(kind):
    pixels, z = other("pixels", (8, 8))
    assert torch.equal(pixels(z), pixels(z + 1))
    assert count(pixels) == 2 * 8 * 8
    decoder, z = other(kind, (8, 8))
    assert not torch.equal(decoder(z), decoder(torch.rand_like(z)))


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ({"kind": "resnet", "skip_channels": (4,)}, "skip_channels belongs to hourglass; resnet has none"),
        ({"kind": "deep_decoder", "kernel_up": (5,)}, "kernel_up belongs to hourglass, unet, conv_decoder"),
        ({"kind": "classic_unet", "upsample": ("linear",)}, "upsample belongs to"),
        ({"kind": "pixels", "channels": (8,)}, "channels belongs to"),
        ({"kind": "hourglass", "dropout": 0.3}, "dropout belongs to unet"),
        ({"kind": "unet", "output": "sigmoid"}, "output belongs to"),
        ({"kind": "conv_decoder", "downsample": "max"}, "downsample belongs to"),
    ],
)
def test_what_a_generator_has_not_is_refused(generator, says):
    with pytest.raises(RecipeError, match=says):
        Recipe.parse({"generator": generator})


def test_blocks_of_the_resnet_are_alike():
    with pytest.raises(RecipeError, match="alike for all blocks"):
        other("resnet", (16, 16), channels=(8, 16))
