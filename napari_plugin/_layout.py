"""Pieces of the layout that fit a narrow dock."""

from __future__ import annotations

from typing import TypeVar

from magicgui.widgets import CheckBox, Container, Label, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFrame, QScrollArea, QSizePolicy

W = TypeVar("W", bound=Widget)

WIDTH = 310
"""Pixels that the widget needs to be read without scrolling sideways."""


def row(*widgets: Widget) -> Container[Widget]:
    """Return widgets side by side."""
    line = Container[Widget](widgets=widgets, layout="horizontal", labels=False)
    line.margins = (0, 0, 0, 0)
    return line


def folded(title: str, inside: Container[Widget], tooltip: str = "") -> Container[Widget]:
    """Return a container that shows and hides what is inside at the press of its title."""
    button = CheckBox(text=title, value=False, tooltip=tooltip)
    inside.visible = False
    inside.margins = (12, 0, 0, 0)
    button.changed.connect(lambda on: setattr(inside, "visible", on))
    whole = Container[Widget](widgets=[button, inside], labels=False)
    whole.margins = (0, 0, 0, 0)
    return whole


def words(label: Label) -> Label:
    """Return a label whose sentences break where the dock ends, instead of making it wider."""
    label.native.setWordWrap(True)
    label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def narrow(widget: W) -> W:
    """Return a choice that may be narrower than its longest entry."""
    if isinstance(widget.native, QComboBox):
        widget.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        widget.native.setMinimumContentsLength(8)
    return widget


def scrolling(body: Container[Widget]) -> QScrollArea:
    """Return an area as wide as the dock, in which a longer container scrolls.

    magicgui's own scrolling container is docked by its inner widget, which leaves the scroll area behind.
    """
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setMinimumWidth(WIDTH)
    body.native.layout().setAlignment(Qt.AlignmentFlag.AlignTop)
    area.setWidget(body.native)
    return area
