"""The manifest holds together: npe2 does not look at references from one part to another."""

import inspect

import pytest

pytest.importorskip("npe2")


@pytest.fixture(scope="module")
def manifest():
    from npe2 import PluginManifest

    return PluginManifest.from_distribution("dip-sci")


def test_everything_that_is_named_can_be_imported(manifest):
    manifest.validate_imports()


def test_commands_and_menus_exist(manifest):
    from napari._app_model.constants import MenuId

    found = manifest.contributions
    ids = {command.id for command in found.commands}
    used = {x.command for group in (found.readers, found.writers, found.widgets, found.sample_data) for x in group}
    used |= {item.command for items in found.menus.values() for item in items if hasattr(item, "command")}
    assert used == ids
    assert set(found.menus) <= {str(x) for x in MenuId.contributables()} | {s.id for s in found.submenus or ()}


def test_the_name_is_the_distributions(manifest):
    assert manifest.name == "dip-sci"
    assert all(command.id.startswith("dip-sci.") for command in manifest.contributions.commands)


def test_the_widget_is_given_the_viewer(manifest):
    from napari_plugin._widget import Restore

    assert "napari_viewer" in inspect.signature(Restore.__init__).parameters
    assert "dip-sci.restore" in {item.command for item in manifest.contributions.menus["napari/layers/filter"]}


def test_every_sample_has_an_entry(manifest):
    from dip_sci import samples

    files = [p for p in samples.folder().rglob("*") if p.suffix in (".tif", ".gz")]
    series = {p.parent for p in samples.folder().rglob("*.dcm")}
    assert len(manifest.contributions.sample_data) == len(files) + len(series)


def test_every_writable_suffix_is_offered(manifest):
    from dip_sci.io.registry import FORMATS

    writable = {s for form in FORMATS if not form.unwritable for s in form.suffixes}
    offered = {e for writer in manifest.contributions.writers for e in writer.filename_extensions}
    assert writable - offered == {".dicom", ".ima"}
    assert offered <= writable
