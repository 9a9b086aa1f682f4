"""Recipe <-> widgets: one field per option, made from the model, so that no option is declared twice."""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, LineEdit, Widget

from dip_sci.errors import RecipeError
from dip_sci.recipe import Recipe, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

BAD = "color: #e06c75;"


class Field:
    """One option and its widget.

    Attributes
    ----------
    name
        As in `dip_sci.recipe.options`: ``"fit.steps"``.
    widget
        A choice, a tick, or a line of text in which an empty line stands for the default.
    """

    def __init__(self, name: str, info: FieldInfo) -> None:
        self.name, self.default = name, info.default
        self.many = _holds_tuple(info.annotation)
        choices = _choices(info.annotation)
        keywords: dict[str, Any] = {
            "name": name.replace(".", "_"),
            "label": name.rpartition(".")[2].replace("_", " "),
            "tooltip": " ".join((info.description or "").split()),
        }
        self.widget: Any
        if choices and not self.many:
            self.widget = ComboBox(choices=["auto" if c is None else c for c in choices], **keywords)
        elif isinstance(self.default, bool):
            self.widget = CheckBox(text="", **keywords)
        else:
            self.widget = LineEdit(**keywords)
            self.hint(_text(self.default) or "as needed")
        self.show(self.default)

    @property
    def value(self) -> Any:
        """What the widget says, ready for `Recipe.parse`; the default for an empty line."""
        if not isinstance(self.widget, LineEdit):
            found = self.widget.value
            return self.default if found == "auto" and self.default is None else found
        words = [w for w in re.split(r"[,;\s]+", self.widget.value.strip("()[] ")) if w]
        if not words:
            return self.default
        values = [_number(word) for word in words]
        return values if self.many or len(values) > 1 else values[0]

    @property
    def changed(self) -> bool:
        """Whether the option is set by hand."""
        value = self.value
        return bool((tuple(value) if isinstance(value, list) else value) != self.default)

    def show(self, value: Any) -> None:
        """Show a value of the option."""
        if isinstance(self.widget, LineEdit):
            self.widget.value = "" if value == self.default else _text(value)
        else:
            self.widget.value = "auto" if value is None else value

    def hint(self, text: str) -> None:
        """Say in grey what an empty line stands for."""
        if isinstance(self.widget, LineEdit):
            self.widget.native.setPlaceholderText(text)

    def mark(self, error: str = "") -> None:
        """Show in red that the value cannot be used, or that it can."""
        self.widget.native.setStyleSheet(BAD if error else "")


class Form:
    """All options of a recipe, each as a field; who shows which of them is not its business.

    Attributes
    ----------
    fields
        By the option's dotted name.
    """

    def __init__(self, changed: Callable[[], None] | None = None) -> None:
        self.fields = {name: Field(name, info) for name, info in options().items()}
        self._quiet = False
        self._changed = changed
        for field in self.fields.values():
            field.widget.changed.connect(self._heard)

    def __getitem__(self, name: str) -> Widget:
        found: Widget = self.fields[name].widget
        return found

    def recipe(self) -> Recipe:
        """Return what the fields say; what nobody touched is left to be decided.

        Raises
        ------
        RecipeError
            In the words of the command line.
        """
        return Recipe.parse(self.given(), where="The options")

    def given(self) -> dict[str, Any]:
        """Return the options that were set by hand, in nested dictionaries."""
        data: dict[str, Any] = {}
        for name, field in self.fields.items():
            if field.changed:
                group, _, key = name.rpartition(".")
                (data.setdefault(group, {}) if group else data)[key] = field.value
        return data

    def show(self, recipe: Recipe) -> None:
        """Set every field to a recipe."""
        self._quiet = True
        try:
            for name, field in self.fields.items():
                value: Any = recipe
                for part in name.split("."):
                    value = getattr(value, part)
                field.show(value)
        finally:
            self._quiet = False
        self._heard()

    def groups(self) -> dict[str, list[Widget]]:
        """Return the fields' widgets by the recipe's groups, ``""`` for those in none."""
        found: dict[str, list[Widget]] = {}
        for name in self.fields:
            found.setdefault(name.rpartition(".")[0], []).append(self[name])
        return found

    def error(self) -> str:
        """Return what is wrong with the fields, ``""`` where nothing is; mark the field that is to blame."""
        try:
            self.recipe()
        except RecipeError as error:
            words = str(error)
        else:
            words = ""
        for name, field in self.fields.items():
            field.mark(words if re.search(rf"\b{re.escape(name)}\b", words) else "")
        return words

    def _heard(self, *_: Any) -> None:
        if not self._quiet and self._changed is not None:
            self._changed()


def _unpacked(annotation: Any) -> list[Any]:
    """Return the alternatives of a type, without what is annotated to them."""
    if get_origin(annotation) is Annotated:
        return _unpacked(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in _unpacked(part)]
    return [annotation]


def _holds_tuple(annotation: Any) -> bool:
    return any(get_origin(one) is tuple for one in _unpacked(annotation))


def _choices(annotation: Any) -> list[Any]:
    parts = _unpacked(annotation)
    found = [choice for one in parts if get_origin(one) is Literal for choice in get_args(one)]
    return [None, *found] if found and type(None) in parts else found


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return repr(value) if isinstance(value, float) else str(value)
