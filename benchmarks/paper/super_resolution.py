"""Super-resolution x4 and x8 of Set5 and Set14, and what each part of the prior does to it.

PSNR of the luma, a border of 4 (x8: 8) pixels left out, as in Ulyanov, Vedaldi & Lempitsky, IJCV 2020. Pictures are made
coarse by Lanczos2. Of the effect of the prior (their figure on it) the first pictures show all four: bicubic, pixels
alone, pixels under total variation, the classic prior; and ours.

``DIP_SCI_DATA=... python -m benchmarks.paper.super_resolution [--quick]``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.paper import common
from dip_sci.functions import super_resolve
from dip_sci.resampling import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.recipe import Recipe

SETS = {
    "set5": ("baby_GT", "bird_GT", "butterfly_GT", "head_GT", "woman_GT"),
    "set14": ("baboon", "comic", "flowers", "foreman", "lenna", "monarch", "pepper", "zebra"),
}
PRINTED = {
    ("set5", 4): "prior 29.90, bicubic 28.44, TV 28.86, no prior 26.56, LapSRN 31.59",
    ("set14", 4): "prior 27.01, bicubic 26.05, TV 26.42, no prior 24.93 (of all 14)",
    ("set5", 8): "prior 25.89",
    ("set14", 8): "prior 24.15 (of all 14)",
}
TV = 0.02
"""Weight of the total variation, about the paper's 1e-7 for a sum over the voxels of 0.2 megapixels in three colours."""


def coarse(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Make a picture coarser."""
    planes = torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float64))
    sizes = [n // factor for n in values.shape[:2]]
    return np.moveaxis(resample(planes, sizes, "lanczos2").numpy(), 0, -1).astype(np.float32)


def bicubic(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Interpolate a picture."""
    planes = torch.from_numpy(np.moveaxis(values, -1, 0).astype(np.float64))
    sizes = [n * factor for n in values.shape[:2]]
    return np.moveaxis(resample(planes, sizes, "cubic").numpy(), 0, -1).astype(np.float32)


def recipes(form: common.Form, factor: int) -> dict[str, Recipe]:
    """Return what is compared: without a prior, with total variation, the classic prior, ours."""
    pixels: dict[str, Any] = {"kind": "pixels", "output": "linear"}
    for gone in ("channels", "skip_channels", "upsample"):
        pixels[gone] = None
    pixels["norm"] = "auto"
    jitter = {"input": {"jitter": 0.03 if factor == 4 else 0.05}}
    full = form.recipe(common.CLEAN, jitter, steps=(300, 2000 if factor == 4 else 4000))
    # Dark pixels are six standard deviations from where they begin: at the networks' rate they do not get there.
    fast = {"fit": {"rate": 0.1, "schedule": "one_cycle"}}
    bare = form.recipe(common.CLEAN, {"generator": pixels}, fast, steps=(1000, 2000))
    return {
        "no prior": bare,
        "TV": bare.merged({"fit": {"tv": TV}}),
        "classic prior": full,
        "ours": form.default(),
    }


def score(found: NDArray[Any], truth: NDArray[Any], border: int) -> float:
    """PSNR of the luma without the border."""
    inside = (slice(border, -border),) * 2
    return common.psnr(common.luma(found)[inside], common.luma(truth)[inside])


def main() -> None:
    """Print a table and a contact sheet for each set and factor."""
    form = common.form(__doc__)
    for group, factor in (("set5", 4), ("set14", 4), ("set5", 8), ("set14", 8)):
        if form.quick and (group, factor) not in (("set5", 4), ("set5", 8)):
            continue
        rows, shown = [], []
        for name in SETS[group][: 2 if form.quick else None]:
            truth = common.crop(common.picture(f"{group}/{name}.bmp"), 128 if form.quick else None)
            truth = truth[tuple(slice(0, n - n % factor) for n in truth.shape[:2])]
            small = coarse(truth, factor)
            found: dict[str, NDArray[Any]] = {"bicubic": bicubic(small, factor)}
            seconds = 0.0
            for label, recipe in recipes(form, factor).items():
                found[label], seconds = common.timed(
                    lambda s=small, r=recipe, f=factor: super_resolve(common.image(s), f, r)
                )
            scores = {label: score(values, truth, factor) for label, values in found.items()}
            rows.append([name, *scores.values(), round(seconds)])
            shown.append([(f"{k} {scores[k]:.2f}", v) for k, v in found.items()] + [("truth", truth)])
            print(f"{name} x{factor}: " + ", ".join(f"{k} {v:.2f}" for k, v in scores.items()), flush=True)
        rows.append(["mean", *(sum(row[k] for row in rows) / len(rows) for k in range(1, 6)), ""])
        print(f"\n{group} x{factor}" + (", crops of 128 x 128 (in print: whole pictures)" if form.quick else ""))
        common.table(["picture", "bicubic", "no prior", "TV", "classic prior", "ours", "ours s"], rows)
        print(f"In print: {PRINTED[group, factor]} dB.")
        common.sheet(f"super_resolution_{group}_x{factor}", shown)


if __name__ == "__main__":
    main()
