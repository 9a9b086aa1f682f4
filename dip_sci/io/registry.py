"""The formats: which one a file is, by its content, and which one a name asks for, by its suffix."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dip_sci.errors import ReadError, WriteError

if TYPE_CHECKING:
    from dip_sci.image import Image

HEAD = 1024
"""Bytes of a file that the sniffers see."""

FOLDER_DEPTH = 2

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Format:
    """One file format; its module is imported when a file of it turns up.

    Attributes
    ----------
    name
        As in `Source.format`.
    title
        As people call it, with its article.
    suffixes
        Suffixes that write it.
    sniff
        Whether a file is of this format, by its path and its first bytes (decompressed where gzipped).
    module
        Holds ``read(path, axes)`` and, where it can be written, ``write(path, image)`` and
        ``check(path, image)``, which raises a `WriteError` where the format cannot hold the image, and
        ``KEEPS`` or ``keeps(path, image)``: what of an image its files hold beside the values (`losses`).
    unwritable
        Why it cannot be written, and what to do instead; empty where it can.
    serial
        Whether it is made of series of files: its ``read`` takes a ``series`` as well, its ``write`` a
        ``description`` of what was done, and a folder can be written.
    folder
        Whether an image of it is a folder.
    levels
        Whether its module has ``levels(path)``, which opens an image without reading it.
    several
        Whether its files may hold several images; then its ``read`` takes a ``series``, too.
    lazy
        Whether its ``read`` takes ``lazy``, to leave the values in the file.
    streams
        Whether its ``write`` takes an image whose values are still in a file, and never holds them all.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path, bytes], bool]
    module: str
    unwritable: str = ""
    serial: bool = False
    folder: bool = False
    levels: bool = False
    several: bool = False
    lazy: bool = False
    streams: bool = False

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        return getattr(import_module(self.module), function)(*arguments, **options)

    def read(self, path: Path, axes: str | None, series: str | None = None, *, lazy: bool = False) -> Image:
        """Read a file of this format; `axes`, `series` and `lazy` as in `dip_sci.io.read`."""
        choosable = self.serial or self.several
        if series is not None and not choosable:
            raise ReadError(f"{path} is {self.title}, which has no series to choose from; leave series out.")
        options = {"lazy": True} if lazy and self.lazy else {}
        return cast("Image", self._call("read", path, axes, *((series,) if choosable else ()), **options))

    def open_levels(self, path: Path) -> list[Image]:
        """Open an image of this format without reading it, finest level first."""
        return cast("list[Image]", self._call("levels", path))

    def check(self, path: Path, image: Image) -> None:
        """Raise a `WriteError` where this format cannot hold the image."""
        self._call("check", path, image)

    def write(self, path: Path, image: Image, description: str) -> None:
        """Write the image to a new file, or into a new folder."""
        image = image if self.streams else image.loaded()
        self._call("write", path, image, *((description,) if self.serial else ()))


def _is_zarr(path: Path, _head: bytes) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def _is_nrrd(_path: Path, head: bytes) -> bool:
    return head[:7] == b"NRRD000" and head[7:8] in b"12345"


def _is_vendor(_path: Path, head: bytes) -> bool:
    # A LIF's first block is XML in UTF-16 behind two lengths and two marks.
    lif = head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a" and head[13:15] == b"<\0"
    return lif or head.startswith((b"\xda\xce\xbe\x0a", b"ZISRAWFILE"))


def _is_nifti(path: Path, head: bytes) -> bool:
    if path.name.lower().endswith((".img", ".img.gz")) and head[344:347] != b"n+1":
        header = path.with_name(path.name.replace(".img", ".hdr"))
        head = _head(header) if header.is_file() else b""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")


