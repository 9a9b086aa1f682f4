"""NIfTI-1 and NIfTI-2: one file (``.nii``, ``.nii.gz``) or a pair (``.hdr``, ``.img``; reading only).

Arrays are transposed to ``CTZYX``, as far as the file has dimensions; dimensions of length 1 stay. Integers
without scaling keep their type. A file that states no orientation (both codes 0) gives no affine.
"""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io.axes import LENGTHS, SLAB, TIMES, convert, renamed, slabs
from dip_sci.io.files import DEFLATE_RATIO
from dip_sci.io.nifti_guard import refuse_extensions, refuse_unfit
from dip_sci.io.unpacked import Unpacked, is_large
from dip_sci.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

AXES = "CTZYX"
UNITS = {
    "meter": "meter",
    "mm": "millimeter",
    "micron": "micrometer",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
}
CODES = {full: short for short, full in UNITS.items()}

REST_CHUNKS = 64
"""Megabytes after the pixels that are read for gzip's check sum."""


def read(path: Path, axes: str | None = None, *, lazy: bool = False) -> Image:
    """Read a NIfTI file; see `dip_sci.io.read`."""
    with ExitStack() as open_files, _quiet():
        loaded, size = _open(path, open_files)
        header = loaded.header
        stays: Path | Unpacked | None = None
        if lazy and str(loaded.file_map["image"].fileobj.name) == str(path):
            stays = path
            if _is_zipped(path):
                refuse_unfit(loaded, path, size, whole=False)
                stays = _unzipped(loaded, path) if is_large(_nbytes(loaded)) else None
        refuse_unfit(loaded, path, size, whole=stays is None)
        array = cast("NDArray[Any]", _mapped(loaded, stays)) if stays is not None else _values(loaded, path).T
    spacing, units = _grid(header)
    affine, notes = _affine(loaded)
    image = Image(
        array,
        AXES[-array.ndim :],
        spacing[::-1],
        units[::-1],
        affine,
        source=Source(
            "nifti",
            str(path),
            MappingProxyType(
                {
                    "header": header.copy(),
                    "slope": float(loaded.dataobj.slope),
                    "inter": float(loaded.dataobj.inter),
                    "own": _own(header),
                }
            ),
            notes,
        ),
    )
    return renamed(image, axes, path)


