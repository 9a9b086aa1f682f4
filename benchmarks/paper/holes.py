"""Large holes by architecture: depth helps, skip connections hurt (Ulyanov, Vedaldi & Lempitsky, IJCV 2020).

The holes of `library` lie over real content, so that a PSNR inside them says something, if little: a filling may be
plausible and wrong. The pictures say more. `vase` is to be removed: there is no truth.

``DIP_SCI_DATA=... python -m benchmarks.paper.holes [--quick]``
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common
from dip_sci.functions import inpaint

WIDTHS = (16, 32, 64, 128, 128, 128)


def architectures(quick: bool) -> dict[str, dict[str, Any]]:
    """Return the generators that are compared, by name: parts of a recipe."""

    def hourglass(depth: int, skip: int, kernel: int = 5) -> dict[str, Any]:
        return {
            "generator": {
                "channels": WIDTHS[:depth],
                "skip_channels": [skip],
                "kernel_down": [3 if quick else kernel],
                "upsample": ["nearest"],
                "pointwise": False,
            },
            "input": {"channels": 1, "jitter": 0.0},
        }

    def other(kind: str, rate: float, **generator: Any) -> dict[str, Any]:
        return {"generator": {"kind": kind, **generator}, "input": {"jitter": 0.0}, "fit": {"rate": rate}}

    narrow = (16, 32, 64, 64, 64) if quick else (16, 32, 64, 128, 256)
    return {
        "depth 6": hourglass(6, 0),
        "depth 4": hourglass(4, 0),
        "depth 2": hourglass(2, 0),
        "depth 6, skips": hourglass(6, 4),
        "U-Net": other("classic_unet", 0.001, channels=narrow),
        "ResNet": other("resnet", 0.001, channels=(16,) * 8 if quick else (32,) * 8),
        "Deep Decoder": other("deep_decoder", 0.01, channels=(64,) * 6 if quick else (128,) * 6),
        "ConvDecoder": other("conv_decoder", 0.01, channels=(32,) * 6 if quick else (128,) * 7),
    }


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    rows, shown = [], []
    for name, at in (("library", (0.45, 0.4)), ("vase", (0.55, 0.55))):
        side = 112 if form.quick else None
        truth = common.crop(common.picture(f"ulyanov_data/inpainting/{name}.png"), side, at)
        mask = common.crop(common.picture(f"ulyanov_data/inpainting/{name}_mask.png", grey=True), side, at)
        missing = mask < 128
        broken = np.where(missing[..., None], 128, truth)
        pictures = [("observed", broken)]
        for label, changes in architectures(form.quick).items():
            base = form.recipe(common.CLEAN, steps=(250, 3001)).model_dump(exclude_unset=True)
            base["generator"] = {"kind": "hourglass", "output": "sigmoid"}
            recipe = type(form.default()).parse(base).merged(changes)
            found, seconds = common.timed(
                lambda b=broken, m=missing, r=recipe: inpaint(
                    common.image(b), m, r.merged({"output": {"known": "keep"}})
                )
            )
            inside = common.psnr(found, truth, missing) if name == "library" else None
            rows.append([name, label, "" if inside is None else inside, round(seconds)])
            pictures.append((label + ("" if inside is None else f" {inside:.2f}"), found))
            print(*rows[-1], flush=True)
        half = (len(pictures) + 1) // 2
        shown += [pictures[:half], pictures[half:]]
    common.table(["picture", "architecture", "dB in the holes", "s"], rows)
    print("In print, by eye: deeper is better, skip connections hurt, ResNet and U-Net leave blurs or copies.")
    common.sheet("holes", shown)


if __name__ == "__main__":
    main()
