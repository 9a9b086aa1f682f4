"""Deep Decoder: a picture as the weights of a network, against a smaller picture of the same size in bytes.

Heckel & Hand, ICLR 2019, compare with wavelets at an equal number of coefficients, and find it on a par at large factors.
Here: with plain downsampling to as many bytes, enlarged again by lines or cubics, whichever is closer.

``DIP_SCI_DATA=... python -m benchmarks.paper.compression [--quick]``
"""

from __future__ import annotations

import numpy as np
from skimage.transform import resize

from benchmarks.paper import common
from dip_sci.compression import compress
from dip_sci.image import Image


def smaller(values: np.ndarray, factor: float) -> np.ndarray:
    """Make a picture of 8 bits smaller by a factor in bytes, and enlarge it again."""
    sizes = [max(1, int(np.ceil(n / np.sqrt(factor)))) for n in values.shape[:2]]
    small = np.rint(resize(values.astype(float), sizes, order=1, anti_aliasing=True))
    each = [np.clip(resize(small, values.shape[:2], order=order), 0, 255) for order in (1, 3)]
    return max(each, key=lambda found: common.psnr(found, values))


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    rows, shown = [], []
    paths = ("cset9/image_F16_512rgb.png", "cset9/kodim03.png", "cset9/image_Baboon512rgb.png")
    for path in paths[: 2 if form.quick else None]:
        values = common.crop(common.picture(path), 128 if form.quick else None).astype(np.uint8)
        name = path.rpartition("/")[2].partition(".")[0].removeprefix("image_")
        pictures = []
        for factor in (8, 32):
            result = compress(
                Image(values, "YXS"), factor=factor, steps=600 if form.quick else 5000, device=form.device
            )
            plain = smaller(values, result.factor)
            scores = [common.psnr(x, values.astype(float)) for x in (plain, result.image.array)]
            rows.append(
                [name, f"{result.factor:.1f}", len(result.content), result.width, *scores, round(result.seconds)]
            )
            pictures += [
                (f"downsampled {result.factor:.1f}: {scores[0]:.2f}", plain),
                (f"Deep Decoder {scores[1]:.2f}", result.image.array),
            ]
            print(*rows[-1], flush=True)
        shown.append([*pictures, ("truth", values)])
    common.table(["picture", "factor", "bytes", "width", "downsampled dB", "Deep Decoder dB", "s"], rows)
    common.sheet("compression", shown)


if __name__ == "__main__":
    main()
