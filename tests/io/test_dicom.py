"""DICOM in: geometry by position, values by each slice's own rescaling, and clear refusals."""

import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import ct_slice, enhanced, save
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

from dip_sci.errors import ReadError
from dip_sci.io import read, write

RNG = np.random.default_rng(8)


def test_a_series_is_ordered_by_position_alone(series, stored):
    image = read(series())
    assert image.axes == "ZYX"
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image.array, stored.astype(int) - 1024)
    assert image.spacing == pytest.approx((2.5, 0.5, 0.75))
    assert set(image.units) == {"millimeter"}
    assert image.value_range == (-1024, 3071)
    assert image.valid is None


def test_the_affine_leads_to_ras(series):
    affine = read(series()).affine
    # DICOM's x and y point left and back.
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [10, 20, 30, 1])
    np.testing.assert_allclose(affine @ [1, 0, 0, 1], [10 - 0.75, 20, 30, 1])
    np.testing.assert_allclose(affine @ [0, 1, 0, 1], [10, 20 - 0.5, 30, 1])
    np.testing.assert_allclose(affine @ [0, 0, 1, 1], [10, 20, 32.5, 1])


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_what_measured_it_is_known(series, modality):
    assert read(series(lambda _: {"Modality": modality})).source.modality == modality


def test_an_oblique_series_keeps_its_affine(series, stored):
    c, s = np.cos(0.3), np.sin(0.3)
    image = read(series(lambda i: {"orientation": (1, 0, 0, 0, c, s), "position": (1.0, 2 - s * 3 * i, 3 + c * 3 * i)}))
    np.testing.assert_array_equal(image.array, stored.astype(int) - 1024)
    assert image.spacing_of("Z") == pytest.approx(3, abs=1e-3)
    np.testing.assert_allclose(image.affine @ [0, 0, 2, 1], [-1, -2 + s * 6, 3 + c * 6, 1], atol=1e-3)


def test_rounded_orientations_and_positions_are_accepted(series):
    image = read(series(lambda i: {"orientation": (1, 1e-4 * (i % 2), 0, 0, 1, 0)}, places=np.arange(6) * 0.667))
    assert image.axes == "ZYX"


