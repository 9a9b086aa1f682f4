"""Every measured result, kept in ``leaderboard.jsonl`` beside this file, and the tables made of it.

``python -m benchmarks.leaderboard`` prints, per recipe, means per group beside the classical bars. For each pair its
newest row counts, whatever commit it was measured at; ``--commit`` picks one commit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

from benchmarks import classical
from benchmarks.pairs import GROUPS, VOLUMES, group_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dip_sci.recipe import Recipe

BOARD = Path(__file__).with_suffix(".jsonl")

TUNED = {method: "noisy" if method == "noisy" else f"{method} (tuned with the truth)" for method in classical.METHODS}
"""What a classical method's rows are called."""


@dataclass(frozen=True)
class Row:
    """One result on one pair.

    Attributes
    ----------
    pair, crop
        What it was measured on; `crop` is ``None`` for whole images and volumes.
    recipe
        The preset or the recipe file's stem; the method, if classical.
    psnr, ssim
        Of the result that was returned.
    seconds
        From start to end; processor time of one run, if classical.
    date
        When it was measured, UTC.
    hash
        Of the recipe as it was given; empty if classical.
    commit
        Of the code, with a ``+`` if the package differed from it; empty if classical.
    mb
        Peak memory.
    device
        What it ran on.
    baseline
        PSNR of the classical result that the package made without the truth.
    strength
        Of a classical method, in units of the residual's true SD.
    """

    pair: str
    crop: int | None
    recipe: str
    psnr: float
    ssim: float
    seconds: float
    date: str
    hash: str = ""
    commit: str = ""
    mb: float | None = None
    device: str = ""
    baseline: float | None = None
    strength: float | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What a later row replaces an earlier one by."""
        return self.pair, self.crop, self.recipe, self.hash, self.commit


def read(board: Path = BOARD) -> list[Row]:
    """Rows kept so far."""
    lines = board.read_text(encoding="utf-8").splitlines() if board.is_file() else []
    return [Row(**{"crop": None, **json.loads(line)}) for line in lines]


def keep(rows: Iterable[Row], board: Path = BOARD) -> None:
    """Add rows, in place of older ones of the same pair, crop, recipe and commit."""
    known = {row.key: row for row in (*read(board), *rows)}
    lines = [json.dumps(_short(row)) for row in sorted(known.values(), key=_place)]
    part = board.with_suffix(f".{os.getpid()}.part")
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(board)


def share(board: Path = BOARD) -> None:
    """Carry classical bars from their cache, which git ignores, into the board, and those missing there back."""
    methods = {name: method for method, name in TUNED.items()}
    rows, bars = {row.key: row for row in read(board)}, classical.kept()
    for row in rows.values():
        method, found = methods.get(row.recipe), bars.get(key := f"{row.pair}@{row.crop or 'whole'}", {})
        if method is not None and method not in found:
            classical.keep({key: {method: classical.Bar(row.psnr, row.ssim, row.strength or 0.0, row.seconds)}})
    for key, found in bars.items():
        name, _, crop = key.partition("@")
        new = bar_rows(name, None if crop == "whole" else int(crop), found)
        rows |= {row.key: row for row in new if row.key not in rows or abs(rows[row.key].psnr - row.psnr) > 1e-3}
    keep(rows.values(), board)


def bar_rows(pair: str, crop: int | None, bars: dict[str, classical.Bar]) -> list[Row]:
    """Rows of classical bars."""
    return [
        Row(pair, crop, TUNED[method], bar.psnr, bar.ssim, bar.seconds, now(), strength=bar.strength)
        for method, bar in bars.items()
    ]


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def commit() -> str:
    """Return the commit checked out, with a ``+`` if the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=BOARD.parent, capture_output=True, text=True, check=True).stdout

    return git("rev-parse", "--short=7", "HEAD").strip() + ("+" if git("status", "--porcelain", "../dip_sci") else "")


