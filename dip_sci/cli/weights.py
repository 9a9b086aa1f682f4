"""Commands that keep a scan as the weights of a network, and make an image of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from dip_sci import io
from dip_sci.cli.program import EXIT_OK, EXIT_STOPPED, AsJson, Output, app
from dip_sci.cli.screen import screen, watch
from dip_sci.compressed import Stored


@app.command
def compress(
    source: Path,
    /,
    *,
    output: Output,
    factor: float = 8.0,
    weights: Stored = "int8",
    steps: int = 2000,
    seed: int = 0,
    device: str = "auto",
    axes: str | None = None,
    series: str | None = None,
    overwrite: bool = False,
    as_json: AsJson = False,
) -> int:
    """Keep a scan as the weights of a small network (Deep Decoder), with a loss.

    Parameters
    ----------
    source
        A file, a folder with a DICOM series, or a DICOMDIR.
    output
        Result, .npz: weights, grid and type of the scan, and no other of its metadata.
    factor
        How many times smaller than the scan's values the file is to be.
    weights
        Type of the stored weights: int8, rounded as the network has learned to bear, or float16 or float32 for a narrower one.
    steps
        Steps of the fit.
    seed
        Seed of everything random.
    device
        auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    axes
        Meaning of the scan's dimensions (for instance TYX), where its file does not say.
    series
        Number of the DICOM series to read, where a folder holds several.
    overwrite
        Replace an existing result.
    as_json
        Print the factor and the loss, and nothing else.
    """
    from dip_sci import compression

    compression.check_target(output, overwrite=overwrite, inputs=(source,))
    image = io.read(source, axes=axes, series=series)
    cancel = threading.Event()
    run = compression.iter_compress(
        image, factor=factor, weights=weights, steps=steps, seed=seed, device=device, cancel=cancel
    )
    result = watch(run, cancel, quiet=as_json)
    result.save(output, overwrite=overwrite)
    if as_json:
        names = ("factor", "psnr", "width", "steps", "seconds")
        print(json.dumps({name: getattr(result, name) for name in names}, indent=1))  # noqa: T201
    else:
        screen.print(
            f"{len(result.content)} bytes, {result.factor:.1f} times smaller than the values of the scan; "
            f"what comes out again differs by {result.psnr:.1f} dB PSNR.\nWrote {output}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return EXIT_STOPPED if result.reason.name == "CANCELLED" else EXIT_OK


@app.command
def decompress(source: Path, /, *, output: Output, overwrite: bool = False) -> int:
    """Make an image out of what compress wrote.

    Parameters
    ----------
    source
        File written by compress.
    output
        Result; its suffix names the format.
    overwrite
        Replace an existing result.
    """
    from dip_sci.decompression import decompress as expand

    image = expand(source)
    io.check_target(output, image, overwrite=overwrite, inputs=[source])
    written = io.write(output, image, overwrite=overwrite)
    for line in (*image.source.notes, f"Wrote {written}."):
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_OK
