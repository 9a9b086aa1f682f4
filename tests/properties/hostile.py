"""Damaged and malicious files: small seeds of every format, and mutations of them by a seeded generator."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zlib
from pathlib import Path

import imagecodecs
import nibabel as nib
import nrrd
import numpy as np
import tifffile
import zarr
from PIL import Image as Pillow

from dip_sci.image import Image, Source
from dip_sci.io import ome_zarr, write

FORMATS = ("dicom", "nifti", "tiff", "png", "jpeg", "nrrd", "zarr", "vendor")
RNG_SEED = 20261120
SAMPLES = Path(__file__).parent.parent.parent / "sample_data"


def seeds(form: str, folder: Path) -> list[Path]:
    """Write small valid files of a format; folders for OME-Zarr."""
    rng = np.random.default_rng(RNG_SEED)
    array = rng.integers(0, 900, (3, 20, 24)).astype(np.uint16)
    place = folder / form
    place.mkdir(parents=True)
    made: list[Path] = globals()[f"_{form}"](place, array)
    return made


def _dicom(place, array):
    plain, packed = place / "plain.dcm", place / "deflated.dcm"
    shutil.copyfile(SAMPLES / "ct_series" / "000010.dcm", plain)
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

    dataset = dcmread(plain)
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[:20, :24]).tobytes()
    dataset.Rows, dataset.Columns = 20, 24
    dataset.save_as(plain)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(packed)
    dataset = dcmread(plain)
    dataset.compress(RLELossless)
    dataset.save_as(place / "rle.dcm")
    return [plain, packed, place / "rle.dcm", *_dicom_jpeg(dcmread(plain), place)]


def _dicom_jpeg(dataset, place):
    """Baseline and lossless JPEG, by the encoders of others."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

    pixels = dataset.pixel_array
    eight = (pixels // 16).clip(0, 255).astype(np.uint8)
    encoded = {
        "jpeg.dcm": (JPEGBaseline8Bit, imagecodecs.jpeg8_encode(eight), 8),
        "lossless.dcm": (JPEGLosslessSV1, imagecodecs.ljpeg_encode(pixels.astype(np.uint16), bitspersample=16), 16),
    }
    made = []
    for name, (syntax, frame, bits) in encoded.items():
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(place / name)
        made.append(place / name)
    return made


def _nifti(place, array):
    made = []
    for name, kind in (("a.nii", nib.Nifti1Image), ("b.nii.gz", nib.Nifti1Image), ("c.nii", nib.Nifti2Image)):
        image = kind(array.astype(np.int16).T, np.diag([1.5, 2, 3, 1]))
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"words" * 4))
        image.to_filename(place / name)
        made.append(place / name)
    return made