def digest(recipe: Recipe) -> str:
    """Return the hash of a recipe as it was given."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:8]


def summary(rows: Sequence[Row], recipe: str | None = None) -> list[str]:
    """Make a markdown table of means per group, and of one recipe against the best classical bar of each pair.

    Parameters
    ----------
    rows
        Of one crop; the newest of a pair and recipe counts.
    recipe
        Which one to compare, on its own pairs; ``None`` for the classical bars alone, on all pairs.
    """
    found = _by_pair(rows)
    if recipe is not None:
        found = {pair: row for pair, row in found.items() if recipe in row}
    names = [name for name in TUNED.values() if any(name in row for row in found.values())]
    titles = ["group", "pairs", *(method for method, name in TUNED.items() if name in names), "best of these"]
    baseline = recipe is not None and any(row[recipe].baseline is not None for row in found.values())
    if recipe is not None:
        titles += [recipe, "minus best", "worst", "below", *(["baseline"] if baseline else []), "s", "MB"]
    lines = [classical.row(titles), classical.row(["---"] * len(titles))]
    groups = {group: {p: row for p, row in found.items() if group_of(p) == group} for group in GROUPS}
    for group, some in {**groups, "all": found}.items():
        if some:
            lines.append(classical.row([group, len(some), *_means(some, names, recipe, baseline)]))
    return lines


def by_pair(rows: Sequence[Row], recipes: Sequence[str]) -> list[str]:
    """Make a markdown table with every pair's best classical bar and the recipes' results."""
    titles = ["image", "noisy", "best classical", *recipes]
    lines = [classical.row(titles), classical.row(["---"] * len(titles))]
    for pair, some in _by_pair(rows).items():
        bars = {m: some[name] for m, name in TUNED.items() if name in some and m != "noisy"}
        best = max(bars, key=lambda m: bars[m].psnr, default="")
        cells = [classical.cell(r.psnr, r.ssim) if (r := some.get(name)) else "–" for name in ("noisy", *recipes)]
        top = f"{classical.cell(bars[best].psnr, bars[best].ssim)} {best}" if best else "–"
        lines.append(classical.row([pair, cells[0], top, *cells[1:]]))
    return lines


def _by_pair(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=_place):
        found.setdefault(row.pair, {})[row.recipe] = row
    return found


def _means(found: dict[str, dict[str, Row]], names: list[str], recipe: str | None, baseline: bool) -> list[str]:
    cells = [_mean(row[name].psnr if name in row else None for row in found.values()) for name in names]
    best = {
        pair: max((row[name].psnr for name in names if name in row and name != "noisy"), default=None)
        for pair, row in found.items()
    }
    cells.append(_mean(best.values()))
    if recipe is None:
        return cells
    ours = {pair: row[recipe] for pair, row in found.items()}
    over = {pair: row.psnr - bar for pair, row in ours.items() if (bar := best[pair]) is not None}
    worst = min(over, key=lambda pair: over[pair], default="")
    cells += [_mean(row.psnr for row in ours.values()), f"{mean(over.values()):+.2f}" if over else "–"]
    cells += (
        [f"{over[worst]:+.2f} {worst.partition('/')[2]}", f"{sum(d < 0 for d in over.values())}"] if over else ["–"] * 2
    )
    if baseline:
        cells.append(_mean(row.baseline for row in ours.values()))
    memory = max((row.mb for row in ours.values() if row.mb is not None), default=0)
    return [*cells, f"{median(row.seconds for row in ours.values()):.0f}", f"{memory:.0f}"]


def _mean(values: Iterable[float | None]) -> str:
    known = list(values)
    some = [value for value in known if value is not None]
    return f"{mean(some):.2f}" if some and len(some) == len(known) else "–"


def _short(row: Row) -> dict[str, object]:
    digits = {"psnr": 3, "ssim": 4, "seconds": 2, "mb": 0, "baseline": 3, "strength": 3}
    values = {k: round(v, digits[k]) if k in digits and v is not None else v for k, v in asdict(row).items()}
    return {key: value for key, value in values.items() if value not in (None, "")}


def _place(row: Row) -> tuple[object, ...]:
    names = list(TUNED.values())
    rank = names.index(row.recipe) if row.recipe in names else len(names)
    group = list(GROUPS).index(group_of(row.pair))
    return group, row.pair, row.crop or 0, rank, row.recipe, row.date


def main() -> None:
    """Print a table per recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, default=256, help="0 for whole images; volumes are always whole")
    parser.add_argument("--recipe", help="recipes, separated by commas (default: all)")
    parser.add_argument("--commit", help="only rows of this commit")
    parser.add_argument("--pairs", action="store_true", help="print every pair too")
    parser.add_argument("--board", type=Path, default=BOARD)
    options = parser.parse_args()
    share(options.board)
    rows = [row for row in read(options.board) if row.crop == (options.crop or None) or group_of(row.pair) in VOLUMES]
    rows = [row for row in rows if not options.commit or row.commit.rstrip("+") in ("", options.commit)]
    recipes = sorted({row.recipe for row in rows} - set(TUNED.values()))
    if options.recipe:
        recipes = [recipe for recipe in options.recipe.split(",") if recipe in recipes]
    shown: list[str | None] = [*recipes] or [None]
    for recipe in shown:
        print(f"\n{recipe or 'Classical bars'}, {f'crops of {options.crop}²' if options.crop else 'whole images'}\n")
        print("\n".join(summary(rows, recipe)))
    if options.pairs:
        print()
        print("\n".join(by_pair(rows, recipes)))


if __name__ == "__main__":
    main()