@pytest.mark.parametrize(
    ("places", "tilt", "reason"),
    [
        ([0, 2.5, 5, 10, 12.5, 15], 0, "a slice is missing, there is a gap of 5 mm"),
        ([0, 2.5, 2.5, 5, 7.5, 10], 0, "its 6 slices lie at only 5 places"),
        ([0, 2.5, 5, 7.8, 10, 12.5], 0, "unevenly spaced"),
        (np.arange(6) * 2.5, np.radians(2), "leans by 2.0 degrees"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_reason(series, places, tilt, reason):
    folder = series(places=places, tilt=tilt)
    with pytest.raises(ReadError, match=reason) as refused:
        read(folder)
    assert "slice by slice" in str(refused.value)
    # The way out that the message offers.
    assert read(next(folder.iterdir())).axes == "YX"
    assert read(folder, axes="TYX").shape == (6, 8, 10)


def test_slices_at_the_same_place_name_what_differs(series):
    folder = series(lambda i: {"EchoTime": 10.0 + i}, places=[0, 0, 2.5, 2.5, 5])
    with pytest.raises(ReadError, match="5 slices lie at only 3 places"):
        read(folder)


def test_copies_of_files_are_named_as_such(series):
    folder = series()
    (folder / "copy.dcm").write_bytes(next(folder.iterdir()).read_bytes())
    with pytest.raises(ReadError, match="1 of its 7 slices are copies"):
        read(folder)


def test_slices_shifted_sideways_are_refused(series):
    with pytest.raises(ReadError, match="shifted sideways"):
        read(series(lambda i: {"position": (2.0 * (i == 3), 0, 2.5 * i)}))


def test_each_slice_has_its_own_slope(series, stored):
    image = read(series(lambda i: {"RescaleSlope": 0.5 + i, "RescaleIntercept": i}))
    assert image.dtype == np.float32
    expected = stored * (0.5 + np.arange(6))[:, None, None] + np.arange(6)[:, None, None]
    np.testing.assert_allclose(image.array, expected, rtol=1e-6)
    assert [p[3] for p in image.source.header["planes"]] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]


def test_padding_is_told_by_stored_values(series, stored):
    stored[:, 0] = 4095
    stored[:, 1] = 4090
    image = read(series(lambda i: {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4090}))
    assert image.array[0, 0, 0] == 4095 - 1024
    expected = (stored < 4090) | (stored > 4095)
    np.testing.assert_array_equal(image.valid, expected)


def test_padding_with_the_other_sign(tmp_path):
    stored = np.array([[-2000, 5], [6, 7]], np.int16)
    ds = ct_slice(stored)
    ds.add_new("PixelPaddingValue", "US", 63536)
    image = read(save(ds, tmp_path / "x.dcm"))
    np.testing.assert_array_equal(image.valid, [[False, True], [True, True]])


def test_sixteen_bits_with_an_intercept_do_not_wrap(tmp_path, stored):
    stored[0, 0, 0] = 65000
    ds = ct_slice(stored[0])
    ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 16, 15, -1024
    image = read(save(ds, tmp_path / "x.dcm"))
    assert image.array[0, 0] == 65000 - 1024


def test_monochrome1_and_real_world_maps_change_nothing(series, stored):
    item = pydicom.Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 200.0, 5.0
    image = read(
        series(lambda i: {"PhotometricInterpretation": "MONOCHROME1", "RealWorldValueMappingSequence": [item]})
    )
    np.testing.assert_array_equal(image.array, stored.astype(int) - 1024)
    assert any("MONOCHROME1" in note for note in image.source.notes)


def test_a_series_goes_to_nifti_and_tiff_with_its_geometry(series, tmp_path):
    image = read(series())
    nifti = read(write(tmp_path / "x.nii.gz", image))
    np.testing.assert_array_equal(nifti.array, image.array)
    np.testing.assert_allclose(nifti.affine, image.affine, atol=1e-6)
    assert nifti.spacing == pytest.approx(image.spacing)
    assert nifti.units == image.units
    for name in ("x.tif", "x.ome.tif"):
        tiff = read(write(tmp_path / name, image))
        np.testing.assert_array_equal(tiff.array, image.array)
        assert (tiff.spacing, tiff.units) == (pytest.approx(image.spacing), image.units)


def test_a_map_from_slices_to_files_is_kept(series):
    image = read(series())
    for i, (file, frame, uid, slope, intercept) in enumerate(image.source.header["planes"]):
        ds = pydicom.dcmread(file)
        assert (frame, uid, slope, intercept) == (0, ds.SOPInstanceUID, 1, -1024)
        assert float(ds.ImagePositionPatient[2]) == 30 + 2.5 * i


def test_two_series_are_listed_and_refused(series, stored):
    folder = series()
    other = folder / "other"
    other.mkdir()
    save(ct_slice(stored[0], series="1.9", SeriesNumber=9, Modality="MR"), other / "a")
    with pytest.raises(ReadError, match=r"2 series.*number 7 \(CT, 6 files\).*number 9 \(MR, 1 files in other\)"):
        read(folder)
    assert read(other).axes == "YX"


def test_localizers_and_other_files_are_left_out(series, stored):
    folder = series()
    (folder / "readme.txt").write_text("Notes on the scan. " * 20)
    localizer = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(ct_slice(stored[0], series="1.9", ImageType=localizer), folder / "scout.dcm")
    report = ct_slice(stored[0], Rows=None, Columns=None, PixelData=None)
    save(report, folder / "report.dcm")
    assert read(folder).shape == (6, 8, 10)


@pytest.mark.parametrize(("name", "value"), [("Rows", 4), ("FrameOfReferenceUID", "1.5")])
def test_a_mixed_series_names_what_differs(series, name, value):
    with pytest.raises(ReadError, match=name):
        read(series(lambda i: {name: value} if i == 2 else {}))


def test_slices_of_different_pixel_spacing_are_refused(series):
    with pytest.raises(ReadError, match="pixel spacing"):
        read(series(lambda i: {"PixelSpacing": [0.5 + 0.1 * (i == 0), 0.75]}))


def test_no_patient_is_named(series):
    folder = series(lambda i: {"PatientName": "Roe^Jane"})
    image = read(folder)
    told = repr(image.source)
    (folder / "000_9.dcm").write_bytes((folder / "000_9.dcm").read_bytes()[:-50])
    with pytest.raises(ReadError) as refused:
        read(folder)
    told += str(refused.value)
    assert "Roe" not in told
    assert "xyzzy" not in told


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_padded.dcm"])
def test_single_files_of_pydicom(name):
    path = get_testdata_file(name)
    ds = pydicom.dcmread(path)
    # One of them has bytes to spare behind its pixels.
    ds.PixelData = (
        ds.PixelData if ds.file_meta.TransferSyntaxUID.is_compressed else ds.PixelData[: ds.Rows * ds.Columns * 2]
    )
    image = read(path)
    assert image.axes == "YX"
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    np.testing.assert_array_equal(image.array, ds.pixel_array.astype(float) * slope + intercept)
    assert image.array.dtype.isnative
    assert image.affine is not None


def test_compressed_files_agree_with_their_plain_twin():
    plain = read(get_testdata_file("MR_small.dcm"))
    for name in ("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"):
        np.testing.assert_array_equal(read(get_testdata_file(name)).array, plain.array)


@pytest.mark.parametrize(
    ("name", "size"),
    [("examples_rgb_color.dcm", (240, 320, 3)), ("examples_ybr_color.dcm", None), ("examples_palette.dcm", None)],
)
def test_colours_are_rgb(name, size):
    path = get_testdata_file(name)
    image = read(path)
    assert image.axes.endswith("YXS")
    assert image.size_of("S") == 3
    assert size is None or image.shape == size


def test_a_table_of_values_is_not_applied_and_said(tmp_path, stored):
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.ModalityLUTType, table.LUTData = "US", np.arange(4096, dtype=np.uint16)[::-1].tobytes()
    path = save(ct_slice(stored[0], ModalityLUTSequence=[table], RescaleSlope=None), tmp_path / "x.dcm")
    image = read(path)
    np.testing.assert_array_equal(image.array, stored[0])
    assert any("Modality LUT" in note for note in image.source.notes)


def test_an_enhanced_file_is_a_series_in_one_file(tmp_path, stored):
    slopes = np.arange(1, 7) / 2
    path = save(enhanced(stored, [3, 0, 5, 1, 4, 2], slopes), tmp_path / "enhanced.dcm")
    image = read(path)
    assert image.axes == "ZYX"
    np.testing.assert_allclose(image.array, stored * slopes[:, None, None])
    assert image.spacing == pytest.approx((2.5, 0.5, 0.75))
    np.testing.assert_allclose(image.affine @ [0, 0, 1, 1], [-1, -2, 5.5, 1])
    assert [p[1] for p in image.source.header["planes"]] == [1, 3, 5, 0, 4, 2]
    frames = read(path, axes="TYX")
    assert frames.affine is None
    np.testing.assert_allclose(frames.array[0], stored[3] * slopes[3])


def test_frames_without_places_are_said_to_be_guessed(tmp_path, stored):
    ds = ct_slice(stored[0], ImagePositionPatient=None, ImageOrientationPatient=None, NumberOfFrames=6)
    ds.PixelData = stored.tobytes()
    image = read(save(ds, tmp_path / "x.dcm"))
    assert image.axes == "ZYX"
    assert "TYX" in image.source.notes[0]
    ds.FrameTime = 40
    movie = read(save(ds, tmp_path / "y.dcm"))
    assert (movie.axes, movie.spacing[0], movie.units[0]) == ("TYX", 0.04, "second")


def test_a_file_without_preamble(tmp_path, stored):
    save(ct_slice(stored[0]), tmp_path / "x.dcm")
    data = (tmp_path / "x.dcm").read_bytes()[132:]
    (tmp_path / "bare").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "bare").array, stored[0].astype(int) - 1024)


