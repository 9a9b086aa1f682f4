"""The command that shows, on a real sample, what is to be expected."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dip_sci import io, samples
from dip_sci.cli.program import EXIT_OK, Options, Output, app, given
from dip_sci.cli.screen import screen, tell, watch
from dip_sci.errors import WriteError
from dip_sci.recipe import Recipe

if TYPE_CHECKING:
    from dip_sci.image import Image

DEMO = ("bpae_flim_noisy.tif", "bpae_flim_mean_of_5.tif")


@app.command
def demo(*, output: Output = Path("demo"), options: Options = None) -> int:
    """Denoise a real sample and draw it before and after.

    Parameters
    ----------
    output
        Folder for the result and the picture.
    """
    from dip_sci import report
    from dip_sci.restore import iter_restore

    noisy_file, truth_file = (samples.folder() / "microscopy" / name for name in DEMO)
    image = io.read(noisy_file)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"The folder {output} cannot be made: {error.strerror}.") from None
    screen.print("A two-photon image of a cell, one shot; the mean of five shots serves as truth.")
    chosen, cancel = Recipe.parse({"preset": "fast"}).merged(given(options)), threading.Event()
    result = watch(iter_restore(image, chosen, cancel=cancel), cancel, quiet=False)
    target, picture = output / "clean.tif", output / "before_after.png"
    io.write(target, result.image, overwrite=True)
    report.comparison(image, result.image, picture)
    tell(result, target)
    truth = io.read(truth_file)
    before, after = _psnr(image, truth), _psnr(result.image, truth)
    screen.print(f"PSNR against the mean of five shots: {before:.1f} dB before, {after:.1f} dB after.")
    Console().print(f"Result:   {target}\nPicture:  {picture}", highlight=False, soft_wrap=True)
    return EXIT_OK


def _psnr(image: Image, truth: Image) -> float:
    import numpy as np

    reference = truth.array.astype(np.float64)
    error = np.mean((image.array - reference) ** 2)
    return float(10 * np.log10(np.ptp(reference) ** 2 / error))
