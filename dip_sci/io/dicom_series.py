"""Which files form a DICOM series: in a folder, or by a DICOMDIR; and which of several is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import MediaStorageDirectoryStorage

from dip_sci.errors import ReadError
from dip_sci.io.dicom_parts import parts
from dip_sci.io.dicom_pixels import header_of, meta_of
from dip_sci.io.dicom_planes import planes_of
from dip_sci.io.registry import files_in, is_dicom_file

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from dip_sci.io.dicom_planes import Plane

    Files = list[tuple[Path, Dataset]]

NEAR = 500
"""Files and folders beside a target that are looked at."""

LISTED = 10
"""How many series a message lists."""


def is_directory_file(path: Path) -> bool:
    """Whether a file is a DICOMDIR: a list of the DICOM files beside and below it."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    return bool(meta_of(path).get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


@dataclass(frozen=True)
class Choice:
    """One series, or a part of one whose images lie at the same places as those of its other parts.

    Attributes
    ----------
    files
        Files and headers of the whole series.
    planes
        Of the part; ``None`` where they cannot be told.
    part
        What tells it from the other parts, empty where there are none.
    """

    files: Files
    planes: list[Plane] | None
    part: str = ""


@dataclass(frozen=True)
class Entry:
    """What can be read of a file, a folder or a DICOMDIR.

    Attributes
    ----------
    place
        As `dip_sci.io.read` takes it for `series`; ``None`` where there is one only.
    words
        What it is: its number, its part and its modality. Names of folders and descriptions may name a patient.
    nbytes
        About what it takes in memory.
    """

    place: str | None
    words: str
    nbytes: int


def contents(path: Path) -> list[Entry]:
    """Return what can be read of a file, a folder or a DICOMDIR: its series, and the parts of each.

    Raises
    ------
    ReadError
        If there is none, or a file is damaged.
    """
    if path.is_dir() or is_directory_file(path):
        found = [(_words(choice), choice.files[0][1], _images(choice)) for choice in listed(path)]
    else:
        header = header_of(path)
        found = [(name, header, len(inner)) for name, inner in parts(planes_of(header, path))]
    sizes = [
        int(d.get("Rows") or 0) * int(d.get("Columns") or 0) * int(d.get("SamplesPerPixel") or 1) for _, d, _ in found
    ]
    return [
        Entry(f"#{n}" if len(found) > 1 else None, words, 4 * size * count)
        for n, ((words, _, count), size) in enumerate(zip(found, sizes, strict=True), 1)
    ]


def chosen(path: Path, wanted: str | None, *, split: bool = True) -> tuple[Files, list[Plane] | None]:
    """Return the files and headers of one series, and the planes of the part of it that is meant.

    A series is a SeriesInstanceUID, whatever the files are called.

    Parameters
    ----------
    path
        A folder or a DICOMDIR.
    wanted
        Number of the series, its place in the list as ``"#2"``, or its UID; `None` where there is one only.
    split
        Whether a series of several echoes, b-values or times counts as several.

    Raises
    ------
    ReadError
        If there is none, or which one is not clear: the message lists them, without a word of their
        descriptions, which may name a patient.
    """
    choices = listed(path, split=split)
    if wanted is None:
        if len(choices) > 1:
            raise ReadError(f"The folder {path} holds {_list(choices, path)}. Choose one: {_how(choices)}.")
        return choices[0].files, choices[0].planes
    found = [choice for place, choice in enumerate(choices, 1) if wanted in _names(choice.files, place)]
    if len(found) != 1:
        what = "no series" if not found else f"{len(found)} series"
        raise ReadError(f"The folder {path} holds {what} {wanted!r}, but {_list(choices, path)}. {_how(choices)}.")
    return found[0].files, found[0].planes


def listed(path: Path, *, split: bool = True) -> list[Choice]:
    """Return the series of a folder or a DICOMDIR, and the parts of each, in the order of their numbers.

    Raises
    ------
    ReadError
        If there is none, or a file is damaged.
    """
    series: dict[str, Files] = {}
    for file in _files(path):
        dataset = header_of(file)
        if "Rows" in dataset and "LOCALIZER" not in dataset.get("ImageType", ()):
            series.setdefault(str(dataset.get("SeriesInstanceUID", "")), []).append((file, dataset))
    if not series:
        raise ReadError(f"The folder {path} holds DICOM files but no images; give the folder of an image series.")
    ordered = sorted(series.values(), key=lambda files: (_number(files) is None, _number(files) or 0, str(files[0][0])))
    return [choice for files in ordered for choice in _choices(files, split=split)]