def _is_tiff(_path: Path, head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _is_raster(_path: Path, head: bytes) -> bool:
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0")


def _is_dicom(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return any(_is_dicom(file, _head(file)) for file in files_in(path))
    return head[128:132] == b"DICM" or _is_bare_dicom(head)


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins, without preamble, like DICOM's first elements do (group 2 or 8, a short value)."""
    if head[:2] not in (b"\x02\0", b"\x08\0") or len(head) < 132:
        return False
    tag = int.from_bytes(head[2:4], "little")
    if tag > (0x10 if head[:1] == b"\x02" else 0x18):
        return False
    if head[4:6] in (b"UL", b"CS", b"UI", b"DA", b"LO", b"SH", b"TM"):
        return int.from_bytes(head[6:8], "little") <= 64
    return int.from_bytes(head[4:8], "little") <= 64 and head[8:10] != b"\0\0"


FORMATS: tuple[Format, ...] = (
    # Before DICOM, which would look into every file of a folder.
    Format(
        "ome_zarr",
        "an OME-Zarr image",
        (".ome.zarr", ".zarr"),
        _is_zarr,
        "dip_sci.io.ome_zarr",
        folder=True,
        levels=True,
        lazy=True,
        streams=True,
    ),
    # Before TIFF: a DICOM file may carry a TIFF header in its preamble.
    Format(
        "dicom",
        "DICOM",
        DICOM_SUFFIXES,
        _is_dicom,
        "dip_sci.io.dicom",
        serial=True,
        streams=True,
    ),
    Format("nifti", "a NIfTI file", (".nii", ".nii.gz"), _is_nifti, "dip_sci.io.nifti", lazy=True, streams=True),
    Format("tiff", "a TIFF file", (".tif", ".tiff", ".ome.tif", ".ome.tiff"), _is_tiff, "dip_sci.io.tiff", lazy=True),
    Format("nrrd", "an NRRD file", (".nrrd",), _is_nrrd, "dip_sci.io.nrrd"),
    Format(
        "vendor",
        "a microscope's own file",
        (".nd2", ".lif", ".czi"),
        _is_vendor,
        "dip_sci.io.vendor",
        "microscopes' own formats are only read; write .ome.tif or .ome.zarr",
        several=True,
    ),
    Format("raster", "a PNG, JPEG or BMP file", (".png",), _is_raster, "dip_sci.io.raster"),
    Format(
        "raster",
        "a PNG, JPEG or BMP file",
        (".jpg", ".jpeg"),
        lambda _path, _head: False,
        "dip_sci.io.raster",
        "JPEG changes the values it stores, so nothing is written to it; write .png or .tif",
    ),
)


def recognise(path: Path) -> Format:
    """Return the format that a file's or folder's content shows.

    Raises
    ------
    ReadError
        If there is nothing, or nothing that is an image; the message says what was found.
    """
    try:
        if not path.exists():
            raise ReadError(f"There is no file or folder {path}; check the name.")
        if path.is_dir():
            return _recognise_folder(path)
        if not path.is_file():
            raise ReadError(f"{path} is neither a file nor a folder; give one of these.")
        size = path.stat().st_size
        if size == 0:
            raise ReadError(f"{path} is empty (0 bytes); copy or export it again.")
        head = _head(path)
    except OSError as error:
        raise ReadError(f"{path} could not be opened: {error.strerror or error}.") from error
    for form in FORMATS:
        if form.sniff(path, head):
            return form
    raise ReadError(
        f"{path} is not an image that can be read: it holds {_describe(head)}. "
        "Readable are NIfTI, NRRD, TIFF, PNG, JPEG, BMP and DICOM files, ND2, LIF and CZI files, OME-Zarr, "
        "and folders with one DICOM series."
    )


def _recognise_folder(path: Path) -> Format:
    for form in FORMATS:
        if form.sniff(path, b""):
            return form
    raise ReadError(
        f"The folder {path} holds no DICOM images and is no OME-Zarr; give a folder with one DICOM series, "
        "or name a single image file."
    )


def for_writing(path: Path, source: str | None = None) -> Format:
    """Return the format that a name's suffix asks for; the longest suffix wins.

    Parameters
    ----------
    path
        The target. A name without suffix, or a folder that is there, asks for a folder of the format
        `source`, where that has folders.
    source
        The format that the image was read from.

    Raises
    ------
    WriteError
        If no format writes that suffix; the message names those that can be written.
    """
    suffix = full_suffix(path)
    form = _by_suffix(suffix)
    if form is None and (path.is_dir() or not path.suffix):
        form = next((f for f in FORMATS if f.serial and f.name == source), None)
    if form is None:
        known = ", ".join(s for f in FORMATS if not f.unwritable for s in f.suffixes)
        what = f"the suffix {path.suffix!r} is not known" if path.suffix else "it has no suffix"
        raise WriteError(f"{path} cannot be written: {what}. Known are {known}.")
    if form.unwritable:
        raise WriteError(f"{path} cannot be written: {form.unwritable}.")
    return form


def _by_suffix(suffix: str) -> Format | None:
    return next((f for f in FORMATS if suffix.lower() in f.suffixes), None)


OWN_SUFFIX = {
    "nifti": ".nii.gz",
    "tiff": ".tif",
    "ome_zarr": ".ome.zarr",
    "nrrd": ".nrrd",
    "vendor": ".ome.tif",
    "raster": ".png",
}


def completed(path: Path, name: str, source: Path | None) -> Path:
    """Return `path`; where it has no suffix, with that of the format `name`, as `source` has it if it can be written.

    Examples
    --------
    >>> completed(Path("clean"), "nifti", Path("scan.nii")).name, completed(Path("a.png"), "nifti", None).name
    ('clean.nii', 'a.png')
    """
    # A folder of that name is more likely a mistake than a wish for a file beside it.
    if path.suffix or not path.name or path.is_dir():
        return path
    return path.with_name(path.name + own_suffix(name, source))


def own_suffix(name: str, source: Path | None) -> str:
    """Return the suffix that a result of the format `name` gets: that of `source` if it can be written, else a usual one.

    Examples
    --------
    >>> own_suffix("tiff", Path("a.ome.tif")), own_suffix("raster", Path("a.jpg")), own_suffix("dicom", Path("series"))
    ('.ome.tif', '.png', '')
    """
    own = full_suffix(source) if source is not None else ""
    form = _by_suffix(own)
    if form is None or form.name != name or form.unwritable:
        return OWN_SUFFIX.get(name, "")
    return own


def full_suffix(path: Path) -> str:
    """Return the longest known suffix of a name as it is written there, or its last one.

    Examples
    --------
    >>> full_suffix(Path("sub-01.T1w.nii.gz")), full_suffix(Path("cells.v2.TIF"))
    ('.nii.gz', '.TIF')
    """
    known = [s for f in FORMATS for s in f.suffixes if path.name.lower().endswith(s) and len(path.name) > len(s)]
    return path.name[-len(max(known, key=len)) :] if known else path.suffix


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and of two levels below it, sorted by path; hidden ones left out."""
    found: list[Path] = []
    level = [folder]
    for _ in range(FOLDER_DEPTH + 1):
        inside = [p for place in level for p in place.iterdir() if not p.name.startswith(".")]
        found += [p for p in inside if p.is_file()]
        level = [p for p in inside if p.is_dir()]
    return sorted(found)


def is_dicom_file(path: Path) -> bool:
    """Whether a file's first bytes are those of a DICOM file."""
    return _is_dicom(path, _head(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        with gzip.open(path, "rb") as unzipped:
            return unzipped.read(HEAD)
    except (OSError, EOFError, zlib.error):
        return head


def _describe(head: bytes) -> str:
    signatures = {
        b"\x1f\x8b": "gzip data, but no NIfTI image in it",
        b"PK\x03\x04": "a zip archive; unpack it first",
        b"\x89HDF": "HDF5 data",
        b"%PDF": "a PDF document",
        b"GIF8": "a GIF picture; save it as .png",
        b"NDims =": "a MetaImage; convert it to .nrrd or .nii",
        b"ObjectType": "a MetaImage; convert it to .nrrd or .nii",
        b"\x5c\x01\0\0": "an Analyze 7.5 header, which knows no orientation; convert it to NIfTI",
    }
    for magic, what in signatures.items():
        if head.startswith(magic):
            return what
    if not head.strip(b"\0"):
        return "only zeros"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or b"\0" in head:
            return "binary data of an unknown kind"
    return "binary data of an unknown kind" if b"\0" in head else "text"
