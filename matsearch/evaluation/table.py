"""What was found out about structures, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matsearch.evaluation.given import Given
from matsearch.evaluation.judging import Finding, Hearing, duplicates
from matsearch.metrics.evaluated import verdicts
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    import pandas as pd

Known = Mapping[int, "str | Rejection | None"]
UNITS = {"energy_per_atom": "eV/atom", "energy_above_hull": "eV/atom", "rmsd": "Å"}
STOPPED = Rejection(Stage.WAITING, "stopped", "the evaluation was stopped before this one was relaxed")


def make_table(
    given: Sequence[Given], matches: Mapping[int, int], known: Known, hearings: Sequence[Hearing]
) -> pd.DataFrame:
    """One row a structure; the columns are those of `matsearch.evaluation.evaluate`.

    Args:
        given: The structures.
        matches: See `duplicates`; of the valid structures as given.
        known: See `known_phase`; of the valid structures as given.
        hearings: The judges and their findings.
    """
    import pandas as pd

    table = pd.DataFrame(
        {
            "formula": pd.Series([row.formula for row in given], dtype=object),
            "n_atoms": pd.Series([row.n_atoms for row in given], dtype="Int64"),
            "spacegroup": pd.Series([row.spacegroup for row in given], dtype="Int64"),
            "structurally_valid": pd.Series([row.valid for row in given], dtype=bool),
            "charge_valid": pd.Series([row.charge_flaw is None for row in given], dtype=bool),
        }
    )
    views = [_view(given, matches, known, hearing) for hearing in hearings]
    as_given = _view(given, matches, known, None)
    parts = [table, *(views[:1] or [as_given])]
    if views:
        parts.append(as_given[["unique", "novel"]].add_suffix("_as_given"))
    if len(views) > 1:
        parts += [view.add_suffix(f":{hearing.judge.name}") for view, hearing in zip(views, hearings, strict=True)]
    table = pd.concat(parts, axis=1)
    table.attrs["units"] = {name: unit for name, unit in UNITS.items() if name in table}
    return table


def _view(given: Sequence[Given], matches: Mapping[int, int], known: Known, hearing: Hearing | None) -> pd.DataFrame:
    """What one judge says, or what is said without any."""
    import pandas as pd

    numbers = range(len(given))
    if hearing is not None:
        relaxed = hearing.converged
        matches = {number: one for number, one in matches.items() if number not in relaxed} | duplicates(relaxed)
        known = {**known, **{number: hearing.findings[number].known for number in relaxed}}
    phases = [known.get(number) for number in numbers]
    compared = [row.valid and number in known for number, row in enumerate(given)]
    judged = [one and not isinstance(phase, Rejection) for one, phase in zip(compared, phases, strict=True)]
    view = pd.DataFrame(
        {
            "unique": pd.Series([compared[number] and number not in matches for number in numbers], dtype=bool),
            "novel": pd.Series([one and phase is None for one, phase in zip(judged, phases, strict=True)], dtype=bool),
            "duplicate_of": pd.Series([matches.get(number) for number in numbers], dtype="Int64"),
            "matched_known": pd.Series([one if isinstance(one, str) else None for one in phases], dtype=object),
            "novelty_judged": pd.Series(judged, dtype=bool),
        }
    )
    flaws = [
        [*_flaws(row), *([phase] if isinstance(phase, Rejection) else [])]
        for row, phase in zip(given, phases, strict=True)
    ]
    if hearing is not None:
        nothing = Finding()
        findings = [hearing.findings.get(number, nothing) for number in numbers]
        flaws = [
            [*before, *([STOPPED] if row.valid and one is nothing else one.flaws)]
            for row, one, before in zip(given, findings, flaws, strict=True)
        ]
        view = pd.concat([view, _energies(findings)], axis=1)
        view = pd.concat([view, verdicts(view)], axis=1)
    texts = ["; ".join(f"{one.reason}: {one.detail}" for one in reasons) or None for reasons in flaws]
    view["reasons"] = pd.Series(texts, dtype=object)
    return view


def _flaws(given: Given) -> list[Rejection]:
    """What is wrong with a structure as given; what is no crystal has one reason for all."""
    both = [given.flaw] if given.crystal is None else [given.flaw, given.charge_flaw]
    return [one for one in both if one is not None]


def _energies(findings: Sequence[Finding]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "converged": pd.Series([one.converged for one in findings], dtype=bool),
            "n_steps": pd.Series([one.n_steps for one in findings], dtype="Int64"),
            "energy_per_atom": pd.Series([one.energy_per_atom for one in findings], dtype=float),
            "energy_above_hull": pd.Series([one.energy_above_hull for one in findings], dtype=float),
            "decomposition": pd.Series([_mixture(one.decomposition) for one in findings], dtype=object),
            "rmsd": pd.Series([one.rmsd for one in findings], dtype=float),
        }
    )


def _mixture(shares: Mapping[str, float] | None) -> str | None:
    """Such as `0.667 Li2O + 0.333 TiO2`, shares of the atoms."""
    return None if shares is None else " + ".join(f"{share:.3f} {formula}" for formula, share in shares.items())
