"""Which scans a pattern, a folder tree, a DICOM tree or a BIDS dataset holds, and what each consists of."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dip_sci.errors import DipSciError, ReadError
from dip_sci.io import bids, dicom_series, registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SUFFIXES = (*(s for f in registry.FORMATS if f.name != "dicom" for s in f.suffixes), ".bmp", ".img", ".img.gz")

NOT_DATA = ("derivatives", "sourcedata", "code", "stimuli")
"""Folders of a BIDS dataset that hold no scans of its own."""

NO_MAGNITUDE = ("phase1", "phase2", "phasediff", "fieldmap", "mask", "dseg", "probseg")
"""BIDS suffixes of maps and labels, in which less noise is not a matter of smoother values."""


@dataclass(frozen=True)
class Found:
    """One scan.

    Attributes
    ----------
    path, series
        As `dip_sci.io.read` takes them.
    name
        Its path below the place where the search began, for a place in the output of the same name.
    files
        The files it consists of.
    """

    path: Path
    name: Path
    files: tuple[Path, ...]
    series: str | None = None


def find(sources: Sequence[str | os.PathLike[str]], *, without: Path | None = None) -> list[Found]:
    """Return the scans that files, folders and patterns stand for, in the order of their paths.

    Parameters
    ----------
    sources
        Files, patterns with ``*``, ``?``, ``[…]`` and ``**``, and folders: of a BIDS dataset the scans of its
        subjects, of any other folder all images in it and below, DICOM files as one scan per series.
    without
        A folder to leave out: that of the results.

    Raises
    ------
    ReadError
        If one of them stands for nothing.
    """
    begun = [(str(source), _beginning(str(source))) for source in sources]
    top = Path(os.path.commonpath([place.absolute() for _, place in begun])) if begun else Path()
    found: dict[tuple[Path, str | None], Found] = {}
    for source, begin in begun:
        apart = None if without is None else without.absolute()
        # Where the results lie above the scans, leaving them out would leave out all.
        if apart is not None and begin.absolute().is_relative_to(apart):
            apart = None
        scans = list(_expanded(source, top, apart))
        if not scans:
            raise ReadError(f"{source} stands for no scan: {_why(source)}")
        found |= {(s.path.absolute(), s.series): s for s in scans}
    return sorted(found.values(), key=lambda s: (str(s.path), s.series or ""))


def _beginning(source: str) -> Path:
    """Return the folder from which on names are kept in the output."""
    path = Path(source)
    if path.exists() or not glob.has_magic(source):
        return path if path.is_dir() and not _is_image_folder(path) else path.parent
    parts = Path(source).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]) if first else Path()


def _expanded(source: str, top: Path, without: Path | None) -> Iterator[Found]:
    path = Path(source)
    if path.exists():
        matches = [path]
    elif glob.has_magic(source):
        paths = map(Path, sorted(glob.glob(source, recursive=True)))  # noqa: PTH207 (Path.glob knows no absolute pattern)
        # Folders matched on the way to what is below them are no scans of their own.
        matches = [p for p in paths if p.is_file() or _is_image_folder(p)]
    else:
        matches = []
    for match in matches:
        if without is not None and match.absolute().is_relative_to(without):
            continue
        if match.is_file() or _is_zarr(match):
            yield _one(match, top)
        else:
            yield from _tree(match, top, without)


def _why(source: str) -> str:
    if glob.has_magic(source):
        return "no file matches the pattern. Check it, and quote it so that the shell leaves it alone."
    if not Path(source).exists():
        return "there is no such file or folder. Check the name."
    return "the folder holds no image that can be read."


def _one(path: Path, top: Path, series: str | None = None, files: Iterable[Path] | None = None) -> Found:
    name = Path(os.path.relpath(path.absolute(), top))
    if files is None:
        files = [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file())
    return Found(path, name, tuple(sorted(files)), series)


def _tree(folder: Path, top: Path, without: Path | None) -> Iterator[Found]:
    dataset = (folder / bids.DESCRIPTION).is_file()
    dicom: list[Path] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        skipped = NOT_DATA if dataset and here == folder else ()
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in skipped and (here / name).absolute() != without
        )
        for name in [name for name in folders if _is_zarr(here / name)]:
            folders.remove(name)
            yield _one(here / name, top)
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        if dataset:
            yield from (_one(file, top) for file in files if _is_scan_of_bids(file))
            continue
        yield from (_one(file, top) for file in files if file.name.lower().endswith(SUFFIXES))
        if any(_is_dicom(file) for file in files if not file.name.lower().endswith(SUFFIXES)):
            dicom.append(here)
    yield from _series(dicom, top)


def _series(folders: list[Path], top: Path) -> Iterator[Found]:
    """Return each series of the folders that hold DICOM files; a folder is read with the levels below it."""
    for folder in folders:
        above = list(folder.parents)[: registry.FOLDER_DEPTH]
        if any(other in above for other in folders):
            continue
        try:
            listed = dicom_series.listed(folder)
        except DipSciError:
            # Reading it says what is wrong with it.
            yield _one(folder, top, files=registry.files_in(folder))
            continue
        for place, choice in enumerate(listed, 1):
            yield _one(folder, top, f"#{place}" if len(listed) > 1 else None, (file for file, _ in choice.files))


def _is_scan_of_bids(file: Path) -> bool:
    if bids.dataset_of(file) is None or not file.name.lower().endswith(SUFFIXES):
        return False
    *entities, kind = file.name[: -len(registry.full_suffix(file))].split("_")
    return kind not in NO_MAGNITUDE and "part-phase" not in entities


def _is_image_folder(path: Path) -> bool:
    return path.is_dir() and (_is_zarr(path) or any(p.is_file() and _is_dicom(p) for p in path.iterdir()))


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and registry.FORMATS[0].sniff(path, b"")


def _is_dicom(file: Path) -> bool:
    if file.name.lower().endswith(registry.DICOM_SUFFIXES):
        return True
    try:
        return registry.is_dicom_file(file)
    except OSError:
        return False
