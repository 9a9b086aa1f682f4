"""A painted region lies where it was painted, whatever its layer's grid."""

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes
from scenes import noisy

import dip_sci
from dip_sci.errors import ImageError
from napari_plugin._layers import attributes_of, image_of
from napari_plugin._region import Region


def painted(labels, image, axes="YX", index=None, **keywords):
    return Region.of(Labels(labels, **keywords), image, axes).mask(index)


@pytest.fixture
def image():
    return ImageLayer(np.zeros((20, 30)), scale=(2, 1), translate=(5, 0))


@pytest.fixture
def mask():
    inside = np.zeros((20, 30), np.uint8)
    inside[3:9, 10:20] = 2
    return inside


def test_labels_on_the_images_grid_are_taken_as_they_are(image, mask):
    region = Region.of(Labels(mask, scale=(2, 1), translate=(5, 0)), image, "YX")
    assert region.on_image_grid
    assert region.sentence == ""
    assert np.array_equal(region.mask(), mask > 0)
    part = (slice(2, 6), slice(5, 15))
    assert np.array_equal(region.mask(part), mask[part] > 0)


def test_labels_on_a_finer_grid_are_looked_up(image, mask):
    fine = np.kron(mask, np.ones((2, 2), np.uint8))
    region = Region.of(Labels(fine, scale=(1, 0.5), translate=(4.5, -0.25)), image, "YX")
    assert "another grid" in region.sentence
    assert np.array_equal(region.mask(), mask > 0)
    part = (slice(2, 6), slice(5, 15))
    assert np.array_equal(region.mask(part), mask[part] > 0)


def test_outside_of_smaller_labels_nothing_is_inside(image):
    assert painted(np.ones((5, 5), int), image, scale=(2, 1), translate=(5, 0)).sum() == 25


def test_labels_in_another_unit_are_found(image, mask):
    um = ImageLayer(np.zeros((20, 30)), scale=(2000, 1000), units=("um", "um"))
    assert np.array_equal(painted(mask, um, scale=(2, 1), units=("mm", "mm")), mask > 0)


def test_turned_labels_are_looked_up():
    image = ImageLayer(np.zeros((21, 21)))
    labels = np.zeros((21, 21), int)
    labels[:, 10] = 1
    # A quarter turn about the middle: a column becomes a row.
    found = painted(labels, image, rotate=90, translate=(20, 0))
    assert np.array_equal(np.flatnonzero(found.any(axis=1)), [10])


def test_flat_labels_count_in_every_plane_and_deep_ones_in_theirs():
    volume = ImageLayer(np.zeros((4, 8, 8)))
    flat = np.eye(8, dtype=int)
    assert np.array_equal(painted(flat, volume, "ZYX"), np.broadcast_to(flat > 0, (4, 8, 8)))
    deep = np.zeros((4, 8, 8), int)
    deep[2, 3, 3] = 1
    assert painted(deep, volume, "ZYX").sum() == 1
    assert painted(deep, ImageLayer(np.zeros((8, 8)))).sum() == 1


@pytest.mark.parametrize("kind", ["rectangle", "ellipse", "polygon"])
def test_drawn_shapes_are_filled(image, kind):
    box = np.array([[11.0, 10], [11, 20], [23, 20], [23, 10]])
    inside = Region.of(Shapes([box], shape_type=kind), image, "YX").mask()
    rows, columns = np.nonzero(inside)
    # World rows 11 to 23 are the image's rows 3 to 9.
    assert (rows.min(), rows.max()) in {(3, 9), (4, 8)}
    assert (columns.min(), columns.max()) in {(10, 20), (11, 19)}
    assert inside.mean() == pytest.approx({"ellipse": 47 / 600}.get(kind, 77 / 600), rel=0.2)


def test_a_shape_counts_in_its_plane_at_all_times():
    series = ImageLayer(np.zeros((3, 4, 16, 16)))
    corners = [[1, 2, 4, 4], [1, 2, 4, 9], [1, 2, 9, 9], [1, 2, 9, 4]]
    inside = Region.of(Shapes([corners]), series, "TZYX").mask()
    assert np.array_equal(inside.any(axis=(2, 3)), np.array([[False, False, True, False]] * 3))


@pytest.mark.parametrize(
    "region", [Labels(np.zeros((20, 30), int)), Shapes(ndim=2), Shapes([[[0, 0], [9, 9]]], shape_type="line")]
)
def test_an_empty_region_is_refused(image, region):
    with pytest.raises(ImageError, match="is empty"):
        Region.of(region, image, "YX").mask()


def test_only_the_region_is_restored(widget, plane, finished, viewer):
    mask = np.zeros(plane.data.shape, int)
    mask[10:25, 12:30] = 1
    viewer.add_labels(mask, name="here", scale=plane.scale, units=plane.units)
    widget.choice.region.value = viewer.layers["here"]
    result = finished().data
    assert np.array_equal(result[mask == 0], plane.data[mask == 0])
    assert not np.array_equal(result[mask > 0], plane.data[mask > 0])


def test_a_region_counts_for_all_colours(widget, add, finished, viewer):
    source = add(noisy(32, 32, 3, axes="YXS", dtype="uint8"), "colours")
    widget.choice.layer_box.value = source
    mask = np.zeros((32, 32), int)
    mask[8:24, 8:24] = 1
    widget.choice.region.reset_choices()
    widget.choice.region.value = viewer.add_labels(mask, name="here")
    result = finished()
    assert result.rgb
    assert np.array_equal(result.data[mask == 0], source.data[mask == 0])
    assert (result.data != source.data)[mask > 0].any(axis=0).all()


def test_a_hole_is_filled_and_nothing_else(widget, plane, finished, viewer):
    mask = np.zeros(plane.data.shape, int)
    mask[10:14, 12:30] = 1
    plane.data[mask > 0] = 60_000
    viewer.add_labels(mask, name="hole", scale=plane.scale, units=plane.units)
    widget.choice.task_box.value = "inpaint"
    widget.choice.region.value = viewer.layers["hole"]
    assert widget.choice.role.value.title == "fill it in, as a hole"
    layer = finished()
    assert layer.name == "plane inpainted"
    assert np.array_equal(layer.data[mask == 0], plane.data[mask == 0])
    assert layer.data[mask > 0].max() < 500
    assert "--missing region.tif" in widget.choice.script(widget.how.recipe()).command()


def test_a_region_can_count_more_while_all_is_restored(widget, plane, finished, viewer):
    mask = np.zeros(plane.data.shape, np.uint8)
    mask[10:25, 12:30] = 1
    widget.choice.region.value = viewer.add_labels(mask, name="here", scale=plane.scale, units=plane.units)
    inside, weighty = (role for _, role in zip(range(2), widget.choice.task.roles, strict=True))
    widget.choice.role.value = weighty
    assert weighty.title == "weigh it more"
    result = finished().data.copy()
    assert (result != plane.data)[mask == 0].mean() > 0.5
    image = image_of(plane.data, attributes_of(plane))
    recipe = widget.how.recipe().merged({"output": {"outside": "restore"}})
    np.testing.assert_array_equal(result, dip_sci.denoise(image, recipe, region=mask).image.array)
    assert "--region region.tif" in widget.choice.script(widget.how.recipe()).command()
    assert "--output.outside restore" in widget.choice.script(widget.how.recipe()).command()
    # The other meaning, whatever the options were before.
    widget.choice.role.value = inside
    widget.how.form["output.outside"].value = "restore"
    again = finished().data
    assert np.array_equal(again[mask == 0], plane.data[mask == 0])
