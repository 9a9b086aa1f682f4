"""Which format a file is, what may be written where, and that nothing is left half-written."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import check_target, files, read, write

IMAGE = Image(np.arange(20, dtype=np.uint8).reshape(4, 5), "YX")
FORMATS = [".nii", ".nii.gz", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".png"]


def test_importing_it_imports_no_format_library():
    code = (
        "import sys, dip_sci.io; "
        "print([m for m in ('nibabel', 'tifffile', 'pydicom', 'PIL', 'imagecodecs', 'highdicom', 'zarr', 'nrrd', 'torch') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", ["scan.dat", "scan", "scan.png", "scan.nii", "scan.tif"])
def test_content_beats_suffix(tmp_path, suffix, name):
    right = write(tmp_path / f"right{suffix}", IMAGE)
    wrong = tmp_path / name
    wrong.write_bytes(right.read_bytes())
    image = read(wrong)
    assert image.source.format == read(right).source.format
    np.testing.assert_array_equal(image.array, IMAGE.array)


def test_the_longest_suffix_wins_in_any_case(tmp_path):
    assert read(write(tmp_path / "a.v1.OME.TIF", IMAGE)).source.header["kind"] == "ome"
    assert read(write(tmp_path / "a.b.Nii.Gz", IMAGE)).source.format == "nifti"
    assert (tmp_path / "a.b.Nii.Gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty"),
        (b"These are only words.\n" * 20, "it holds text"),
        (b"PK\x03\x04" + bytes(200), "zip archive"),
        (bytes(500), "only zeros"),
        (b"\xfe\x01\x80\x00" * 100, "binary data"),
        (b"\x1f\x8b\x08\x00rubbish", "gzip data"),
    ],
)
def test_what_is_no_image_is_described(tmp_path, content, found):
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(ReadError, match=found) as refused:
        read(tmp_path / "x.tif")
    assert "x.tif" in str(refused.value)


def test_missing_files_and_folders_without_images(tmp_path):
    with pytest.raises(ReadError, match="There is no file or folder"):
        read(tmp_path / "nothing.nii")
    with pytest.raises(ReadError, match="holds no DICOM images"):
        read(tmp_path)
    write(tmp_path / "x.png", IMAGE)
    with pytest.raises(ReadError, match="name a single image file"):
        read(tmp_path)


def test_a_path_may_be_a_string(tmp_path):
    assert read(str(write(str(tmp_path / "x.png"), IMAGE))).shape == (4, 5)


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.gz", "x.n5"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path, name):
    with pytest.raises(WriteError, match=r"\.nii, \.nii\.gz, \.tif.*\.png"):
        check_target(tmp_path / name, None)


@pytest.mark.parametrize(("name", "instead"), [("x.dcm", "only what was read from DICOM"), ("x.jpg", r"write \.png")])
def test_formats_that_are_not_written(tmp_path, name, instead):
    with pytest.raises(WriteError, match=instead):
        check_target(tmp_path / name, IMAGE)


def test_folders_that_are_missing_or_files(tmp_path):
    with pytest.raises(WriteError, match="does not exist"):
        check_target(tmp_path / "no" / "x.nii", IMAGE)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="is a file, not a folder"):
        check_target(tmp_path / "file" / "x.nii", IMAGE)
    (tmp_path / "x.nii").mkdir()
    with pytest.raises(WriteError, match="is a folder"):
        check_target(tmp_path / "x.nii", IMAGE)


def test_a_read_only_folder(tmp_path, monkeypatch):
    # Permissions do not bind root, so the answer is given here.
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(WriteError, match="read-only"):
        check_target(tmp_path / "x.nii", IMAGE)


def test_existing_files_need_leave(tmp_path):
    path = write(tmp_path / "x.png", IMAGE)
    with pytest.raises(WriteError, match="--overwrite"):
        write(path, IMAGE)
    bright = IMAGE.with_array(IMAGE.array + 1)
    np.testing.assert_array_equal(read(write(path, bright, overwrite=True)).array, bright.array)


@pytest.mark.parametrize("link", ["same", "hard", "soft"])
def test_an_input_is_never_overwritten(tmp_path, link):
    path = write(tmp_path / "x.png", IMAGE)
    target = path if link == "same" else tmp_path / "y.png"
    if link != "same":
        (os.link if link == "hard" else os.symlink)(path, target)
    before = path.read_bytes()
    with pytest.raises(WriteError, match="the input itself"):
        write(target, read(path), overwrite=True)
    with pytest.raises(WriteError, match="the input itself"):
        check_target(target, None, overwrite=True, inputs=[tmp_path / "gone.png", path])
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("odd")])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, suffix, error, existing):
    path = tmp_path / f"x{suffix}"
    if existing:
        path.write_bytes(b"what was there")

    def fail(_path):
        raise error

    monkeypatch.setattr(files, "_to_disk", fail)
    expected = WriteError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected) as refused:
        write(path, IMAGE, overwrite=True)
    if isinstance(error, OSError):
        assert "No space left" in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if existing else [])
    assert not existing or path.read_bytes() == b"what was there"


def test_a_write_that_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    def half(path, *_arguments, **_options):
        path.write_bytes(b"half")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tifffile, "imwrite", half)
    with pytest.raises(WriteError, match="Nothing was left behind"):
        write(tmp_path / "x.tif", IMAGE)
    assert not list(tmp_path.iterdir())


def test_an_image_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.nii", IMAGE)
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    with pytest.raises(ReadError, match="memory"):
        read(path)


def test_a_format_that_cannot_hold_the_image_is_refused_early(tmp_path):
    with pytest.raises(WriteError, match=r"Write \.tif"):
        check_target(tmp_path / "x.png", IMAGE.with_array(IMAGE.array.astype(np.float32)))
    check_target(tmp_path / "x.png", None)
