"""Flash and no flash: a noisy picture in the light of the room, with the flash picture of the same scene as guide.

Ulyanov, Vedaldi & Lempitsky, IJCV 2020, show `cave01`, without a figure: there is no truth. Beside it stands a picture of
which there is one, with noise of SD 50, and a guide in other tones: its negative, darkened towards one side. Last comes the
same picture with a guide that shows something else.

``DIP_SCI_DATA=... python -m benchmarks.paper.flash [--quick]``
"""

from __future__ import annotations

import numpy as np

from benchmarks.paper import common
from dip_sci.functions import fuse
from dip_sci.restore import denoise

RATE = {"fit": {"rate": 0.1}, "input": {"jitter": 0.0}}
MIXED = {"generator": {"upsample": ["nearest", "nearest", "linear", "linear", "linear"]}}


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    side = 112 if form.quick else None
    dark, flash = (
        common.crop(common.picture(f"ulyanov_data/flash_no_flash/cave01_0{name}.jpg"), side, (0.4, 0.3))
        for name in ("1_noflash", "0_flash")
    )
    truth = common.crop(common.picture("cset9/kodim03.png"), side, (0.3, 0.5))
    noisy = (truth + np.random.default_rng(0).normal(0, 50, truth.shape)).astype(np.float32)
    shade = np.linspace(0.4, 1, truth.shape[1])[:, None]
    classic = form.recipe(RATE, MIXED, {"stop": {"rule": "fixed"}}, steps=(200, 601))
    rows, shown = [], []
    other_scene = common.crop(common.picture("cset9/kodim12.png"), truth.shape[0] if form.quick else None, (0.3, 0.5))
    cases = (
        ("cave01", dark, flash, None),
        ("kodim03", noisy, shade * (255 - truth), truth),
        ("kodim03, another scene", noisy, other_scene, truth),
    )
    for name, seen, guide, known in cases:
        image, other = common.image(seen), common.image(guide)
        found = {"noisy": (seen, 0.0), "guide": (guide, 0.0)}
        found["alone"] = common.timed(lambda i=image: denoise(i, form.default()))
        found["classic prior, guided"] = common.timed(lambda i=image, o=other: fuse(i, o, classic))
        found["ours, guided"] = common.timed(lambda i=image, o=other: fuse(i, o, form.default()))
        pictures = []
        for label, (values, seconds) in found.items():
            score = None if known is None or label == "guide" else common.psnr(values, known)
            if label != "guide":
                rows.append([name, label, "" if score is None else score, round(seconds)])
                print(*rows[-1], flush=True)
            pictures.append((label if score is None else f"{label} {score:.2f}", values))
        shown.append(pictures if known is None else [*pictures, ("truth", known)])
    common.table(["picture", "by", "dB", "s"], rows)
    common.sheet("flash", shown)


if __name__ == "__main__":
    main()
