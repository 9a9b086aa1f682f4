"""The command that measures a camera."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dip_sci import io
from dip_sci.cli.program import EXIT_OK, AsJson, Output, app
from dip_sci.cli.screen import screen
from dip_sci.io.files import refuse_target


@app.command
def calibrate(
    *,
    dark: Path,
    flat: list[Path],
    output: Output,
    axes: str | None = None,
    overwrite: bool = False,
    as_json: AsJson = False,
) -> int:
    """Measure a camera's gain, offset and read noise, for `--recipe` of the other commands.

    Parameters
    ----------
    dark
        Stack of two or more frames taken without light.
    flat
        Stack of two or more frames of a steady light, short of saturation; give one for each level of light.
    output
        Recipe with the noise of this camera, .yaml.
    axes
        Meaning of the stacks' dimensions (for instance TYX), where their files do not say.
    overwrite
        Replace an existing result.
    as_json
        Print what was measured, and nothing else.
    """
    from dip_sci import calibration

    calibration.check_name(output)
    refuse_target(output, [dark, *flat], overwrite=overwrite)
    stacks = [calibration.frames(io.read(path, axes=axes), str(path)) for path in (dark, *flat)]
    found = calibration.calibrate(stacks[0], stacks[1:])
    io.write_text(output, found.text())
    if as_json:
        print(json.dumps(asdict(found), indent=1))  # noqa: T201
        return EXIT_OK
    screen.print(found.sentence, highlight=False, soft_wrap=True)
    screen.print(f"Wrote {output}; use it with --recipe {output}.", highlight=False, soft_wrap=True)
    return EXIT_OK
