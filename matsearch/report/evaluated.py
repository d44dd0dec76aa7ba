"""An evaluation in a terminal: a table of structures, and the rates with what they mean."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, STABLE
from matsearch.metrics.evaluated import NEAR, view_of
from matsearch.report.wording import number, percent, plain

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

N_SHOWN = 20
N_DIFFERENT = 10
PLACE_WIDTH = 24
NAMES = {
    "no_rmsd": "without RMSD",
    "metastable": f"E_hull ≤ {METASTABLE:g}",
    "near_hull": f"E_hull ≤ {NEAR:g}",
    "stable": f"E_hull ≤ {STABLE:g}",
    "msun": f"MSUN (≤ {METASTABLE:g})",
    "sun": f"SUN (≤ {STABLE:g})",
}
MEANING = (
    f"E_hull in eV/atom of what converged, below {QUARANTINE:g} not counted; MSUN and SUN match no earlier structure "
    "and no known phase, as relaxed. Definitions of all rates: --json."
)
OPTIMIZERS = {"lbfgs": "L-BFGS", "fire": "FIRE"}
VERDICTS = {"structurally_valid": "valid", "charge_valid": "charges", "unique": "unique", "novel": "novel"}


def evaluation_text(table: pd.DataFrame, summary: Mapping[str, Any], places: Sequence[str]) -> Group:
    """The first structures and the summary, for `rich`'s `print`.

    Args:
        table: See `matsearch.evaluation.evaluate`.
        summary: Its summary.
        places: Where each structure comes from.
    """
    from rich.console import Group
    from rich.text import Text

    with_hull = [one["name"] for one in summary["judges"] if one["reference"] is not None]
    parts: list[Any] = [_structures(table, with_hull, places)]
    if (n_left := len(table) - N_SHOWN) > 0:
        parts.append(Text(f" and {n_left} more; --json FILE writes them all\n"))
    counts = summary["counts"]
    head = f"{counts['proposed']} proposed, {counts['readable']} readable"
    if n_unknown := counts["structurally_valid"] - counts["novelty_judged"]:
        head += f"; {n_unknown} valid with elements that have no known phases, so not counted as novel"
    parts.append(Text(head))
    parts.append(_rates("as given", [one for one in summary["rates"] if one["judge"] is None]))
    for one in summary["judges"]:
        rates = [rate for rate in summary["rates"] if rate["judge"] == one["name"]]
        title = f"as relaxed by {one['name']}"
        parts += [_rates(title, rates), Text(_judge_text(one, summary["protocol"]))]
    parts += [Text(_agreement_text(one)) for one in summary["agreement"]]
    if any(one["reference"] for one in summary["judges"]):
        parts.append(Text(MEANING))
    return Group(*parts)


def _structures(table: pd.DataFrame, judges: Sequence[str], places: Sequence[str]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    first = table.head(N_SHOWN).astype(object)
    rows = first.where(first.notna(), None).to_dict("records")
    has_reasons = any(one["reasons"] for one in rows)
    # Rows of one table are told apart by their number alone.
    has_places = len({place.partition("#")[0] for place in places}) > 1
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("row", justify="right", no_wrap=True)
    # These give way where the terminal is narrow, as the reasons do; their cells are cut, not wrapped.
    if has_places:
        shown.add_column("from", min_width=8)
    shown.add_column("formula", min_width=10)
    for title in ("atoms", "group", *VERDICTS.values()):
        shown.add_column(title, justify="right" if title in ("atoms", "group") else "left", no_wrap=True)
    for judge in judges:
        lines = ["E_hull", *(textwrap.wrap(plain(judge, 32), 8) if len(judges) > 1 else [])]
        shown.add_column(escape("\n".join(lines)), justify="right", no_wrap=True)
    if judges:
        shown.add_column("MSUN", no_wrap=True)
    if has_reasons:
        shown.add_column("reasons")

    heights = [view_of(table, judge)["energy_above_hull"] for judge in judges]
    for row, one in enumerate(rows):
        cells: list[str | Text] = [str(row)]
        cells += [_cut(_tail(plain(places[row])))] if has_places else []
        cells.append(_cut(plain(one["formula"] or "–", 24)))
        cells += ["–" if one[name] is None else str(one[name]) for name in ("n_atoms", "spacegroup")]
        unknown = one["structurally_valid"] and not one["novelty_judged"]
        cells += ["yes" if one[name] else "?" if name == "novel" and unknown else "no" for name in VERDICTS]
        cells += [number(_or_none(height[row]), "energy_above_hull") or "–" for height in heights]
        cells += ["yes" if one["msun"] else "no"] if judges else []
        cells += [_cut(plain(one["reasons"] or ""))] if has_reasons else []
        shown.add_row(*cells)
    return shown


def _cut(text: str) -> Text:
    """A cell of one line, as wide as its column."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def _rates(title: str, rates: Sequence[Mapping[str, Any]]) -> Table:
    """Narrow enough for 80 columns; what each rate counts stands in the JSON and below."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    known = sorted({one["reference"] for one in rates if one["reference"]})
    title = escape(plain(title + (f", against {', '.join(known)}" if known else "")))
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for name in ("rate", "count", "of", "share", "95 % interval"):
        shown.add_column(name, justify="right" if name in ("count", "share") else "left", no_wrap=True)
    for one in rates:
        name, of = (one[key].replace("_", " ") for key in ("name", "of"))
        name = NAMES.get(one["name"], name)
        interval = "–" if one["rate"] is None else f"{100 * one['low']:.1f} to {percent(one['high'])}"
        shown.add_row(name, str(one["count"]), f"{one['total']} {of}", percent(one["rate"]), interval)
    return shown


def _judge_text(judge: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """How the judge relaxed, what it found in the middle, and what it cost."""
    cost, height, rmsd = judge["cost"], judge["energy_above_hull"], judge["rmsd"]
    lines = [
        f"relaxed with {OPTIMIZERS[protocol['optimizer']]} to {protocol['force_tol']:g} eV/Å in at most "
        f"{protocol['max_steps']} steps; {cost['relaxations']} relaxations, {cost['potential_calls']} calls of the "
        f"potential, {cost['wall_seconds']:.0f} s"
    ]
    per_msun = cost.get("per_msun", {}).get("relaxations")
    if per_msun is not None:
        lines[0] += f"; {per_msun:.3g} relaxations per MSUN crystal"
    if height["median"] is not None:
        lines.append(f"median E_hull {number(height['median'], 'energy_above_hull')} eV/atom of {height['of']}")
        if quarantined := judge["counts"]["quarantined"]:
            lines[-1] += f"; {quarantined} quarantined: so low that an error of the potential is more likely"
    if rmsd["median"] is not None:
        lines.append(
            f"median RMSD as given to as relaxed {rmsd['median']:.3g} Å of {rmsd['of']} (change of scale removed)"
        )
    return "\n".join(lines) + "\n"


def _agreement_text(one: Mapping[str, Any]) -> str:
    first, second = one["judges"]
    rank = "–" if one["spearman"] is None else f"{one['spearman']:.3f}"
    rows = one["rows_that_differ"]
    which = ", ".join(map(str, rows[:N_DIFFERENT])) + (", ..." if len(rows) > N_DIFFERENT else "")
    both, first_alone, second_alone, neither = (
        one[f"metastable_by_{whom}"] for whom in ("both", "first_alone", "second_alone", "neither")
    )
    differ = f"; they differ on rows {which}" if rows else ""
    return (
        f"{first} and {second} on {one['judged_by_both']} structures: rank correlation of E_hull {rank}; "
        f"E_hull ≤ {one['threshold']:g} by both {both}, by the first alone {first_alone}, by the second alone "
        f"{second_alone}, by neither {neither}; MSUN by both {one['msun_by_both']}{differ}\n"
    )


def _tail(place: str) -> str:
    """Its end, which tells one place from the next."""
    return place if len(place) <= PLACE_WIDTH else f"…{place[1 - PLACE_WIDTH :]}"


def _or_none(value: float) -> float | None:
    """None for the NaN of a number that is missing."""
    return None if math.isnan(value) else float(value)