def test_a_dicom_file_with_a_tiff_header_in_its_preamble(tmp_path, stored):
    save(ct_slice(stored[0]), tmp_path / "x.tif")
    data = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(b"II*\0" + data[4:])
    assert read(tmp_path / "x.tif").source.format == "dicom"


def test_a_deflated_file_is_read_and_a_bomb_refused(tmp_path, stored, monkeypatch):
    ds = ct_slice(stored[0])
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(ds, tmp_path / "x.dcm")
    np.testing.assert_array_equal(read(path).array, stored[0].astype(int) - 1024)
    monkeypatch.setattr("dip_sci.io.dicom_pixels.INFLATED_MAX", 1000)
    bomb = zlib.compressobj(wbits=-15)
    tail = bomb.compress(b"\0" * 10_000_000) + bomb.flush()
    head = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    (tmp_path / "bomb.dcm").write_bytes(head[: 144 + meta.FileMetaInformationGroupLength] + tail)
    with pytest.raises(ReadError, match="grows beyond"):
        read(tmp_path / "bomb.dcm")
    # Without preamble, or with a lie about where the inflated bytes begin, it is no less of a bomb.
    bomb_file = (tmp_path / "bomb.dcm").read_bytes()
    (tmp_path / "bare").write_bytes(bomb_file[132:])
    (tmp_path / "lie.dcm").write_bytes(bomb_file[:140] + (2**20).to_bytes(4, "little") + bomb_file[144:])
    for name in ("bare", "lie.dcm"):
        with pytest.raises(ReadError, match="grows beyond"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": 60000, "Columns": 60000, "NumberOfFrames": 10000}, "memory"),
        ({"NumberOfFrames": 10**5}, "100000 frames in"),
        ({"Rows": 0}, "0 x 10"),
        ({"BitsAllocated": 12}, "12 bits"),
        ({"PixelData": None}, "ends before its pixels"),
        ({"PixelData": b"\0" * 10}, "truncated or damaged"),
        ({"Rows": None, "Columns": None}, "without an image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"Modality": "SEG"}, "computed and not measured"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6"}, "tiled slide"),
    ],
)
def test_damaged_or_unfit_files_are_refused(tmp_path, stored, attributes, reason):
    with pytest.raises(ReadError, match=reason) as refused:
        read(save(ct_slice(stored[0], **attributes), tmp_path / "x.dcm"))
    assert "x.dcm" in str(refused.value)


