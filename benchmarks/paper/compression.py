"""Deep Decoder: an image as the weights of a network, against a smaller image of as many bytes.

Heckel & Hand, ICLR 2019, compare with wavelets at an equal number of coefficients, and find it on a par at large factors.
Here: with plain downsampling to as many bytes, enlarged again by lines or cubics, whichever is closer. Their pictures, and
scans of ours: each with the steps of the default, PSNR over its range.

``DIP_SCI_DATA=... python -m benchmarks.paper.compression [--quick]``
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.transform import resize

import dip_sci
from benchmarks.paper import common
from dip_sci.compression import compress
from dip_sci.image import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = Path(dip_sci.__file__).parent.parent / "sample_data"
PICTURES = ("image_F16_512rgb.png", "kodim03.png", "image_Baboon512rgb.png")
SCANS = ("mri/spine_t1w.nii.gz", "microscopy/nuclear_envelope_3d.tif", "microscopy/bpae_flim_mean_of_5.tif")


def smaller(image: Image, factor: float) -> NDArray[Any]:
    """Make an image smaller by a factor in values, and enlarge it again."""
    values = image.array.astype(float)
    spatial = [axis for axis in "ZYX" if image.size_of(axis) > 1]
    shrink = [factor ** (1 / len(spatial)) if axis in spatial else 1.0 for axis in image.axes]
    sizes = [max(1, int(np.ceil(n / by))) for n, by in zip(values.shape, shrink, strict=True)]
    small = resize(values, sizes, order=1, anti_aliasing=True)
    if image.dtype.kind in "iu":
        small = np.rint(small)
    each = [resize(small, values.shape, order=order) for order in (1, 3)]
    return min(each, key=lambda found: float(np.square(found - values).mean()))


def psnr(found: NDArray[Any], image: Image) -> float:
    truth = image.array.astype(float)
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.square(np.clip(found, truth.min(), truth.max()) - truth).mean()))


def images(*, quick: bool) -> dict[str, Image]:
    found = {}
    for name in PICTURES[: 2 if quick else None]:
        values = common.crop(common.picture(f"cset9/{name}"), 128 if quick else None)
        found[name.partition(".")[0].removeprefix("image_")] = Image(values.astype(np.uint8), "YXS")
    for name in SCANS:
        scan = dip_sci.read(SAMPLES / name)
        edge = 48 if scan.size_of("Z") > 1 else 128
        spare = [max(n - edge, 0) // 2 if quick else 0 for n in scan.shape]
        values = scan.array[tuple(slice(k, n - k) for k, n in zip(spare, scan.shape, strict=True))]
        found[name.rpartition("/")[2].partition(".")[0]] = Image(values, scan.axes, scan.spacing, scan.units)
    return found


def section(image: Image, values: NDArray[Any]) -> NDArray[Any]:
    """Return the middle section, on a picture's range."""
    low, high = float(image.array.min()), float(image.array.max())
    at = tuple(slice(None) if axis in "YXS" else n // 2 for axis, n in zip(image.axes, image.shape, strict=True))
    plane: NDArray[Any] = 255 * (values[at].astype(float) - low) / max(high - low, 1e-12)
    return plane


def main() -> None:
    """Print a table and a contact sheet."""
    form = common.form(__doc__)
    rows, shown = [], []
    for name, image in images(quick=form.quick).items():
        pictures = []
        for factor in (8, 32):
            result = compress(image, factor=factor, device=form.device)
            found = {"downsampled": smaller(image, result.factor), "Deep Decoder": result.image.array}
            scores = {label: psnr(values, image) for label, values in found.items()}
            rows.append(
                [
                    name,
                    f"{result.factor:.1f}",
                    len(result.content),
                    result.width,
                    *scores.values(),
                    round(result.seconds),
                ]
            )
            for label, values in found.items():
                pictures.append((f"{label} {result.factor:.1f}: {scores[label]:.2f}", section(image, values)))
            print(*rows[-1], flush=True)
        shown.append([*pictures, ("truth", section(image, image.array))])
    common.table(["image", "factor", "bytes", "width", "downsampled dB", "Deep Decoder dB", "s"], rows)
    common.sheet("compression", shown)


if __name__ == "__main__":
    main()
