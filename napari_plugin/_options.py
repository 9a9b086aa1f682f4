"""How it is to be restored: the noise, the preset, and every other option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, Label, PushButton, Widget
from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFileDialog

from dip_sci.errors import DipSciError
from dip_sci.recipe import Recipe
from napari_plugin._form import Form
from napari_plugin._layout import folded, narrow, row, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plugin._facts import Facts

AS: dict[str, tuple[str, int | None]] = {
    "automatic": ("auto", None),
    "3D, a volume": ("3d", None),
    "2D, plane by plane": ("2d", None),
    "a stack of unrelated planes": ("2d", 0),
}
"""What planes along Z are to each other: `generator.ndim` and `generator.neighbours`."""

PLANES = ("generator.ndim", "generator.neighbours")
FILES = "Recipes (*.yaml *.yml *.json)"


class Options(Container[Widget]):
    """The middle part of the widget: the whole recipe, its common parts first.

    Parameters
    ----------
    changed
        Called when an option changes.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__(labels=False)
        self.margins = (0, 0, 0, 0)
        self._changed = changed
        self.form = Form(self._heard)
        self.noise = words(Label(value=""))
        self.planes = ComboBox(label="treat as", choices=list(AS), tooltip="What the planes along Z are to each other")
        self.load = PushButton(text="Load recipe ...")
        self.save = PushButton(text="Save recipe ...")
        groups = self.form.groups()
        noise = Container[Widget](widgets=groups.pop("noise"))
        plain = {w.name: w for w in groups.pop("")}
        preset = plain.pop("preset")
        files = row(self.load, self.save)
        rest = [folded(name, Container[Widget](widgets=inside)) for name, inside in groups.items()]
        more = Container[Widget](widgets=[*plain.values(), *rest, files], labels=True)
        upper, lower = Container[Widget](widgets=[self.planes]), Container[Widget](widgets=[preset])
        for part in (upper, lower):
            part.margins = (0, 0, 0, 0)
        for widget in (self.planes, *(field.widget for field in self.form.fields.values())):
            narrow(widget)
        self.extend([upper, self.noise, folded("Noise by hand", noise), lower, folded("More options", more)])
        self.planes.changed.connect(self._planes_changed)
        self.load.changed.connect(self._ask_and_load)
        self.save.changed.connect(self._ask_and_save)

    def recipe(self) -> Recipe:
        """Return the options as they stand.

        Raises
        ------
        RecipeError
            If one of them cannot be.
        """
        return self.form.recipe()

    def show_recipe(self, recipe: Recipe) -> None:
        """Show all options of a recipe."""
        self.form.show(recipe)

    def show_facts(self, facts: Facts) -> None:
        """Show what was measured, and in the noise's fields what an empty line stands for."""
        if facts.error or facts.noise:
            self.noise.value = facts.error or "\n".join(facts.noise[:3])
        for name, hint in facts.parameters:
            self.form.fields[name].hint(hint)

    def load_from(self, path: Path) -> None:
        """Show the options of a recipe file."""
        try:
            self.show_recipe(Recipe.load(path))
        except DipSciError as error:
            show_error(str(error))
        else:
            show_info(f"The options are those of {path.name}.")

    def save_to(self, path: Path) -> None:
        """Write the options to a recipe file, for the command line and Python as for this widget."""
        if path.suffix.lower() not in (".yaml", ".yml", ".json"):
            path = path.with_name(path.name + ".yaml")
        try:
            self.recipe().save(path)
        except (DipSciError, OSError) as error:
            show_error(str(error))
        else:
            show_info(f"Saved {path.name}; the command line takes it with --recipe.")

    def _ask_and_load(self, _pressed: Any = None) -> None:
        path, _ = QFileDialog.getOpenFileName(self.native, "Load a recipe", "", FILES)
        if path:
            self.load_from(Path(path))

    def _ask_and_save(self, _pressed: Any = None) -> None:
        path, _ = QFileDialog.getSaveFileName(self.native, "Save the recipe", "recipe.yaml", FILES)
        if path:
            self.save_to(Path(path))

    def _planes_changed(self, words: str) -> None:
        for name, value in zip(PLANES, AS[words], strict=True):
            self.form.fields[name].show(value)

    def _heard(self) -> None:
        # While the form itself is made there is nobody to tell.
        if hasattr(self, "planes"):
            now = tuple(self.form.fields[name].value for name in PLANES)
            with self.planes.changed.blocked():
                self.planes.value = next((words for words, values in AS.items() if values == now), "automatic")
            self._changed()