def test_a_cut_jpeg_2000_is_refused(tmp_path):
    ds = pydicom.dcmread(get_testdata_file("MR_small_jp2klossless.dcm"))
    stream = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([stream[: len(stream) // 2]])
    assert ds.file_meta.TransferSyntaxUID == JPEG2000Lossless
    with pytest.raises(ReadError, match="truncated"):
        read(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize(
    ("name", "mark", "place"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", 5),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", b"\xff\xc0", 5),
        ("MR_small_jp2klossless.dcm", b"\xff\x4f\xff\x51", 8),
    ],
)
def test_a_stream_larger_than_announced_is_refused(tmp_path, name, mark, place):
    ds = pydicom.dcmread(get_testdata_file(name))
    stream = bytearray(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)))
    start = stream.index(mark) + place
    wide = 4 if name.endswith("jp2klossless.dcm") else 2
    stream[start : start + 2 * wide] = (30000).to_bytes(wide, "big") * 2
    ds.PixelData = encapsulate([bytes(stream)])
    with pytest.raises(ReadError, match="compressed image 30000 x 30000"):
        read(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "MR_small_RLE.dcm"])
def test_cut_streams_are_refused(tmp_path, name, share):
    ds = pydicom.dcmread(get_testdata_file(name))
    stream = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([stream[: int(len(stream) * share)]])
    with pytest.raises(ReadError, match="truncated"):
        read(save(ds, tmp_path / "x.dcm"))


def test_twelve_bit_jpeg_names_its_extra():
    with pytest.raises(ReadError, match=r"pip install dip-sci\[jpeg12\]"):
        read(get_testdata_file("JPEG-lossy.dcm"))


def test_truncation_anywhere_is_one_clear_error(tmp_path, stored):
    save(ct_slice(stored[0]), tmp_path / "x.dcm")
    data = (tmp_path / "x.dcm").read_bytes()
    for length in range(140, len(data) - 1, 97):
        (tmp_path / "cut.dcm").write_bytes(data[:length])
        with pytest.raises(ReadError, match="cut"):
            read(tmp_path / "cut.dcm")


def test_nested_sequences_end_in_an_error(tmp_path, stored):
    save(ct_slice(stored[0], PixelData=None), tmp_path / "x.dcm")
    item = b"\x40\0\x75\x02SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4
    with (tmp_path / "x.dcm").open("ab") as file:
        file.write(item * 3000)
    with pytest.raises(ReadError, match="nested"):
        read(tmp_path / "x.dcm")


def test_a_stream_of_impossible_depth_does_not_end_the_process(tmp_path):
    """It would, in gdcm, which pydicom tries after the decoder that refuses it."""
    ds = pydicom.dcmread(get_testdata_file("MR_small_jpeg_ls_lossless.dcm"))
    stream = bytearray(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)))
    stream[stream.index(b"\xff\xf7") + 4] = 191
    ds.PixelData = encapsulate([bytes(stream)])
    with pytest.raises(ReadError, match="could not be decoded"):
        read(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "image_dfl.dcm"],
)
def test_damaged_bytes_end_in_an_image_or_one_error(tmp_path, name):
    rng = np.random.default_rng(0)
    data = Path(get_testdata_file(name)).read_bytes()
    for _ in range(100):
        damaged = bytearray(data)
        for place in rng.integers(132, rng.choice([600, 4000, len(data)]), rng.choice([1, 3, 20])):
            damaged[min(place, len(data) - 1)] = rng.integers(256)
        (tmp_path / "x.dcm").write_bytes(damaged)
        with suppress(ReadError):
            read(tmp_path / "x.dcm")


def test_lossless_jpeg_of_signed_twelve_bits(tmp_path):
    stored = RNG.integers(-2048, 2048, (6, 9)).astype(np.int16)
    path = tmp_path / "x.dcm"
    frame = imagecodecs.ljpeg_encode((stored & 0xFFF).astype(np.uint16), bitspersample=12)
    ds = ct_slice(stored, BitsStored=12, HighBit=11, RescaleIntercept=0)
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    save(ds, path)
    np.testing.assert_array_equal(read(path).array, stored)
    ds.PixelData = encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(ReadError, match="its lossless JPEG pixels end too early"):
        read(save(ds, path))
    ds.PixelData = encapsulate([frame[: len(frame) // 2] + b"\xff\xd9"])
    with pytest.raises(ReadError, match="could not be decoded"):
        read(save(ds, path))


def test_an_element_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = save(ct_slice(np.zeros((4, 4), np.uint16)), tmp_path / "x.dcm")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    data[at : at + 4] = (2**32 - 16).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ReadError, match="truncated"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
