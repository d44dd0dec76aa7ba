"""Candidates against the known phases: what they fall apart into, and the hulls of their chemical systems."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.crystal.text import from_json
from matsearch.errors import MatsearchError
from matsearch.records import Rejection, Relaxed
from matsearch.reference import load_reference
from matsearch.store import RunStore

if TYPE_CHECKING:
    from pymatgen.core import Composition

    from matsearch.reference.known import Reference

NEAR = 0.1
"""eV/atom: known phases higher above the hull are not drawn."""
SAME = 1e-5
"""eV/atom: an energy above the hull that comes out further from the stored one belongs to other known phases."""


@dataclass(frozen=True)
class Hulls:
    """What the known phases say of a campaign's candidates.

    Attributes:
        why_not: Why there is nothing to say, for a person; empty where there is.
        decomposition: Candidate to known phases, reduced formula to share of the atoms, largest first.
        formation_energy: Candidate to eV/atom, against the lowest known phase of each element.
        phases: Chemical system (`Mg-O`) to its known phases near the hull: id, formula, formation energy and energy
            above the hull (eV/atom). Of systems of two or three elements that a candidate has, and of all inside them.
    """

    why_not: str = ""
    decomposition: dict[int, dict[str, float]] = field(default_factory=dict)
    formation_energy: dict[int, float] = field(default_factory=dict)
    phases: dict[str, list[tuple[str, str, float, float]]] = field(default_factory=dict)


def hulls(store: RunStore) -> Hulls:
    """Hold all candidates with an energy above the hull against the known phases once more.

    The run store keeps neither the phases nor what a candidate falls apart into. What the phases say now is shown only
    where it gives the stored energies above the hull.
    """
    rows = store.rows(
        "SELECT c.id, c.energy_above_hull, r.energy, r.structure FROM candidates c "
        "JOIN relaxations r ON r.key = c.relaxation_key "
        "WHERE c.energy_above_hull IS NOT NULL AND r.structure IS NOT NULL"
    )
    if not rows:
        return Hulls("No candidate has an energy above the hull.")
    reference = _reference(store)
    if isinstance(reference, str):
        return Hulls(reference)
    found = Hulls()
    elemental = _elemental(reference)
    systems: set[tuple[str, ...]] = set()
    for row in rows:
        composition = _composition(row["structure"])
        height = reference.energy_above_hull(composition, row["energy"] / composition.num_atoms)
        shares = reference.decomposition(composition)
        if (
            isinstance(height, Rejection)
            or isinstance(shares, Rejection)
            or abs(height - row["energy_above_hull"]) > SAME
        ):
            return Hulls(
                "The known phases that are installed now are not those that this run was held against, so that neither "
                "hulls nor decompositions are shown."
            )
        fractions = composition.fractional_composition.get_el_amt_dict()
        found.decomposition[row["id"]] = shares
        found.formation_energy[row["id"]] = row["energy"] / composition.num_atoms - sum(
            share * elemental[symbol] for symbol, share in fractions.items()
        )
        if 2 <= len(fractions) <= 3:
            systems.add(tuple(sorted(fractions)))
    found.phases.update(_phases_of(reference, systems, elemental))
    return found


def _reference(store: RunStore) -> Reference | str:
    """The campaign's known phases, its extra ones included, or why there are none."""
    config, meta = store.config, store.meta
    if not meta.get("reference_hash") or config["relax"].get("pressure_gpa"):
        return "This run has no hull of known phases."
    path = config["reference"].get("path")
    try:
        reference = load_reference(config["potential"]["name"], None if path is None else Path(path))
        reference = reference.hiding(json.loads(meta.get("hidden_phases", "[]")))
    except (MatsearchError, ValueError) as err:
        return f"The known phases of this run cannot be read here: {err}"
    extra = [(row["id"], _relaxed(store, row["relaxation_key"])) for row in json.loads(meta.get("extra_phases", "[]"))]
    settled = [
        (name, one)
        for name, one in extra
        if one is not None
        and one.converged
        and not reference.uncovered([site.symbol for site in one.structure.elements])
    ]
    return reference.extended(settled) if settled else reference


def _relaxed(store: RunStore, key: str) -> Relaxed | None:
    row = store.row("SELECT * FROM relaxations WHERE key = ? AND structure IS NOT NULL", key)
    if row is None:
        return None
    name = store.config["potential"]["name"]
    structure = from_json(row["structure"])
    return Relaxed(structure, row["energy"], bool(row["converged"]), row["n_steps"], row["max_force"], potential=name)


def _composition(text: str) -> Composition:
    from pymatgen.core import Composition

    species = json.loads(text)["species"]
    return Composition({symbol: species.count(symbol) for symbol in dict.fromkeys(species)})


def _elemental(reference: Reference) -> Mapping[str, float]:
    """eV/atom of the lowest known phase of each element."""
    phases = reference.phases
    pure = phases[phases["formula"].isin(reference.elements | {f"{one}2" for one in reference.elements})]
    pure = pure.assign(element=pure["formula"].str.rstrip("2"))
    energies: dict[str, float] = pure.groupby("element")["energy_per_atom"].min().to_dict()
    return energies


def _phases_of(
    reference: Reference, systems: set[tuple[str, ...]], elemental: Mapping[str, float]
) -> dict[str, list[tuple[str, str, float, float]]]:
    wanted = {tuple(part) for system in systems for part in _subsets(system)}
    if not wanted:
        return {}
    phases = reference.phases
    near = phases[phases["energy_above_hull"] <= NEAR]
    found: dict[str, list[tuple[str, str, float, float]]] = {}
    columns = (near[name].tolist() for name in ("id", "formula", "energy_per_atom", "energy_above_hull"))
    for name, formula, energy, above in zip(*columns, strict=True):
        system = tuple(sorted(set(re.findall(r"[A-Z][a-z]?", formula))))
        if system in wanted:
            fractions = _fractions(formula)
            formation = energy - sum(share * elemental[symbol] for symbol, share in fractions.items())
            found.setdefault("-".join(system), []).append((name, formula, round(formation, 5), round(above, 5)))
    return found


def _subsets(system: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        tuple(symbol for place, symbol in enumerate(system) if chosen >> place & 1)
        for chosen in range(1, 2 ** len(system))
    ]


def _fractions(formula: str) -> dict[str, float]:
    from pymatgen.core import Composition

    fractions: dict[str, float] = Composition(formula).fractional_composition.get_el_amt_dict()
    return fractions
