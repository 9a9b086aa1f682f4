"""BIDS: whether a scan lies in a dataset, and where its denoised derivative and what describes it belong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dip_sci.errors import WriteError
from dip_sci.io import registry

DESCRIPTION = "dataset_description.json"
VERSION = "1.10.0"
DESC = "denoised"
LINK = "raw"
MR = frozenset({"anat", "func", "dwi", "fmap", "perf"})
MAX_TEXT = 2**20

IGNORED = "manifest.jsonl\nbatch.log\n*.html\n"
"""What lies beside derivatives that BIDS does not know: a batch's manifest and log, and reports."""

STILL_TRUE = ("SkullStripped", "TaskName", "RepetitionTime", "VolumeTiming", "SliceTiming", "EchoTime", "FlipAngle")
"""What a source's sidecar says that holds for the derivative, too, and names nobody."""


def dataset_of(path: Path) -> Path | None:
    """Return the root of the BIDS dataset that a file named as in BIDS lies in, `None` where there is none."""
    if not path.name.startswith("sub-") or "_" not in path.name:
        return None
    return next((p for p in path.absolute().parents if (p / DESCRIPTION).is_file()), None)


def derivative(source: Path, folder: Path, suffix: str, desc: str = DESC) -> Path:
    """Return the path of a scan's derivative in the derivative dataset at `folder`.

    Parameters
    ----------
    source
        A scan in a BIDS dataset.
    folder
        Root of the derivative dataset.
    suffix
        The file's full suffix, such as ``.nii.gz``.
    desc
        Label of the ``desc`` entity, which replaces the source's own.

    Raises
    ------
    WriteError
        If `folder` is the dataset itself or lies among its subjects.
    """
    root = dataset_of(source)
    if root is None:
        raise WriteError(f"{source} lies in no BIDS dataset: no {DESCRIPTION} is above it. Give a name with a suffix.")
    below = folder.absolute()
    inside = below.relative_to(root).parts if below.is_relative_to(root) else None
    if inside is not None and (not inside or inside[0] != "derivatives" or len(inside) < 2):
        raise WriteError(
            f"{folder} lies among the raw data of the BIDS dataset {root}; choose {root / 'derivatives' / 'dip_sci'}."
        )
    *entities, kind = _stem(source).split("_")
    entities = [e for e in entities if not e.startswith("desc-")]
    name = "_".join([*entities, f"desc-{desc}", kind]) + suffix
    return folder / source.absolute().parent.relative_to(root) / name


def sidecar(source: Path) -> dict[str, Any]:
    """Return the fields of a derivative's sidecar that say where it came from."""
    root = dataset_of(source)
    assert root is not None
    below = source.absolute().relative_to(root).as_posix()
    own = _inherited(source, root)
    # Required of derivatives of MR; a raw scan has its skull.
    raw = source.absolute().parent.name in MR and _object(root / DESCRIPTION).get("DatasetType", "raw") == "raw"
    return {
        "Sources": [f"bids:{LINK}:{below}"],
        "SpatialReference": "orig",
        **({"SkullStripped": False} if raw else {}),
        **{key: own[key] for key in STILL_TRUE if key in own},
    }


def _inherited(source: Path, root: Path) -> dict[str, Any]:
    """Return what the sidecars of a scan say: those further down win (BIDS' inheritance principle).

    A sidecar above a scan holds for it where its suffix is the scan's and its entities are some of the scan's.
    """
    *entities, kind = _stem(source).split("_")
    below = source.absolute().relative_to(root).parts[:-1]
    said: dict[str, Any] = {}
    for depth in range(len(below) + 1):
        fit = []
        for file in sorted(root.joinpath(*below[:depth]).glob("*.json")):
            *named, of = file.name[: -len(".json")].split("_")
            if of == kind and set(named) <= set(entities):
                fit.append((len(named), file))
        # BIDS allows one per folder; where there are more, the one that says more of the scan wins.
        for _, file in sorted(fit):
            said |= _object(file)
    return said


def _stem(source: Path) -> str:
    return source.name[: len(source.name) - len(registry.full_suffix(source))]


def prepare(source: Path, folder: Path, target: Path, version: str) -> None:
    """Make the folders of a derivative and the description of its dataset, where they are missing.

    Raises
    ------
    WriteError
        If something else is in the way.
    """
    root = dataset_of(source)
    assert root is not None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file, ignored = folder / DESCRIPTION, folder / ".bidsignore"
        if not ignored.exists():
            ignored.write_text(IGNORED, encoding="utf-8")
        if file.is_file():
            _refuse_foreign(file)
            return
        text = json.dumps(_description(root, folder, version), indent=1) + "\n"
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise WriteError(f"The derivative dataset {folder} cannot be made: {error.strerror}.") from None


def _description(root: Path, folder: Path, version: str) -> dict[str, Any]:
    return {
        "Name": "Scans restored by dip_sci",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "dip_sci", "Version": version}],
        "DatasetLinks": {LINK: os.path.relpath(root, folder.absolute())},
        "SourceDatasets": [{"URL": os.path.relpath(root, folder.absolute())}],
    }


def _refuse_foreign(file: Path) -> None:
    if _object(file).get("DatasetType") != "derivative":
        raise WriteError(f"{file} does not describe a derivative dataset; choose another folder.")


def _object(file: Path) -> dict[str, Any]:
    """Return a JSON file's object, empty where there is none."""
    try:
        found = json.loads(file.read_bytes()) if file.stat().st_size <= MAX_TEXT else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
