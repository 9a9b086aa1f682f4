"""Which files form a DICOM series: in a folder, or by a DICOMDIR; and which of several is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage

from dip_sci.errors import ReadError
from dip_sci.io.dicom_pixels import header_of
from dip_sci.io.registry import files_in, is_dicom_file

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    Files = list[tuple[Path, Dataset]]

LISTED = 10
"""How many series a message lists."""


def is_directory_file(path: Path) -> bool:
    """Whether a file is a DICOMDIR: a list of the DICOM files beside and below it."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    return bool(read_file_meta_info(path).get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


def chosen(path: Path, wanted: str | None) -> Files:
    """Return the files and headers of one series; a series is a SeriesInstanceUID, whatever the files are called.

    Parameters
    ----------
    path
        A folder or a DICOMDIR.
    wanted
        Number of the series, its place in the list as ``"#2"``, or its UID; `None` where there is one only.

    Raises
    ------
    ReadError
        If there is none, or which one is not clear: the message lists them, without a word of their
        descriptions, which may name a patient.
    """
    series = listed(path)
    if wanted is None:
        if len(series) > 1:
            raise ReadError(f"The folder {path} holds {_list(series, path)}. Choose one: {_how(series)}.")
        return series[0]
    found = [files for place, files in enumerate(series, 1) if wanted in _names(files, place)]
    if len(found) != 1:
        what = "no series" if not found else f"{len(found)} series"
        raise ReadError(f"The folder {path} holds {what} {wanted!r}, but {_list(series, path)}. {_how(series)}.")
    return found[0]


def listed(path: Path) -> list[Files]:
    """Return the files and headers of each series of a folder or a DICOMDIR, in the order of their numbers.

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
    return sorted(series.values(), key=lambda files: (_number(files) is None, _number(files) or 0, str(files[0][0])))


def _files(path: Path) -> list[Path]:
    """Return the DICOM files of a folder and those that its DICOMDIR lists."""
    folder = path if path.is_dir() else path.parent
    near = [file for file in files_in(path) if is_dicom_file(file)] if path.is_dir() else []
    directory = path / "DICOMDIR" if path.is_dir() else path
    listed = _listed(directory, folder) if directory.is_file() and is_directory_file(directory) else []
    if not listed and not path.is_dir():
        raise ReadError(f"{path} lists files that are not beside it; copy the whole medium, or name a folder of it.")
    return sorted({file for file in (*near, *listed) if not is_directory_file(file)})


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


def _how(listed: list[Files]) -> str:
    numbers = [_number(files) for files in listed]
    name = str(numbers[0]) if numbers[0] is not None and len(set(numbers)) == len(numbers) else "#1"
    return f"for instance series={name!r} (--series {name}) reads the first"


def _list(listed: list[Files], path: Path) -> str:
    lines = [f"#{place} {_line(files, path)}" for place, files in enumerate(listed[:LISTED], 1)]
    more = f"; and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return f"{len(listed)} series: {'; '.join(lines)}{more}"


def _line(files: Files, path: Path) -> str:
    file, dataset = files[0]
    folder = path if path.is_dir() else path.parent
    place = file.parent.relative_to(folder)
    where = f" in {place}" if str(place) != "." else ""
    number, modality = _number(files), dataset.get("Modality", "unknown modality")
    return f"number {'unknown' if number is None else number} ({modality}, {len(files)} files{where})"
