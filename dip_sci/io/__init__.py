"""Images in and out of files, with their geometry: `read`, `write` and, before a long fit, `check_target`.

The format is recognised by a file's content when reading and chosen by its suffix when writing. No file
format's library is imported before a file of that format turns up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dip_sci.errors import DipSciError, ImageError, ReadError, WriteError
from dip_sci.image import needed
from dip_sci.io import losses, registry
from dip_sci.io.files import refuse_target, replacing
from dip_sci.io.registry import full_suffix

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from dip_sci.image import Image

__all__ = ["check_target", "completed", "full_suffix", "not_kept", "open_levels", "read", "write", "write_text"]


def read(
    path: str | os.PathLike[str], *, axes: str | None = None, series: str | int | None = None, lazy: bool = False
) -> Image:
    """Read one image from a file, or one DICOM series from a folder or a DICOMDIR.

    Parameters
    ----------
    path
        NIfTI, NRRD, TIFF (OME, ImageJ, plain), PNG, JPEG, BMP, DICOM, ND2, LIF or CZI file, an OME-Zarr image
        (its first level; ``image.ome.zarr/2`` names another one), a folder that holds a DICOM series, or a
        DICOMDIR. The content decides which, not the suffix.
    axes
        Names of the dimensions, out of ``TCZYXS`` (``"TYX"``), where the file does not name them or names
        them wrongly. For a DICOM series or multi-frame file, axes that do not begin with ``Z`` stack the
        slices in the order of their instance numbers, whatever their positions.
    series
        Which series of a DICOM folder to read, where it holds several: its number, or its place in the
        list that the error without it shows (``"#2"``), or its SeriesInstanceUID. Likewise which part of a DICOM
        series or file of several echoes, b-values or times, and which image of an ND2, LIF or CZI file of several.
    lazy
        Leave the values in the file where they can be read part by part: OME-Zarr, uncompressed NIfTI and
        TIFF; a large zipped NIfTI file is unpacked into a temporary one (in TMPDIR). The image's array is a `Lazy`
        one then; for other files this does nothing.

    Returns
    -------
    Image
        Its `source` holds what `write` needs to give the metadata back, and notes for the user.

    Raises
    ------
    ReadError
        If nothing is there, the format is not known, the file is damaged, larger than the memory, or
        holds something else than one image on a regular grid.

    Examples
    --------
    >>> image = read("brain.nii.gz")  # doctest: +SKIP
    >>> image.axes, image.units  # doctest: +SKIP
    ('ZYX', ('millimeter', 'millimeter', 'millimeter'))
    """
    path = Path(path)
    form = registry.recognise(path)
    try:
        return form.read(path, axes, None if series is None else str(series), lazy=lazy)
    except ImageError as error:
        raise ReadError(f"{path}: {error}") from error
    except DipSciError:
        raise
    except MemoryError as error:
        raise ReadError(f"{path} needs more memory than there is; crop it or free some memory.") from error
    except OSError as error:
        raise ReadError(f"{path} could not be read: {error.strerror or error}.") from error
    except Exception as error:
        # A damaged file makes a parser fail in any way it likes. What it says may quote the file's text,
        # which in a DICOM file may name a patient: only the kind of failure is passed on.
        raise ReadError(
            f"{path} looks like {form.title} but could not be read ({type(error).__name__}); "
            "the file is damaged or of an unknown kind. Export it again."
        ) from error


def open_levels(path: str | os.PathLike[str]) -> list[Image]:
    """Open an image whose format keeps it in chunks and levels, without reading it.

    Parameters
    ----------
    path
        A file or folder; the content decides which format it is.

    Returns
    -------
    list of Image
        Finest first; the arrays are read as they are sliced, and have shape, number of dimensions and type, nothing
        else. Empty where the format has no levels (all but OME-Zarr), or the path names one of them: then `read` it.

    Raises
    ------
    ReadError
        As for `read`.
    """
    path = Path(path)
    form = registry.recognise(path)
    if not form.levels:
        return []
    try:
        return form.open_levels(path)
    except ImageError as error:
        raise ReadError(f"{path}: {error}") from error
    except OSError as error:
        raise ReadError(f"{path} could not be read: {error.strerror or error}.") from error


def write(path: str | os.PathLike[str], image: Image, *, overwrite: bool = False, description: str = "") -> Path:
    """Write an image under its suffix's format, with its geometry; whole or not at all.

    Parameters
    ----------
    path
        Target; the suffix chooses the format: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.ome.tif``, ``.tif``,
        ``.ome.zarr``, ``.png``, ``.dcm``. Without one, that of the format that the image came from is added; for
        an image from a DICOM series the name is that of a folder.
    image
        What to write; the type of its array is the type in the file. DICOM is written for images that were
        read from DICOM, whose files must still be there: a derived series with their stored type.
    overwrite
        Replace an existing file, or a folder that holds nothing but derived DICOM images. What the image
        came from is never replaced.
    description
        What was done to the image, in a sentence without names. DICOM keeps it, other formats do not.

    Returns
    -------
    Path
        The file or folder written.

    Raises
    ------
    WriteError
        If the target cannot be written or its format cannot hold the image. Nothing is left behind then.
    """
    path = completed(path, needed(image))
    form = check_target(path, image, overwrite=overwrite)
    try:
        with replacing(path, registry.full_suffix(path)) as temporary:
            if _as_folder(path, form):
                temporary.mkdir()
            form.write(temporary, image, description)
    except DipSciError:
        raise
    except OSError as error:
        # numpy's own words for a full disk are of two numbers.
        why = error.strerror or f"{error} (is the disk full?)"
        raise WriteError(f"{path} could not be written: {why}. Nothing was left behind.") from error
    except Exception as error:
        raise WriteError(
            f"{path} could not be written as {form.title} ({type(error).__name__}: {error}). Nothing was left behind; "
            "choose another format."
        ) from error
    return path


def check_target(
    path: str | os.PathLike[str],
    image: Image | None,
    *,
    overwrite: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> registry.Format:
    """Refuse a target that could not be written, before hours are spent on what should go there.

    Parameters
    ----------
    path
        The target.
    image
        An image of the kind that will be written, or ``None`` where it is not known yet.
    overwrite
        Whether an existing file may be replaced.
    inputs
        Files that must never be replaced; that of `image` is added to them.

    Returns
    -------
    registry.Format
        The format that would write it.

    Raises
    ------
    WriteError
        One sentence: what is in the way, and what to do.
    """
    path = Path(path)
    form = registry.for_writing(path, None if image is None else image.source.format)
    kept = [Path(p) for p in inputs]
    if image is not None and image.source.path is not None:
        kept.append(Path(image.source.path))
    refuse_target(path, kept, overwrite=overwrite, is_own=_is_own(path, form))
    if image is not None:
        form.check(path, image)
    return form


def _as_folder(path: Path, form: registry.Format) -> bool:
    return form.serial and registry.full_suffix(path).lower() not in form.suffixes


def _is_own(path: Path, form: registry.Format) -> Callable[[Path], bool] | None:
    if _as_folder(path, form):
        # Its `check` looks at each file.
        return lambda _: True
    return (lambda place: form.sniff(place, b"")) if form.folder else None


def completed(path: str | os.PathLike[str], image: Image) -> Path:
    """Return the name under which `write` writes: without a suffix, that of the image's own format is added."""
    own = image.source.path
    return registry.completed(Path(path), image.source.format, None if own is None else Path(own))


def not_kept(path: str | os.PathLike[str], image: Image) -> tuple[str, ...]:
    """Say what of an image's metadata the format of `path` will not hold.

    Parameters
    ----------
    path
        A target as for `write`.
    image
        What would be written.

    Returns
    -------
    tuple of str
        At most one sentence for the user, empty where everything is kept. It names no content.
    """
    path = completed(path, image)
    return losses.sentences(path, image, registry.for_writing(path, image.source.format))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all, replacing one that is there.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path, path.suffix) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}.") from None
    return path
