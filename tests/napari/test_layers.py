"""Layer <-> Image: what was read, shown and taken back is what it was."""

import dataclasses

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

from dip_sci import io, samples
from dip_sci.errors import ImageError
from dip_sci.image import Image, Source
from napari_plugin._layers import attributes_of, axes_of, geometry, image_of, layer_data, origin_of

MM = ("millimeter",) * 3


def layer(image, **changes):
    data, keywords, _ = layer_data(image, "scan")
    return ImageLayer(data, **(keywords | changes))


def back(shown, **options):
    return image_of(shown.data, attributes_of(shown), **options)


def volume(affine=None, shape=(3, 4, 5), spacing=(3.0, 2.0, 1.0)):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return Image(array, "ZYX", spacing, MM, affine, source=Source("nifti", "a.nii", {"some": "header"}))


def same(a, b):
    assert np.array_equal(a.array, b.array)
    assert (a.axes, a.spacing, a.units, a.source, a.value_range) == (
        b.axes,
        b.spacing,
        b.units,
        b.source,
        b.value_range,
    )
    assert (a.affine is None and b.affine is None) or np.array_equal(a.affine, b.affine)
    assert (a.valid is None and b.valid is None) or np.array_equal(a.valid, b.valid)


@pytest.mark.parametrize("place", ["ct_series", "mri/spine_t1w.nii.gz", "microscopy/nuclear_envelope_3d.tif"])
def test_an_image_survives_a_layer(place):
    image = io.read(samples.folder() / place)
    same(back(layer(image)), image)


def test_scale_units_and_labels_are_shown():
    shown = layer(volume())
    assert tuple(shown.scale) == (3, 2, 1)
    assert [str(u) for u in shown.units] == list(MM)
    assert shown.axis_labels == ("z", "y", "x")


