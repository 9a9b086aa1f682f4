"""Artefacts of JPEG compression: the paper's `snail`, and pictures compressed here, for which there is a truth.

Ulyanov, Vedaldi & Lempitsky, CVPR 2018, figure 1: no figures in print. The prior learns the picture before it learns the
blocks; it has to be stopped, here by the rule that watches its iterates.

``DIP_SCI_DATA=... python -m benchmarks.paper.jpeg [--quick]``
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Picture

from benchmarks.paper import common
from dip_sci.restore import denoise

QUALITY = 10

NARROW = {
    "generator": {"channels": [8, 16, 32, 64, 128], "skip_channels": [0, 0, 0, 4, 4], "upsample": ["linear"]},
    "input": {"channels": 3, "jitter": 1 / 30},
    "stop": {"rule": "moving_variance"},
}


def compressed(values: np.ndarray) -> np.ndarray:
    """Write a picture as JPEG and read it back."""
    buffer = io.BytesIO()
    Picture.fromarray(values.astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return np.asarray(Picture.open(buffer), np.float32)


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    side = 128 if form.quick else None
    rows, shown = [], []
    recipe = form.recipe(NARROW, steps=(600, 2400))
    for path in ("ulyanov_data/denoising/snail.jpg", "cset9/kodim03.png", "cset9/image_House256rgb.png"):
        given = common.crop(common.picture(path), side, (0.3, 0.5))
        name = path.rpartition("/")[2].partition(".")[0].removeprefix("image_")
        truth = None if name == "snail" else given
        seen = given if truth is None else compressed(given)
        found, seconds = common.timed(lambda s=seen: denoise(common.image(s), recipe))
        pictures = [("JPEG", seen), ("classic prior", found)]
        if truth is None:
            rows.append([name, "", "", round(seconds)])
        else:
            before, after = (common.psnr(x, truth) for x in (seen, found))
            rows.append([f"{name}, quality {QUALITY}", before, after, round(seconds)])
            pictures = [(f"JPEG {before:.2f}", seen), (f"classic prior {after:.2f}", found), ("truth", truth)]
        shown.append(pictures)
        print(*rows[-1], flush=True)
    common.table(["picture", "JPEG dB", "classic prior dB", "s"], rows)
    common.sheet("jpeg", shown, side=384)


if __name__ == "__main__":
    main()