def _tiff(place, array):
    options = {
        "plain": {"metadata": None},
        "shaped": {},
        "ome": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5}},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"}},
        "lzw": {"compression": "lzw", "tile": (16, 16)},
        "zlib": {"compression": "zlib", "predictor": True, "bigtiff": True},
        "jpeg": {"compression": "jpeg", "tile": (16, 16)},
    }
    made = []
    for name, given in options.items():
        values = (array // 4).astype(np.uint8) if name == "jpeg" else array
        tifffile.imwrite(place / f"{name}.tif", values, photometric="minisblack", **given)
        made.append(place / f"{name}.tif")
    return made


def _png(place, array):
    Pillow.fromarray((array[0] // 4).astype(np.uint8)).save(place / "grey.png")
    Pillow.fromarray(array[0]).save(place / "deep.png")
    Pillow.fromarray((array[:3].transpose(1, 2, 0) // 4).astype(np.uint8)).save(place / "colour.png")
    return sorted(place.iterdir())


def _jpeg(place, array):
    picture = Pillow.fromarray((array[:3].transpose(1, 2, 0) // 4).astype(np.uint8))
    picture.save(place / "a.jpg")
    picture.save(place / "b.jpg", progressive=True)
    picture.save(place / "c.bmp")
    return sorted(place.iterdir())


def _nrrd(place, array):
    for encoding in ("raw", "gzip", "bzip2", "ascii"):
        header = {"encoding": encoding, "space": "left-posterior-superior", "space directions": np.eye(3)}
        nrrd.write(str(place / f"{encoding}.nrrd"), array.T, header)
    return sorted(place.iterdir())


def _zarr(place, array):
    image = Image(array, "ZYX", (2.0, 0.5, 0.5), ("micrometer",) * 3, source=Source())
    before, ome_zarr.SMALL = ome_zarr.SMALL, 12
    try:
        write(place / "v5.ome.zarr", image)
    finally:
        ome_zarr.SMALL = before
    group = zarr.open_group(str(place / "v4.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=array.shape, chunks=(1, 20, 24), dtype=array.dtype)[...] = array
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return sorted(place.iterdir())


def _vendor(place, array):
    heads = {
        "x.nd2": b"\xda\xce\xbe\x0a" + bytes(12) + b"ND2 FILE SIGNATURE CHUNK NAME01!" + bytes(200),
        "x.lif": b"\x70\0\0\0\x2b\0\0\0\x2a\x13\0\0\0" + "<LMSDataContainer/>".encode("utf-16-le") + bytes(200),
        "x.czi": b"ZISRAWFILE" + bytes(600),
    }
    for name, head in heads.items():
        (place / name).write_bytes(head)
    return sorted(place.iterdir())


def mutant(seed: Path, number: int, folder: Path) -> Path:
    """Make the mutation `number` of a seed in `folder`, replacing the one before."""
    rng = np.random.default_rng((RNG_SEED, number))
    if seed.is_dir():
        target = folder / "mutant.zarr"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(seed, target)
        files = sorted(p for p in target.rglob("*") if p.is_file())
        weights = np.array([4.0 if f.suffix == ".json" or f.name.startswith(".z") else 1.0 for f in files])
        victim = files[rng.choice(len(files), p=weights / weights.sum())]
        if victim.name.startswith((".z", "zarr.json")) and rng.random() < 0.7:
            victim.write_text(_twisted_json(json.loads(victim.read_text()), rng))
        else:
            victim.write_bytes(_twisted(victim.read_bytes(), rng))
        return target
    target = folder / f"mutant{''.join(seed.suffixes)}"
    data = seed.read_bytes()
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        data = gzip.compress(_twisted(gzip.decompress(data), rng), 1)
    elif data[:4] == b"\x89PNG" and rng.random() < 0.7:
        data = _repaired_png(_twisted(data, rng))
    else:
        data = _twisted(data, rng)
    target.write_bytes(data)
    return target


def _twisted(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage bytes in one of the ways that files get damaged, or are made to harm."""
    raw = bytearray(data)
    # Most of what can go wrong is said near the beginning.
    near = min(len(raw), 600) if rng.random() < 0.7 else len(raw)
    kind = rng.integers(9)
    if kind == 0:
        for at in rng.integers(0, near, rng.integers(1, 12)):
            raw[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        return bytes(raw[: rng.integers(0, len(raw))])
    elif kind == 2:
        _put(raw, rng, near, rng.choice([0, 1, 0x7FFF, 0xFFFF, 30000]), "H")
    elif kind == 3:
        _put(raw, rng, near, rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 3 << 28]), "I")
    elif kind == 4:
        _put(raw, rng, near, rng.choice([float("nan"), float("inf"), -1.0, 1e38, 0.0]), "f")
    elif kind == 5:
        at = rng.integers(0, near)
        raw[at:at] = rng.bytes(rng.integers(1, 80))
    elif kind == 6:
        at = rng.integers(0, near)
        del raw[at : at + rng.integers(1, 80)]
    elif kind == 7:
        at = rng.integers(0, near)
        raw[at : at + 64] = raw[at : at + 64] * int(rng.integers(2, 300))
    else:
        digits = [i for i in range(near) if 48 <= raw[i] <= 57]
        for at in rng.choice(digits, min(4, len(digits)), replace=False) if digits else ():
            raw[at : at + 1] = rng.choice([b"9", b"0", b"-", b"99999999", b"nan", b"1e30", b"../"])
    return bytes(raw)


def _put(raw: bytearray, rng: np.random.Generator, near: int, value: float, code: str) -> None:
    data = struct.pack(rng.choice(["<", ">"]) + code, value if code == "f" else int(value))
    at = int(rng.integers(0, max(1, near - len(data))))
    raw[at : at + len(data)] = data


def _repaired_png(data: bytes) -> bytes:
    """Give each chunk its right check sum, for damage to get past it."""
    raw, at = bytearray(data), 8
    while at + 12 <= len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(raw):
            break
        raw[end : end + 4] = zlib.crc32(raw[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(raw)


STRANGE = (None, -1, 0, 1e30, 10**18, 10**9, "", "../..", "/etc", [], {}, True, "pickle", "NaN", [1e9] * 3, [0, 0, 0])


def _twisted_json(found: object, rng: np.random.Generator) -> str:
    """Replace one value somewhere in a JSON document, or nest it beyond reason."""
    if rng.random() < 0.05:
        return "[" * 100_000 + "]" * 100_000
    holder, key = {"": found}, ""
    for _ in range(rng.integers(1, 9)):
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder = inner
        key = list(inner)[rng.integers(len(inner))] if isinstance(inner, dict) else int(rng.integers(len(inner)))
    holder[key] = STRANGE[rng.integers(len(STRANGE))]
    return json.dumps(found)


def bombs(folder: Path) -> list[Path]:
    """Write small files that claim, or unpack to, far more than memory should be spent on."""
    made = []
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30000, 30000, 30000))
    made.append(_written(folder / "claim.nii", header.binaryblock + bytes(3000)))
    # Half a gigabyte of zeros behind an honest small image.
    small = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    made.append(_written(folder / "tail.nii.gz", gzip.compress(small + bytes(2**27), 1)))
    text = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: gzip\n\n"
    made.append(_written(folder / "tail.nrrd", text + gzip.compress(bytes(2**28), 1)))
    claim = text.replace(b"4 4 4", b"900000 900000 900")
    made.append(_written(folder / "claim.nrrd", claim + gzip.compress(bytes(2**20), 1)))
    tifffile.imwrite(folder / "claim.tif", np.ones((4, 4), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(folder / "claim.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageLength"].overwrite(2**31 - 1, dtype="I")
    made.append(folder / "claim.tif")
    packed = zlib.compress(bytes(2**29), 9)
    tifffile.imwrite(folder / "bomb.tif", np.ones((4, 4), np.uint8), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(folder / "bomb.tif", mode="r+") as tif:
        end = tif.filehandle.size
        tif.pages[0].tags["StripOffsets"].overwrite(end)
        tif.pages[0].tags["StripByteCounts"].overwrite(len(packed))
    _written(folder / "bomb.tif", (folder / "bomb.tif").read_bytes() + packed)
    made.append(folder / "bomb.tif")
    return made


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