ROTATED = np.array([[0, -0.6, 0.8 * 3, 1], [0, 0.8 * 2, 0.6 * 3, 2], [1.0, 0, 0, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([1.0, 2, 3, 1]) + np.array([[0, 0, 0, -9], [0, 0, 0, 8], [0, 0, 0, 7], [0, 0, 0, 0]]),
        # As DICOM's axial series: x to the left, y to the back.
        np.diag([-1.0, -2, 3, 1]),
    ],
)
def test_a_voxel_lies_where_the_patient_is(affine):
    shown = layer(volume(affine))
    for z, y, x in [(0, 0, 0), (2, 3, 4), (1, 0, 2)]:
        right, front, up = (affine @ [x, y, z, 1])[:3]
        assert np.allclose(shown.data_to_world((z, y, x)), (up, -front, -right))


def test_an_axial_image_lies_as_radiologists_look_at_it():
    # From left to right on the screen: to the patient's left; downwards: to the back.
    shown = layer(volume(np.diag([-1.0, -2, 3, 1])))
    assert np.allclose(shown.affine.linear_matrix, np.eye(3))


def test_a_sagittal_image_is_shown_in_its_own_planes_head_up():
    # x runs to the front, y upwards, z to the right.
    affine = np.array([[0, 0, 3.0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    shown = layer(volume(affine))
    linear = shown.affine.linear_matrix
    # No axis is mixed with another one, so that napari can slice it; what is higher up is drawn higher up.
    assert np.allclose(np.abs(linear), np.eye(3))
    assert linear[1, 1] == -1


def test_the_affine_is_in_the_layers_own_unit():
    image = dataclasses.replace(volume(np.diag([-1.0, -2, 3, 1])), spacing=(3e3, 2e3, 1e3), units=("micrometer",) * 3)
    shown = layer(image)
    assert np.allclose(shown.data_to_world((1, 1, 1)), (3e3, 2e3, 1e3))


def test_where_an_ome_zarr_begins_is_kept(tmp_path):
    grid = {"Y": (0.5, 10.0), "X": (0.5, -4.0)}
    shown = layer(Image(np.ones((8, 9)), "YX", (0.5, 0.5), source=Source("ome_zarr", "a.zarr", {"grid": grid})))
    assert tuple(shown.translate) == (10, -4)


@pytest.mark.parametrize("axes", ["YXS", "SYX", "ZYXS"])
def test_colours_are_shown_as_colours(axes):
    shape = [3 if a == "S" else 12 for a in axes]
    image = Image(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8), axes)
    shown = layer(image)
    assert shown.rgb
    taken = back(shown)
    assert taken.axes == axes.replace("S", "") + "S"
    np.testing.assert_array_equal(taken.array, np.moveaxis(image.array, axes.index("S"), -1))


def test_two_samples_are_no_colour_and_three_columns_neither():
    assert layer(Image(np.ones((12, 12, 2)), "YXS")).data.shape == (2, 12, 12)
    assert not layer(Image(np.ones((4, 12, 3), np.uint8), "ZYX")).rgb


# napari says so itself: it draws an oblique volume without the part of its rotation that leaves the plane.
oblique = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


@oblique
def test_a_part_keeps_its_place():
    image = volume(ROTATED)
    taken = back(layer(image), index=(slice(1, 3), slice(2, 4), slice(0, 5)))
    assert np.array_equal(taken.array, image.array[1:3, 2:4])
    assert np.allclose(taken.affine @ [0, 0, 0, 1], ROTATED @ [0, 2, 1, 1])
    # A header of the whole does not describe a part.
    assert (taken.source.path, dict(taken.source.header)) == (None, {})


@oblique
def test_a_user_who_changes_the_scale_knows_better_than_the_file():
    shown = layer(volume(ROTATED))
    shown.scale = (6, 2, 1)
    taken = back(shown)
    assert taken.spacing == (6, 2, 1)
    assert taken.affine is None


def test_a_layer_of_another_reader_is_taken_at_its_word():
    shown = ImageLayer(np.zeros((4, 16, 16)), scale=(2, 0.5, 0.5), units=("s", "um", "um"), axis_labels=("t", "y", "x"))
    taken = back(shown)
    assert (taken.axes, taken.spacing, taken.units) == ("TYX", (2, 0.5, 0.5), ("second", "micrometer", "micrometer"))


@pytest.mark.parametrize(("shape", "axes"), [((9, 9), "YX"), ((3, 9, 9), "ZYX"), ((2, 3, 9, 9), "TZYX")])
def test_axes_without_names_are_the_usual_ones(shape, axes):
    shown = ImageLayer(np.zeros(shape))
    assert axes_of(attributes_of(shown), shape) == axes
    assert back(shown).spacing == (None,) * len(shape)


def test_axes_of_the_wrong_number_are_refused():
    shown = ImageLayer(np.zeros((3, 9, 9)))
    with pytest.raises(ImageError, match="3 dimensions"):
        back(shown, axes="YX")
    with pytest.raises(ImageError, match="6 dimensions"):
        axes_of(attributes_of(shown), (1, 1, 1, 1, 9, 9))


def test_data_of_another_shape_are_no_longer_the_files():
    shown = layer(volume())
    shown.data = np.zeros((3, 2, 5), np.int16)
    assert origin_of(attributes_of(shown), shown.data.shape) is None
    assert back(shown).source.path is None


def test_a_layer_of_a_part_of_a_turned_layer_lies_where_that_part_is():
    turned = ImageLayer(np.zeros((9, 9)), scale=(2, 3), rotate=30, translate=(5, 7), shear=[0.2])
    other = ImageLayer(np.zeros((4, 5)), **geometry(turned, (2, 3)))
    for voxel in ((0, 0), (3, 4)):
        assert np.allclose(other.data_to_world(voxel), turned.data_to_world(np.add(voxel, (2, 3))))


def test_an_ome_zarr_is_not_read_before_it_is_looked_at(tmp_path, monkeypatch):
    from dip_sci.io import ome_zarr

    monkeypatch.setattr(ome_zarr, "SMALL", 20)
    image = Image(
        np.random.default_rng(0).integers(0, 9, (4, 70, 50)).astype(np.uint16),
        "ZYX",
        (2.0, 0.5, 0.5),
        ("micrometer",) * 3,
    )
    path = io.write(tmp_path / "x.ome.zarr", image)
    levels = io.open_levels(path)
    assert [level.array.shape for level in levels] == [(4, 70, 50), (4, 35, 25), (4, 17, 12)]
    assert not any(isinstance(level.array, np.ndarray) for level in levels)
    data, keywords, _ = layer_data(levels[0], "x", [level.array for level in levels[1:]])
    shown = ImageLayer(data, **keywords)
    taken = back(shown, index=(slice(1, 2), slice(0, 70), slice(10, 20)))
    np.testing.assert_array_equal(taken.array, image.array[1:2, :, 10:20])
    same(back(shown), io.read(path))
    assert io.open_levels(path / "1") == []