def _own(header: Any) -> tuple[str, ...]:
    """Return the names of what only a NIfTI header holds."""
    texts = [
        f"the NIfTI header's {k}" for k in ("descrip", "aux_file", "intent_name") if bytes(header[k]).strip(b"\0 ")
    ]
    numbers = ("intent_code", "cal_min", "cal_max", "toffset", "slice_code", "slice_duration")
    texts += [f"the NIfTI header's {k}" for k in numbers if np.isfinite(header[k]) and header[k] != 0]
    count = len(header.extensions)
    return (*texts, *((f"{count} NIfTI extensions",) if count else ()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel's words on odd headers, which it repairs, to itself; what matters is checked here."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _open(path: Path, open_files: ExitStack) -> tuple[Any, int]:
    """Return nibabel's image, its pixels still in the file, and how many bytes the file can hold at most."""
    pair = {"hdr": path, "img": path}
    for a, b in (("hdr", "img"), ("img", "hdr")):
        if path.name.lower().endswith((f".{a}", f".{a}.gz")):
            pair[b] = path.with_name(path.name.replace(f".{a}", f".{b}"))
    head_file = _file(pair["hdr"], path, open_files)
    head = head_file.read(348)
    head_file.seek(0)
    wide = head[4:7] in (b"n+2", b"ni2")
    paired = (head[4:7] if wide else head[344:347]) in (b"ni1", b"ni2")
    body = pair["img"] if paired else path
    holder = nib.FileHolder
    if paired:
        files = {"header": holder(fileobj=head_file), "image": holder(fileobj=_file(body, path, open_files))}
        kind = nib.Nifti2Pair if wide else nib.Nifti1Pair
    else:
        files = {"image": holder(fileobj=head_file)}
        kind = nib.Nifti2Image if wide else nib.Nifti1Image
    size = body.stat().st_size
    size = size * DEFLATE_RATIO if _is_zipped(body) else size
    refuse_extensions(head_file, 540 if wide else 348, paired, path)
    try:
        return kind.from_file_map(files, mmap=False), size
    except (EOFError, WrapStructError, HeaderDataError) as error:
        raise ReadError(f"{path} has a damaged or truncated NIfTI header; copy or export it again.") from error


def _file(path: Path, named: Path, open_files: ExitStack) -> IO[bytes]:
    if not path.is_file():
        raise ReadError(f"{named} is one half of a NIfTI pair, and the other half {path.name} is missing beside it.")
    raw = open_files.enter_context(path.open("rb"))
    zipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast("IO[bytes]", open_files.enter_context(gzip.GzipFile(fileobj=raw))) if zipped else raw


def _values(loaded: Any, path: Path) -> NDArray[Any]:
    """Return the values in the file's order of dimensions (x first), scaled where the file says so."""
    try:
        raw = np.asarray(loaded.dataobj.get_unscaled())
        _to_the_end(loaded.file_map["image"].fileobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _ends_early(path) from error
    slope, inter = float(loaded.dataobj.slope), float(loaded.dataobj.inter)
    dtype = _read_type(raw.dtype, slope, inter)
    if slope == 1 and inter == 0:
        return raw.astype(dtype, copy=False)
    scaled = np.empty(raw.shape, dtype, order="F")
    for i in range(raw.shape[-1]):
        scaled[..., i] = raw[..., i] * np.float64(slope) + inter
    return scaled


def _to_the_end(body: IO[bytes]) -> None:
    """Read what comes after the pixels: gzip checks its sum at the end only."""
    for _ in range(REST_CHUNKS):
        if not body.read(1 << 20):
            return


def _ends_early(path: Path) -> ReadError:
    return ReadError(f"{path} is truncated or damaged: its pixels end too early. Copy or export it again.")


def _nbytes(loaded: Any) -> int:
    return int(np.prod(loaded.header.get_data_shape(), dtype=object)) * int(loaded.dataobj.dtype.itemsize)


def _unzipped(loaded: Any, path: Path) -> Unpacked:
    """Return a temporary file with what a compressed one holds up to the end of its pixels."""
    body, nbytes = loaded.file_map["image"].fileobj, int(loaded.dataobj.offset) + _nbytes(loaded)
    body.seek(0)

    def blocks() -> Iterator[bytes]:
        left = nbytes
        try:
            while left:
                block = body.read(min(left, SLAB))
                if not block:
                    raise _ends_early(path)
                left -= len(block)
                yield block
            _to_the_end(body)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _ends_early(path) from error

    return Unpacked(blocks(), nbytes, path)


def _mapped(loaded: Any, place: Path | Unpacked) -> Lazy:
    """Return the values of an uncompressed file, which stay in it, x last."""
    stored, offset = loaded.dataobj.dtype, int(loaded.dataobj.offset)
    slope, inter = float(loaded.dataobj.slope), float(loaded.dataobj.inter)
    shape = tuple(int(n) for n in loaded.header.get_data_shape())[::-1]
    dtype = _read_type(stored, slope, inter)

    def part(box: tuple[slice, ...]) -> NDArray[Any]:
        # Opened for each part: the system counts the pages of an open map as memory in use.
        file = place.file if isinstance(place, Unpacked) else place
        values = np.memmap(file, stored, "r", offset, shape)[box]
        if (slope, inter) == (1, 0):
            return values.astype(dtype)
        return (np.asarray(values, np.float64) * slope + inter).astype(dtype)

    return Lazy(shape, dtype, part)


def _read_type(stored: np.dtype[Any], slope: float, inter: float) -> np.dtype[Any]:
    """Return the type of the values that are read, in the machine's byte order."""
    if slope == 1 and inter == 0:
        return np.dtype(np.float64) if stored.kind == "f" and stored.itemsize > 8 else stored.newbyteorder("=")
    # 32 bits and more do not fit float32's 24.
    wide = stored.itemsize > 4 or (stored.kind in "iu" and stored.itemsize > 2)
    return np.dtype(np.float64 if wide else np.float32)


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _grid(header: Any) -> tuple[tuple[float | None, ...], tuple[str | None, ...]]:
    """Return spacing and units in the file's order of dimensions."""
    space, time = _header_units(header)
    zooms = [float(z) if np.isfinite(z) and z > 0 else None for z in header.get_zooms()]
    units = [space, space, space, time, None][: len(zooms)]
    if len(zooms) == 5:
        zooms[4] = None
    return tuple(zooms), tuple(unit if zoom else None for unit, zoom in zip(units, zooms, strict=True))


def _header_units(header: Any) -> tuple[str | None, str | None]:
    try:
        space, time = header.get_xyzt_units()
    except KeyError:
        return None, None
    return UNITS.get(space), UNITS.get(time)


def _affine(loaded: Any) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Return the affine in millimetres, where the file states one, and what the user should know of it."""
    header = loaded.header
    if not (int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0):
        return None, ()
    affine = np.array(loaded.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) == 0:
        return None, ("The file's orientation is not a usable matrix; it was left out, and voxel sizes were kept.",)
    affine[:3] *= _millimetres(header)
    return affine, ()


def _millimetres(header: Any) -> float:
    """Millimetres per unit of a header's affine; a header without unit is in millimetres by custom."""
    return {1: 1e3, 3: 1e-3}.get(int(header["xyzt_units"]) & 7, 1.0)


def keeps(path: Path, image: Image) -> frozenset[str]:
    """Return the parts of an image that NIfTI holds."""
    own = {"own"} if image.source.format == "nifti" else set()
    return frozenset({"affine", "spacing", "unitless", "time"} | own)


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where NIfTI cannot hold the image."""
    if "S" in image.axes:
        raise WriteError(f"{path} cannot hold a colour image of axes {image.axes!r}; write .tif or .png.")
    _storable(image.array, image, path)


def write(path: Path, image: Image) -> None:
    """Write a NIfTI file with the type of the image's array, slab by slab; see `dip_sci.io.write`."""
    array = _storable(image.array, image, path)
    # From the slowest dimension present to x; x comes first in the file, and is the fastest there, too.
    wanted = AXES[min(AXES.index(a) for a in image.axes) :]
    header = _header(image, tuple(image.size_of(a) for a in reversed(wanted)), array.dtype)
    with _quiet(), ImageOpener(path, "wb") as file:
        header.write_to(file)
        file.write(b"\0" * (header.get_data_offset() - file.tell()))
        for slab in slabs(array, image.axes, wanted):
            file.write(np.ascontiguousarray(slab, header.get_data_dtype()).data)


def _header(image: Image, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return the header of the file to write, of a shape that begins with x."""
    source = _source_header(image)
    header = _new_header(source, wide=max(shape) > np.iinfo(np.int16).max)
    pixdim = header["pixdim"].copy()
    header.set_data_shape(shape)
    if source is not None and len(source.get_data_shape()) == len(shape):
        # set_data_shape forgets the repetition time that a 3D header may carry.
        header["pixdim"] = pixdim
    space, time = _units(image, source)
    _set_spacing(header, image, space, time)
    _set_orientation(header, image, source)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # One value stands for all of them. Without an affine nibabel leaves the orientation as it was set above.
    whole = kind(np.broadcast_to(np.zeros((), dtype), shape), None, header, dtype=dtype)
    whole.update_header()
    whole.header.set_data_dtype(dtype)
    whole.header.set_slope_inter(1, 0)
    return whole.header


def _storable(array: NDArray[Any], image: Image, path: Path) -> NDArray[Any]:
    """Return the array in a type that NIfTI knows and that holds every value."""
    dtype = array.dtype
    if dtype.kind == "b":
        return array.astype(np.uint8)
    if dtype == np.float16:
        return array.astype(np.float32)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return array
    if dtype.kind not in "iu":
        raise WriteError(f"{path} cannot hold values of type {dtype}; convert them to float32.")
    header = _source_header(image)
    if dtype.itemsize < 8 or (header is not None and header.get_data_dtype() == dtype):
        return array
    # Hardly a program reads 64-bit integers.
    lo, hi = int(array.min()), int(array.max())
    for smaller in (np.int32, np.uint32):
        if np.iinfo(smaller).min <= lo and hi <= np.iinfo(smaller).max:
            return array.astype(smaller)
    raise WriteError(f"{path} cannot hold 64-bit integers from {lo} to {hi}; convert them to float64.")


def _source_header(image: Image) -> Any:
    """Return the header of the NIfTI file that the image came from, or `None`."""
    return image.source.header.get("header") if image.source.format == "nifti" else None


def _new_header(source: Any, *, wide: bool) -> Any:
    kind = nib.Nifti2Header if wide or isinstance(source, nib.Nifti2Header) else nib.Nifti1Header
    if source is None:
        return kind()
    header = kind.from_header(source, check=False)
    # Converting between NIfTI-1 and 2, or from a pair, leaves the extensions behind.
    header.extensions[:] = source.extensions
    return header


def _units(image: Image, source: Any) -> tuple[str | None, str | None]:
    """Return the full names of the units of space and time to write: the source's where it had some."""
    spatial = {u for a, s, u in zip(image.axes, image.spacing, image.units, strict=True) if a in "ZYX" and s and u}
    lengths = spatial & set(LENGTHS)
    space: str | None
    if image.affine is not None:
        space = "millimeter"
    elif len(lengths) == 1 and lengths <= set(CODES):
        space = next(iter(lengths))
    else:
        space = "millimeter" if lengths else None
    unit = image.units[image.axes.index("T")] if "T" in image.axes else None
    time = unit if unit in CODES else "second" if unit in TIMES else None
    if source is None:
        return space, time
    had_space, had_time = _header_units(source)
    # A header without unit of space is read as millimetres: an affine needs no more.
    return (had_space if had_space or image.affine is not None else space), had_time or time


def _set_spacing(header: Any, image: Image, space: str | None, time: str | None) -> None:
    """Set voxel sizes and units; what the image does not know stays as the header has it."""
    zooms = [float(z) for z in header.get_zooms()]
    if "T" not in image.axes and len(zooms) > 3:
        zooms[3] = 0.0
    for axis, place in zip("XYZT", range(len(zooms)), strict=False):
        step = image.spacing_of(axis)
        if step is None:
            continue
        unit = image.units[image.axes.index(axis)]
        to = time if axis == "T" else space
        table = TIMES if axis == "T" else LENGTHS
        zooms[place] = convert(step, unit, to) if unit in table and to else step
    header.set_zooms(zooms)
    # A unit that is none of length or time (Hz, ppm) stays.
    if (space, time) != _header_units(header):
        header.set_xyzt_units(CODES.get(space or ""), CODES.get(time or ""))


def _set_orientation(header: Any, image: Image, source: Any) -> None:
    """Set the affine in the header's unit, under the codes that the source had."""
    if image.affine is None:
        if source is None:
            zooms = [float(z) for z in header.get_zooms()[:3]]
            header.set_sform(np.diag([*zooms, *[1.0] * (4 - len(zooms))]), "aligned")
        else:
            _clear_orientation(header)
        return
    affine = image.affine.copy()
    affine[:3] /= _millimetres(header)
    if source is None:
        header.set_sform(affine, "scanner")
        header.set_qform(affine, "scanner")
        return
    if np.allclose(affine, source.get_best_affine(), rtol=1e-7, atol=1e-7):
        return
    # nibabel would reset the codes of a changed affine to "aligned" and "unknown".
    sform, qform = int(source["sform_code"]), int(source["qform_code"])
    if sform or not qform:
        header.set_sform(affine, sform or "aligned")
    if qform:
        header.set_qform(affine, qform)


def _clear_orientation(header: Any) -> None:
    header["sform_code"] = header["qform_code"] = 0
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = np.nan_to_num(header[name])
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = np.nan_to_num(header[name])
