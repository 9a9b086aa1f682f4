"""Natural pre-images: what layers of growing depth have kept of a picture.

Ulyanov, Vedaldi & Lempitsky, IJCV 2020, section 3.4, invert AlexNet and VGG; trained weights of those are not part of this
project, so that here it is five convolutions with strides and random weights, as deep as AlexNet's. Beside the prior,
as in the paper: pixels under total variation.

``DIP_SCI_DATA=... python -m benchmarks.paper.pre_image [--quick]``
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.paper import common
from dip_sci.inversion import pre_image
from dip_sci.recipe import Recipe

WIDTHS = (64, 192, 384, 256, 256)


def network() -> nn.Module:
    """Five convolutions, three of which halve the grid, with random weights of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts: list[nn.Module] = []
        before = 3
        for k, width in enumerate(WIDTHS):
            conv = nn.Conv2d(before, width, 5 if k == 0 else 3, stride=2 if k < 3 else 1, padding=2 if k == 0 else 1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            parts += [conv, nn.ReLU()]
            before = width
        return nn.Sequential(*parts)


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    steps = 150 if form.quick else 3100
    base = {"device": form.device, "fit": {"steps": steps}, "output": {"dtype": "float32"}}
    light = {"generator": {"channels": (16, 32, 64, 64, 64)}, "fit": {"rate": 0.005}} if form.quick else {}
    recipes = {
        "pixels + TV": Recipe.parse({**base, "generator": {"kind": "pixels", "output": "sigmoid"}}).merged(
            {"fit": {"rate": 0.05, "tv": 0.5}}
        ),
        "prior": Recipe.parse(base).merged(light),
    }
    rows, shown = [], []
    for path in ("ulyanov_data/feature_inversion/building.jpg", "ulyanov_data/feature_inversion/monkey.jpg"):
        truth = common.crop(common.picture(path), 96 if form.quick else None)
        name = path.rpartition("/")[2].partition(".")[0]
        for label, recipe in recipes.items():
            pictures = [("truth", truth)] if not shown or len(shown) % 2 == 0 else [("", truth)]
            for layer in (1, 5, 9) if form.quick else (1, 3, 5, 7, 9):
                result = pre_image(
                    network(), str(layer), common.image(truth), recipe, preprocess=lambda x: (x - 118) / 58
                )
                score, left = common.psnr(result.image.array, truth), result.report.data_terms[-1]
                rows.append([name, f"after convolution {layer // 2 + 1}", label, score, f"{left:.4f}"])
                pictures.append((f"{label}, layer {layer // 2 + 1}: {score:.1f}", result.image.array))
                print(*rows[-1], flush=True)
            shown.append(pictures)
    common.table(["picture", "layer", "by", "dB", "activations' error"], rows)
    print("In print, by eye: the prior's pre-images are natural where those of TV are smears, from the third layer on.")
    common.sheet("pre_image", shown, side=192)


if __name__ == "__main__":
    main()
