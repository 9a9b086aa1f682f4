"""The curve of a run: the data term, the stop rule, and the step that was chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

    Points = Sequence[tuple[int, float]]

DATA, RULE, CHOSEN = QColor("#6fa8dc"), QColor("#e6b35a"), QColor("#7ec27e")
DRAWN = 400
"""Points of a curve that are drawn at most; each is the mean of those it stands for."""

MARGIN = 18


class Curve(QWidget):
    """Draws the curves of a run as it goes on; the colours say which is which."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("How well the network fits (blue), what the stop rule watches (yellow), the step shown (green)")
        self.data_terms: Points = ()
        self.stop_curve: Points = ()
        self.chosen: int | None = None
        self.steps = 0

    def sizeHint(self) -> QSize:
        """Tell Qt how large to be."""
        return QSize(240, 110)

    def minimumSizeHint(self) -> QSize:
        """Tell Qt how small it may become."""
        return QSize(120, 110)

    def show_run(self, data_terms: Points, stop_curve: Points, steps: int, chosen: int | None = None) -> None:
        """Draw a run as far as it has come.

        Parameters
        ----------
        data_terms, stop_curve
            ``(step, value)``.
        steps
            Of the whole run.
        chosen
            Step of the state that is shown.
        """
        self.data_terms, self.stop_curve = thinned(list(data_terms)), thinned(list(stop_curve))
        self.steps, self.chosen = steps, chosen
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(self.rect()).adjusted(2, MARGIN, -2, -MARGIN)
        text = self.palette().color(self.foregroundRole())
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawLine(box.bottomLeft(), box.bottomRight())
        self._line(painter, box, self.data_terms, DATA)
        self._line(painter, box, self.stop_curve, RULE)
        if self.chosen is not None and self.steps:
            x = box.left() + box.width() * min(self.chosen / self.steps, 1)
            painter.setPen(QPen(CHOSEN, 2))
            painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
        self._words(painter, text)

    def _words(self, painter: QPainter, text: QColor) -> None:
        above = QRectF(2, 0, self.width() - 4, MARGIN)
        painter.setPen(DATA)
        painter.drawText(above, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, "data term")
        if self.stop_curve:
            painter.setPen(RULE)
            painter.drawText(above, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter, "stop rule")
        if self.chosen is not None:
            painter.setPen(CHOSEN)
            words = f"step {self.chosen}"
            painter.drawText(above, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, words)
        below = QRectF(2, self.height() - MARGIN, self.width() - 4, MARGIN)
        painter.setPen(text)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, "0")
        end = f"{self.steps} steps" if self.steps else ""
        painter.drawText(below, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, end)

    def _line(self, painter: QPainter, box: QRectF, points: Points, colour: QColor) -> None:
        seen = [(step, value) for step, value in points if math.isfinite(value)]
        if len(seen) < 2 or not self.steps:
            return
        low, high = _window([value for _, value in seen])
        painter.setPen(QPen(colour, 1.5))
        painter.drawPolyline(
            QPolygonF(
                [
                    QPointF(
                        box.left() + box.width() * step / self.steps,
                        box.bottom() - box.height() * min(max((value - low) / (high - low), 0), 1),
                    )
                    for step, value in seen
                ]
            )
        )


def _window(values: list[float]) -> tuple[float, float]:
    """Return the range to draw; the first steps, far above the rest, run out of it."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(int(0.98 * len(ordered)), len(ordered) - 1)]
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most `DRAWN` points: the last step and the mean value of each group of neighbours."""
    apart = -(-len(points) // DRAWN)
    groups = [points[i : i + apart] for i in range(0, len(points), apart)] if points else []
    return [(group[-1][0], sum(v for _, v in group) / len(group)) for group in groups]