def part_of(path: Path, planes: list[Plane], wanted: str | None) -> list[Plane]:
    """Return the planes of the part of a multi-frame file that is meant; `wanted` is its place, as ``"#2"``.

    Raises
    ------
    ReadError
        If there are several parts and `wanted` names none of them: the message lists them.
    """
    found = parts(planes)
    if len(found) == 1:
        if wanted is not None:
            raise ReadError(f"{path} is one file with one image, and no series to choose from; leave series out.")
        return found[0][1]
    places = {f"#{place}": inner for place, (_, inner) in enumerate(found, 1)}
    if wanted in places:
        return places[wanted]
    lines = [f"#{n} {name} ({len(inner)} frames)" for n, (name, inner) in enumerate(found[:LISTED], 1)]
    more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
    raise ReadError(
        f"{path} holds {len(found)} images of the same places: {'; '.join(lines)}{more}. Choose one, for instance "
        "series='#1' (--series '#1') reads the first, or give axes='TYX' for all frames as a stack."
    )


def _choices(files: Files, *, split: bool) -> list[Choice]:
    """Return a series' parts, or the series as one where it is damaged: reading it says in what way."""
    try:
        planes = [plane for file, dataset in files for plane in planes_of(dataset, file)]
    except (ReadError, ValueError, TypeError, AttributeError, KeyError):
        return [Choice(files, None)]
    if not split:
        return [Choice(files, planes)]
    return [Choice(files, inner, name) for name, inner in parts(planes)]


def numbers_taken(target: Path, study: str) -> frozenset[int]:
    """Return the numbers of the series of a study that lie beside a target, in files and in folders.

    Parameters
    ----------
    target
        What will be written: its temporary name, which begins with a dot. What it replaces does not count.
    study
        StudyInstanceUID.
    """
    replaced = target.name[1:].split(".")[0]
    near = [p for p in target.parent.iterdir() if not p.name.startswith(".") and p.name.split(".")[0] != replaced]
    found = set()
    for place in near[:NEAR]:
        try:
            # Of a folder, one file says which series it holds.
            file = place if place.is_file() else min((p for p in place.iterdir() if p.is_file()), default=None)
            header = header_of(file) if file is not None and is_dicom_file(file) else None
        except (ReadError, OSError):
            continue
        if header is not None and header.get("StudyInstanceUID") == study:
            found.add(int(header.get("SeriesNumber") or 0))
    return frozenset(found)


def _files(path: Path) -> list[Path]:
    """Return the DICOM files of a folder and those that its DICOMDIR lists."""
    folder = path if path.is_dir() else path.parent
    near = [file for file in files_in(path) if is_dicom_file(file)] if path.is_dir() else []
    directory = path / "DICOMDIR" if path.is_dir() else path
    listed = _listed(directory, folder) if directory.is_file() and is_directory_file(directory) else []
    if not listed and not path.is_dir():
        raise ReadError(f"{path} lists files that are not beside it; copy the whole medium, or name a folder of it.")
    return sorted({*near, *listed} - {directory})


def _listed(directory: Path, folder: Path) -> list[Path]:
    """Return the files that a DICOMDIR lists and that are there; none outside its folder."""
    found = []
    for record in header_of(directory).get("DirectoryRecordSequence") or []:
        parts = record.get("ReferencedFileID") or []
        parts = [parts] if isinstance(parts, str) else [str(p) for p in parts]
        if not parts or any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            continue
        # Media are often copied with their names in lower case.
        for names in (parts, [part.lower() for part in parts]):
            file = folder.joinpath(*names)
            if file.is_file() and folder.resolve() in file.resolve().parents and is_dicom_file(file):
                found.append(file)
                break
    return found


def _number(files: Files) -> int | None:
    number = files[0][1].get("SeriesNumber")
    return None if number is None or number == "" else int(number)


def _names(files: Files, place: int) -> set[str]:
    return {str(_number(files)), f"#{place}", str(files[0][1].get("SeriesInstanceUID", ""))} - {"None", ""}


def _how(choices: list[Choice]) -> str:
    numbers = [_number(choice.files) for choice in choices]
    name = str(numbers[0]) if numbers[0] is not None and len(set(numbers)) == len(numbers) else "#1"
    # A shell takes what follows a bare # for a comment.
    typed = f"'{name}'" if name.startswith("#") else name
    return f"for instance series={name!r} (--series {typed}) reads the first"


def _list(choices: list[Choice], path: Path) -> str:
    lines = [f"#{place} {_line(choice, path)}" for place, choice in enumerate(choices[:LISTED], 1)]
    more = f"; and {len(choices) - LISTED} more" if len(choices) > LISTED else ""
    return f"{len(choices)} series: {'; '.join(lines)}{more}"


def _images(choice: Choice) -> int:
    return len(choice.files) if choice.planes is None else len(choice.planes)


def _words(choice: Choice, more: str = "") -> str:
    number, modality = _number(choice.files), choice.files[0][1].get("Modality", "unknown modality")
    part = f", {choice.part}" if choice.part else ""
    return f"number {'unknown' if number is None else number}{part} ({modality}{more})"


def _line(choice: Choice, path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    place = choice.files[0][0].parent.relative_to(folder)
    where = f" in {place}" if str(place) != "." else ""
    count = len(choice.files) if choice.planes is None else len({p.file for p in choice.planes})
    return _words(choice, f", {count} files{where}")
