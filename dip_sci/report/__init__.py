"""Reports: pictures of a restoration, and pages that show how it came about, one per image and one per batch."""

from __future__ import annotations

from dip_sci.report.overview import overview
from dip_sci.report.page import page
from dip_sci.report.pictures import comparison

__all__ = ["comparison", "overview", "page"]
