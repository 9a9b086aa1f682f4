"""Inpainting: half of the pixels of the eleven grey pictures, and the text over `kate`.

Ulyanov, Vedaldi & Lempitsky, IJCV 2020, table 2: prior 33.44 dB in the mean, convolutional sparse coding 31.16. Known pixels
are kept; the PSNR is of the whole picture, as theirs.

``DIP_SCI_DATA=... python -m benchmarks.paper.inpainting [--quick]``
"""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.restoration import inpaint_biharmonic

from benchmarks.paper import common
from dip_sci.functions import inpaint

PRINTED = {
    "barbara": 32.22,
    "boat": 33.06,
    "house": 39.16,
    "lena": 36.16,
    "peppers": 33.05,
    "cameraman": 29.8,
    "couple": 32.52,
    "fingerprint": 32.84,
    "hill": 32.77,
    "man": 32.20,
    "montage": 34.54,
}
QUICK = ("barbara", "house", "cameraman")


def compared(
    form: common.Form, name: str, truth: Any, missing: Any, changes: dict[str, Any], steps: tuple[int, int]
) -> tuple[list[Any], list[tuple[str, Any]]]:
    """Fill a picture by all three; a row of the table and one of the sheet."""
    broken = np.where(missing[..., None] if truth.ndim == 3 else missing, 0, truth)
    image = common.image(broken)
    # All that is known is kept in every column: what is compared is the filling.
    kept = {"output": {"known": "keep"}}
    axis = -1 if truth.ndim == 3 else None
    biharmonic = 255 * inpaint_biharmonic(broken / 255, missing, channel_axis=axis)
    classic, slow = common.timed(
        lambda: inpaint(
            image, missing, form.recipe(common.CLEAN, changes, kept, {"stop": {"rule": "fixed"}}, steps=steps)
        )
    )
    ours, quick = common.timed(lambda: inpaint(image, missing, form.default(**kept)))
    found = {"biharmonic": biharmonic, "classic prior": classic, "ours": ours}
    scores = [common.psnr(values, truth) for values in found.values()]
    print(f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in zip(found, scores, strict=True)), flush=True)
    shown = [(f"{k} {p:.2f}", v) for (k, v), p in zip(found.items(), scores, strict=True)]
    return [name, *scores, round(slow), round(quick)], [("observed", broken), *shown, ("truth", truth)]


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    rows, shown = [], []
    half = {"input": {"jitter": 0.03}, "fit": {"rate": 0.01 if form.quick else 0.001}}
    for number, (name, printed) in enumerate(PRINTED.items()):
        if form.quick and name not in QUICK:
            continue
        truth = common.crop(common.picture(f"csc11/{name}.png", grey=True), 96 if form.quick else None)
        missing = np.random.default_rng(number).random(truth.shape) < 0.5
        row, pictures = compared(form, name, truth, missing, half, (500, 11_000))
        rows.append([*row, printed])
        shown.append(pictures)
    means = [sum(row[k] for row in rows) / len(rows) for k in (1, 2, 3)]
    rows.append(["mean", *means, "", "", 33.44])
    truth = common.crop(common.picture("ulyanov_data/inpainting/kate.png"), 128 if form.quick else None, (0.35, 0.55))
    text = common.crop(
        common.picture("ulyanov_data/inpainting/kate_mask.png", grey=True), 128 if form.quick else None, (0.35, 0.55)
    )
    wide = {
        "generator": {"skip_channels": [32 if form.quick else 128], "upsample": ["nearest"]},
        "input": {"jitter": 0.03},
    }
    row, pictures = compared(form, "kate, text", truth, text < 128, wide, (300, 6001))
    rows.append([*row, ""])
    shown.append(pictures)
    print("\nHalf of the pixels missing; text" + (", crops of 96 and 128 (in print: whole)" if form.quick else ""))
    common.table(["picture", "biharmonic", "classic prior", "ours", "its s", "ours s", "paper"], rows)
    print("In print: prior 33.44, convolutional sparse coding 31.16 dB.")
    common.sheet("inpainting", shown)


if __name__ == "__main__":
    main()
