"""DICOM out: a derived series whose stored values are the source's but for what was changed, by its own judgement."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import ct_slice, enhanced, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, MRImageStorage, PositronEmissionTomographyImageStorage

from dip_sci.errors import WriteError
from dip_sci.image import Image
from dip_sci.io import check_target, read, write
from dip_sci.lazy import Lazy

SAID = "Denoised by dip-sci 9.9; seed 3"


def headers(folder):
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def by_position(folder):
    return sorted(headers(folder), key=lambda ds: float(ds.ImagePositionPatient[2]))


def test_an_unchanged_series_keeps_every_bit(series, stored, tmp_path):
    image = read(series())
    assert write(tmp_path / "clean", image) == tmp_path / "clean"
    back = read(tmp_path / "clean")
    np.testing.assert_array_equal(back.array, image.array)
    np.testing.assert_allclose(back.affine, image.affine)
    assert (back.dtype, back.axes, back.spacing, back.units) == (image.dtype, image.axes, image.spacing, image.units)
    found = headers(tmp_path / "clean")
    assert [ds.file_meta.TransferSyntaxUID for ds in found] == [ExplicitVRLittleEndian] * 6
    np.testing.assert_array_equal([ds.pixel_array for ds in found], stored)


def test_a_series_is_written_plane_by_plane(series, tmp_path):
    image = read(series())
    changed = image.array + 2
    asked = []

    def part(box):
        asked.append(box[0].stop - box[0].start)
        return changed[box]

    write(tmp_path / "whole", image.with_array(changed))
    write(tmp_path / "planes", image.with_array(Lazy(image.shape, image.dtype, part)))
    assert set(asked) == {1}
    for a, b in zip(headers(tmp_path / "whole"), headers(tmp_path / "planes"), strict=True):
        assert a.SOPInstanceUID == b.SOPInstanceUID
        assert a.PixelData == b.PixelData


def test_a_derived_series_says_what_it_is(series, tmp_path):
    source = by_position(series())
    image = read(tmp_path / "series")
    write(tmp_path / "clean", image.with_array(image.array + 1), description=SAID)
    derived = headers(tmp_path / "clean")
    assert len({ds.SOPInstanceUID for ds in derived}) == 6
    assert len({ds.SeriesInstanceUID for ds in derived}) == 1
    for before, after in zip(source, derived, strict=True):
        for name in [
            "SOPClassUID",
            "StudyInstanceUID",
            "FrameOfReferenceUID",
            "PatientName",
            "PatientID",
            "InstanceNumber",
            "Rows",
            "Columns",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "SliceThickness",
            "BitsAllocated",
            "BitsStored",
            "HighBit",
            "PixelRepresentation",
            "RescaleSlope",
            "RescaleIntercept",
            "Modality",
        ]:
            assert after[name].value == before[name].value, name
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        assert after.SeriesNumber == 1007
        assert after.SeriesDescription == "denoised"
        assert after.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert after.DerivationDescription == SAID
        assert after.DerivationCodeSequence[0].CodeValue == "113087"
        origin = after.SourceImageSequence[0]
        assert origin.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert origin.ReferencedSOPClassUID == before.SOPClassUID
        assert origin.SpatialLocationsPreserved == "YES"
        assert origin.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert after.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        np.testing.assert_array_equal(after.pixel_array, np.minimum(before.pixel_array + 1, 4095))


def test_nothing_that_is_added_names_anyone(series, tmp_path):
    image = read(series())
    write(tmp_path / "clean", image, description=SAID)
    ds = headers(tmp_path / "clean")[0]
    for name in ("PatientName", "PatientID"):
        del ds[name]
    told = str(ds) + str(ds.file_meta)
    for word in ("Roe", "xyzzy", str(tmp_path), "series/"):
        assert word not in told


def test_the_same_result_has_the_same_uids(series, tmp_path):
    image = read(series())
    other = image.with_array(image.array + 1)
    for name, what, said in (("a", image, SAID), ("b", image, SAID), ("c", other, SAID), ("d", image, "else")):
        write(tmp_path / name, what, description=said)
    uids = [{(ds.SOPInstanceUID, ds.SeriesInstanceUID) for ds in headers(tmp_path / n)} for n in "abcd"]
    assert uids[0] == uids[1]
    assert not uids[0] & uids[2]
    assert not uids[0] & uids[3]


@pytest.mark.parametrize("text", ["x" * 3000, "\u03c3 = 3"])
def test_long_and_foreign_words_fit(series, tmp_path, text):
    long = "An earlier step. " * 50
    image = read(series(lambda i: {"SeriesDescription": "s" * 64, "DerivationDescription": long}))
    write(tmp_path / "clean", image, description=text)
    ds = headers(tmp_path / "clean")[0]
    assert len(ds.DerivationDescription) <= 1024
    assert ds.SeriesDescription == "s" * 55 + " denoised"
    assert ds.DerivationDescription.isascii()


def test_what_is_no_longer_true_is_left_out(series, tmp_path):
    def per_slice(i):
        ds = {"SmallestImagePixelValue": 1, "LargestImagePixelValue": 9, "LossyImageCompression": "01"}
        return ds | {"SyntheticData": "YES", "SeriesTime": "101010", "BurnedInAnnotation": "NO"}

    folder = series(per_slice)
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        ds.private_block(0x0009, "ACME 1", create=True).add_new(1, "LO", "Roe^Jane")
        ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
        ds.private_block(0x0019, "SIEMENS MR HEADER").add_new(0x0B, "LO", "else")
        item = pydicom.Dataset()
        item.private_block(0x0009, "ACME 1", create=True).add_new(1, "LO", "inside")
        ds.ReferencedImageSequence = [item]
        save(ds, file)
    write(tmp_path / "clean", read(folder))
    ds = headers(tmp_path / "clean")[0]
    assert "SmallestImagePixelValue" not in ds
    assert "LargestImagePixelValue" not in ds
    assert ds.LossyImageCompression == "01"
    assert (ds.SyntheticData, ds.SeriesTime, ds.BurnedInAnnotation) == ("YES", "101010", "NO")
    assert [e.value for e in ds.iterall() if e.tag.is_private] == ["SIEMENS MR HEADER", "1000"]
    assert "Private" in ds.ContributingEquipmentSequence[0].ContributionDescription


def test_pet_keeps_its_times_and_stays_primary(series, tmp_path):
    attributes = {"Modality": "PT", "SOPClassUID": PositronEmissionTomographyImageStorage, "SeriesDate": "20200101"}
    attributes |= {"SeriesTime": "101010", "AcquisitionTime": "101020", "DecayCorrection": "START"}
    write(tmp_path / "clean", read(series(lambda i: attributes | {"RescaleSlope": 0.1 + i})))
    for ds in headers(tmp_path / "clean"):
        assert (ds.SeriesDate, ds.SeriesTime, ds.AcquisitionTime) == ("20200101", "101010", "101020")
        assert ds.ImageType[:2] == ["DERIVED", "PRIMARY"]


TYPES = st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32])
SLOPES = st.one_of(st.just(1.0), st.floats(1e-3, 1e3).map(lambda v: float(f"{v:.6g}")))


@settings(deadline=None, max_examples=40)
@given(
    kind=TYPES,
    slopes=st.lists(SLOPES, min_size=3, max_size=3),
    intercept=st.sampled_from([0, -1024, 0.5, 1e4]),
    padding=st.sampled_from([None, "low", "high"]),
    inverted=st.booleans(),
    bits=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_every_stored_bit_comes_back(kind, slopes, intercept, padding, inverted, bits, seed):
    """Whatever the type, the slopes and the padding: unchanged values are stored as they were, changed ones nearest."""
    rng = np.random.default_rng(seed)
    kept = np.iinfo(kind).bits - bits
    lo, hi = (-(2 ** (kept - 1)), 2 ** (kept - 1) - 1) if np.dtype(kind).kind == "i" else (0, 2**kept - 1)
    stored = rng.integers(lo, hi, (3, 4, 5), dtype=kind, endpoint=True)
    # The element for it has 16 bits.
    mark = {None: None, "low": lo, "high": hi}[padding] if kept <= 16 else None
    if mark is not None:
        stored[:, 0] = mark
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "series"
        folder.mkdir()
        for i, slope in enumerate(slopes):
            attributes = {"BitsStored": kept, "HighBit": kept - 1, "RescaleIntercept": intercept}
            attributes |= {"RescaleSlope": slope, "PhotometricInterpretation": f"MONOCHROME{1 if inverted else 2}"}
            attributes |= {} if mark is None else {"PixelPaddingValue": mark}
            save(ct_slice(stored[i], position=(0, 0, 3.0 * i), **attributes), folder / str(i))
        image = read(folder)
        write(Path(place) / "same", image)
        again = read(Path(place) / "same")
        assert again.dtype == image.dtype
        np.testing.assert_array_equal(again.array, image.array)
        np.testing.assert_array_equal(again.measured(), image.measured())
        same = headers(Path(place) / "same")
        np.testing.assert_array_equal([ds.pixel_array for ds in same], stored)
        assert {ds.PhotometricInterpretation for ds in same} == {"MONOCHROME1" if inverted else "MONOCHROME2"}
        moved = image.array.astype(np.float64) + rng.normal(0, 3, image.shape) * np.array(slopes)[:, None, None]
        write(Path(place) / "moved", image.with_array(moved))
        changed = np.array([ds.pixel_array for ds in headers(Path(place) / "moved")])
        wanted = (moved - intercept) / np.array(slopes)[:, None, None]
        padded = np.zeros(stored.shape, bool) if mark is None else stored == mark
        np.testing.assert_array_equal(changed[padded], stored[padded])
        # One more where the nearest value would mean padding.
        off = np.abs(changed - np.clip(wanted, lo, hi))[~padded]
        assert off.max() <= (0.501 if mark is None else 1.501)
        assert mark is None or not (changed[~padded] == mark).any()


def test_clipped_values_are_counted_and_told(series, stored, tmp_path):
    image = read(series())
    wild = image.array.astype(np.float32)
    wild[0, 0, :3] = 1e6
    write(tmp_path / "clean", image.with_array(wild))
    found = headers(tmp_path / "clean")
    assert found[0].pixel_array[0, :3].tolist() == [4095] * 3
    assert "3 values were clipped" in found[0].ContributingEquipmentSequence[0].ContributionDescription
    assert "clipped" not in found[1].ContributingEquipmentSequence[0].ContributionDescription


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_padded.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "image_dfl.dcm",
        "ExplVR_BigEnd.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_rgb_small_odd.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "examples_ybr_color.dcm",
        "examples_rgb_color.dcm",
    ],
)
def test_pydicoms_files_come_back(name, tmp_path):
    image = read(get_testdata_file(name))
    write(tmp_path / "clean.dcm", image)
    back = read(tmp_path / "clean.dcm")
    np.testing.assert_array_equal(back.array, image.array)
    assert (back.dtype, back.axes, back.spacing) == (image.dtype, image.axes, image.spacing)
    ds = pydicom.dcmread(tmp_path / "clean.dcm")
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    if image.axes.endswith("S"):
        assert ds.PhotometricInterpretation == "RGB"


def test_a_lossy_source_is_told(tmp_path):
    source = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_lossy_gdcm.dcm"))
    assert source.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    source.pop("LossyImageCompression", None)
    write(tmp_path / "clean.dcm", read(save(source, tmp_path / "lossy.dcm")))
    ds = pydicom.dcmread(tmp_path / "clean.dcm")
    assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_an_enhanced_file_stays_one_file(tmp_path, stored):
    slopes = np.arange(1, 7) / 2
    order = [3, 0, 5, 1, 4, 2]
    source = enhanced(stored, order, slopes)
    frame_type = pydicom.Dataset()
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    source.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [frame_type]
    image = read(save(source, tmp_path / "source.dcm"))
    write(tmp_path / "clean.dcm", image.with_array(image.array + slopes[:, None, None]), description=SAID)
    ds = pydicom.dcmread(tmp_path / "clean.dcm")
    np.testing.assert_array_equal(ds.pixel_array, np.minimum(stored[order] + 1, 4095))
    assert ds.ImageType[:2] == ["DERIVED", "PRIMARY"]
    assert ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0].FrameType[0] == "DERIVED"
    for number, groups in enumerate(ds.PerFrameFunctionalGroupsSequence, 1):
        step = groups.DerivationImageSequence[0]
        assert step.DerivationDescription == SAID
        assert step.SourceImageSequence[0].ReferencedFrameNumber == number
        assert step.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    evidence = ds.SourceImageEvidenceSequence[0]
    assert evidence.StudyInstanceUID == source.StudyInstanceUID
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    np.testing.assert_allclose(read(tmp_path / "clean.dcm").affine, image.affine)


def finer(image, factors):
    """The image on a grid `factors` (z, y, x) finer, its corners kept."""
    array = image.array
    for axis, factor in enumerate(factors):
        array = np.repeat(array, factor, axis)
    xyz = np.array(factors[::-1], float)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((1 / xyz - 1) / 2)
    affine[:3, :3] /= xyz
    spacing = tuple(s / f for s, f in zip(image.spacing, factors, strict=True))
    return dataclasses.replace(image, array=array, affine=affine, spacing=spacing, valid=None)


@pytest.mark.parametrize("factors", [(1, 2, 2), (3, 1, 1), (2, 2, 4)])
def test_a_finer_grid_keeps_its_corners(series, tmp_path, factors):
    c, s = np.cos(0.3), np.sin(0.3)
    source = read(
        series(lambda i: {"orientation": (1, 0, 0, 0, c, s), "position": (1.0, 2 - s * 3 * i, 3 + c * 3 * i)})
    )
    image = finer(source, factors)
    write(tmp_path / "fine", image, description=SAID)
    back = read(tmp_path / "fine")
    np.testing.assert_array_equal(back.array, image.array)
    np.testing.assert_allclose(back.affine, image.affine, atol=2e-3)
    assert back.spacing == pytest.approx(image.spacing, rel=1e-3)
    corner = np.array([*np.array(source.shape[::-1]) - 0.5, 1])
    far = np.array([*np.array(back.shape[::-1]) - 0.5, 1])
    np.testing.assert_allclose(back.affine @ far, source.affine @ corner, atol=0.05)
    found = headers(tmp_path / "fine")
    assert len({ds.SOPInstanceUID for ds in found}) == image.shape[0]
    assert all(ds.SourceImageSequence[0].SpatialLocationsPreserved == "NO" for ds in found)
    assert found[0].SliceThickness == pytest.approx(2 / factors[0])
    assert [c.CodeValue for c in found[0].DerivationCodeSequence] == ["113087", "113085"]


def test_a_finer_enhanced_image(tmp_path, stored):
    image = finer(read(save(enhanced(stored, range(6), np.ones(6)), tmp_path / "source.dcm")), (1, 2, 2))
    write(tmp_path / "fine.dcm", image)
    np.testing.assert_allclose(read(tmp_path / "fine.dcm").affine, image.affine, atol=1e-6)
    deep = finer(read(tmp_path / "source.dcm"), (2, 1, 1))
    with pytest.raises(WriteError, match="another number of frames"):
        write(tmp_path / "deep.dcm", deep)


def test_a_turned_or_contradictory_grid_is_refused(series, tmp_path):
    image = finer(read(series()), (1, 2, 2))
    turned = image.affine.copy()
    turned[:, :2] = turned[:, 1::-1]
    with pytest.raises(WriteError, match="turned"):
        write(tmp_path / "x", dataclasses.replace(image, affine=turned, spacing=(None, None, None), units=()))
    with pytest.raises(WriteError, match="spacing is"):
        write(tmp_path / "x", dataclasses.replace(image, spacing=(2.5, 1.0, 1.0)))
    assert not (tmp_path / "x").exists()


def test_a_series_needs_a_folder(series, tmp_path):
    image = read(series())
    with pytest.raises(WriteError, match="name of a folder, without suffix"):
        write(tmp_path / "x.dcm", image)
    single = read(next((tmp_path / "series").iterdir()))
    write(tmp_path / "x.dcm", single)
    assert write(tmp_path / "y", single) == tmp_path / "y.dcm"
    assert write(tmp_path / "folder", image).is_dir()


def test_other_images_are_not_made_up(tmp_path):
    image = Image(np.zeros((4, 5), np.uint8), "YX")
    with pytest.raises(WriteError, match="only what was read from DICOM"):
        write(tmp_path / "x.dcm", image)
    with pytest.raises(WriteError, match="has no suffix"):
        write(tmp_path / "x", image)


@pytest.mark.parametrize("inside", ["", "clean", "clean.dcm"])
def test_nothing_goes_into_the_sources_folder(series, inside):
    image = read(series())
    with pytest.raises(WriteError, match=r"input itself|folder of the series"):
        check_target(Path(image.source.path) / inside, image, overwrite=True)
    # Another format beside the slices does no harm.
    check_target(Path(image.source.path) / "clean.nii.gz", image)


def test_only_derived_images_are_replaced(series, tmp_path):
    image = read(series())
    target = write(tmp_path / "clean", image)
    with pytest.raises(WriteError, match="--overwrite"):
        write(target, image)
    write(target, image.with_array(image.array + 1), overwrite=True)
    assert len(list(target.iterdir())) == 6
    again = read(target)
    with pytest.raises(WriteError, match="input itself"):
        write(target, again, overwrite=True)
    with pytest.raises(WriteError, match="holds the input"):
        write(target, read(target / "0001.dcm"), overwrite=True)
    (target / "notes.txt").touch()
    with pytest.raises(WriteError, match=r"notes\.txt, which is not a derived"):
        write(target, image, overwrite=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", image)


def test_a_failure_leaves_what_was_there(series, tmp_path, monkeypatch):
    image = read(series())
    target = write(tmp_path / "clean", image)
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    broken = image.array.astype(np.float32)
    broken[3] = np.nan
    with pytest.raises(WriteError, match="not finite"):
        write(target, image.with_array(broken), overwrite=True)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "series"]


def test_sources_that_are_gone_or_others_are_noticed(series, stored, tmp_path):
    image = read(series())
    file = Path(image.source.header["planes"][2][0])
    save(ct_slice(stored[0]), file)
    with pytest.raises(WriteError, match="another UID"):
        check_target(tmp_path / "x", image)
    file.unlink()
    with pytest.raises(WriteError, match="is gone"):
        check_target(tmp_path / "x", image)


@pytest.mark.parametrize(
    ("attributes", "reason"), [({"StudyInstanceUID": None}, "no StudyInstanceUID"), ({"SamplesPerPixel": 2}, "neither")]
)
def test_sources_that_cannot_be_derived_from(tmp_path, stored, attributes, reason):
    image = read(save(ct_slice(stored[0]), tmp_path / "x.dcm"))
    ds = ct_slice(stored[0], **attributes)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = image.source.header["planes"][0][2]
    save(ds, tmp_path / "x.dcm")
    with pytest.raises(WriteError, match=reason):
        check_target(tmp_path / "y.dcm", image)


def test_palettes_are_not_written(tmp_path):
    with pytest.raises(WriteError, match="table of colours"):
        check_target(tmp_path / "x.dcm", read(get_testdata_file("examples_palette.dcm")))


def test_an_mr_series_takes_the_same_way(series, tmp_path):
    attributes = {"Modality": "MR", "SOPClassUID": MRImageStorage, "RescaleSlope": None, "RescaleIntercept": None}
    image = read(series(lambda i: attributes))
    write(tmp_path / "clean", image)
    np.testing.assert_array_equal(read(tmp_path / "clean").array, image.array)
    assert "RescaleSlope" not in headers(tmp_path / "clean")[0]


def test_what_pydicom_says_of_a_value_stays_inside(series, tmp_path, monkeypatch):
    image = read(series())

    def fail(*_arguments, **_options):
        raise ValueError("Roe^Jane is no date")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(WriteError, match="ValueError") as refused:
        write(tmp_path / "clean", image)
    assert "Roe" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


def test_axes_that_are_no_planes_are_refused(series, tmp_path):
    image = dataclasses.replace(read(series()), axes="YXZ", affine=None)
    with pytest.raises(WriteError, match="row of planes"):
        write(tmp_path / "clean", image)


def test_a_mere_copy_is_not_called_denoised(series, tmp_path):
    write(tmp_path / "copy", read(series()))
    for ds in headers(tmp_path / "copy"):
        assert ds.SeriesDescription.endswith("processed")
        assert "DerivationCodeSequence" not in ds
        assert "Noise" not in ds.ContributingEquipmentSequence[0].ContributionDescription


def test_a_mere_copy_of_an_enhanced_file_is_coded_as_one(tmp_path, stored):
    source = enhanced(stored, [3, 0, 5, 1, 4, 2], np.ones(6))
    write(tmp_path / "copy.dcm", read(save(source, tmp_path / "source.dcm")))
    ds = pydicom.dcmread(tmp_path / "copy.dcm")
    codes = {
        (c.CodeValue, c.CodingSchemeDesignator)
        for g in ds.PerFrameFunctionalGroupsSequence
        for c in g.DerivationImageSequence[0].DerivationCodeSequence
    }
    assert codes == {("COPY", "99DIPSCI")}


def test_floating_point_and_single_bits_are_read_and_not_written(tmp_path, stored):
    ds = ct_slice(
        stored[0], RescaleIntercept=0, PixelData=None, PixelRepresentation=None, BitsStored=None, HighBit=None
    )
    ds.BitsAllocated, ds.FloatPixelData = 32, stored[0].astype(np.float32).tobytes()
    image = read(save(ds, tmp_path / "float.dcm"))
    np.testing.assert_array_equal(image.array, stored[0].astype(np.float32))
    with pytest.raises(WriteError, match="stores floating-point values; write"):
        check_target(tmp_path / "x.dcm", image)
    bits = (stored[0] > 2000).astype(np.uint8)
    ds = ct_slice(bits, BitsAllocated=1, BitsStored=1, HighBit=0, RescaleIntercept=0)
    ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
    image = read(save(ds, tmp_path / "bits.dcm"))
    np.testing.assert_array_equal(image.array, bits)
    with pytest.raises(WriteError, match="stores single bits; write"):
        check_target(tmp_path / "x.dcm", image)


def test_a_series_number_that_is_taken_is_not_taken_again(series, tmp_path):
    image = read(series())
    write(tmp_path / "first", image, description=SAID)
    write(tmp_path / "second", image, description=SAID)
    assert [headers(tmp_path / name)[0].SeriesNumber for name in ("first", "second")] == [1007, 1008]
    # Replacing a series frees its number.
    write(tmp_path / "first", image, description=SAID, overwrite=True)
    assert headers(tmp_path / "first")[0].SeriesNumber == 1007


def test_files_with_pixels_that_nobody_measured_say_so(series, tmp_path):
    image = read(series())
    filled = image.array.copy()
    filled[2, 3:5, 3:5] += 50
    write(tmp_path / "filled", image.with_array(filled), description="Inpainted by dip-sci 9.9; seed 3")
    assert [ds.get("SyntheticData") for ds in by_position(tmp_path / "filled")] == [None, None, "YES", None, None, None]
    write(tmp_path / "clean", image.with_array(filled), description=SAID)
    assert all("SyntheticData" not in ds for ds in headers(tmp_path / "clean"))


def test_padding_stays_unless_it_is_filled(series, stored, tmp_path):
    image = read(series(lambda i: {"PixelPaddingValue": int(stored[0, 0, 0])}))
    assert image.valid is not None
    padded = ~image.valid
    new = image.array.copy()
    new[padded] = 7
    write(tmp_path / "kept", image.with_array(new), description=SAID)
    np.testing.assert_array_equal(read(tmp_path / "kept").array, image.array)
    whole = dataclasses.replace(image.with_array(new), valid=np.ones(image.shape, bool))
    write(tmp_path / "filled", whole, description="Inpainted by dip-sci 9.9; seed 3")
    assert set(read(tmp_path / "filled").array[padded].tolist()) == {7}
