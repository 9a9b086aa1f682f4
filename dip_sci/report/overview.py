"""The page of a batch: all its restorations side by side, the oddest first."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from dip_sci.report.page import SUMMARY, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMPARED = {
    "removed": "taken out, over the spread of the values",
    "shift": "change of the mean, over what was taken out",
    "shared": "correlation of neighbours in what was taken out",
    "network": "the network's share in the result",
}

FEWEST = 5
"""Scans from which on one can be odd among them."""

ODD = 3.5
"""Distance from the median, in robust standard deviations, that is called odd (Iglewicz & Hoaglin 1993)."""

SMALLEST = 0.02
"""Robust standard deviation, at least: scans that are all but equal make none of them odd."""


def overview(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw the page that compares the restorations of a batch, and leads to the report of each.

    Parameters
    ----------
    folder
        Where the results and their reports are.
    entries
        By the result's place in the folder: ``state``, and ``error``, ``input``, ``report`` (the place of its page) where
        there are.

    Returns
    -------
    str
        A page of HTML with all pictures in it. It shows the names of the files as they were given.
    """
    rows = [_row(folder, name, entry) for name, entry in entries.items()]
    _compare(rows)
    rows.sort(key=lambda row: (row["state"] == "done", -row["oddness"], row["name"]))
    states = {state: sum(row["state"] == state for row in rows) for state in sorted({row["state"] for row in rows})}
    return rendered("batch.html.j2", rows=rows, states=states, compared=COMPARED, odd=ODD, fewest=FEWEST)


def _row(folder: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    found = _summary_of(folder / entry["report"]) if entry.get("report") and entry["state"] == "done" else {}
    return {
        "name": name,
        "state": entry["state"],
        "error": entry.get("error", ""),
        # Relative, so that the folder can be moved; each part quoted, so that no name ends the address.
        "page": quote(entry["report"]) if found else "",
        "why": "",
        "oddness": 0.0,
        **{key: found.get(key) for key in ("before", "after", "seconds", "stop", "noise", *COMPARED)},
    }


def _summary_of(page: Path) -> dict[str, Any]:
    """Return what a report holds for the overview; nothing where it is gone or cut off."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError:
        return {}
    match = re.search(rf'<script type="application/json" id="{SUMMARY}">(.*?)</script>', text, re.DOTALL)
    try:
        found = json.loads(match[1]) if match else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _compare(rows: list[dict[str, Any]]) -> None:
    """Say of each row how far it is from the others, and in what."""
    for key, words in COMPARED.items():
        values = np.array([row[key] for row in rows if row[key] is not None])
        if len(values) < FEWEST:
            continue
        middle = float(np.median(values))
        sd = max(1.4826 * float(np.median(np.abs(values - middle))), SMALLEST)
        for row in rows:
            away = 0.0 if row[key] is None else abs(row[key] - middle) / sd
            if away > row["oddness"]:
                row["oddness"] = away
                row["why"] = words if away > ODD else ""
