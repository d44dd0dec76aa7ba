"""Numbers and reasons in the words of a prompt."""

from __future__ import annotations

from collections.abc import Mapping

from matsearch.crystal.group_symbols import standard_symbol
from matsearch.search.memory import FAR_ABOVE_HULL, NOT_NEW
from matsearch.search.selection import Goal

PROBLEMS = {
    "collapsed": "its cell collapsed when it was relaxed",
    "collided": "atoms ran into each other when it was relaxed",
    "duplicate": "was proposed before",
    "exploded": "its cell fell apart when it was relaxed",
    "isolated_atom": "an atom has no neighbour",
    "known": "is a known phase",
    NOT_NEW: "relaxed into a crystal that is known or was found before",
    "outside_elements": "holds elements that are not wanted",
    "overlapping_atoms": "atoms are too close to each other",
    "quarantined": "its energy is too low to be true",
    "unconverged": "its relaxation did not converge: it starts far from any minimum of the energy",
    "zero_volume": "its cell is flat",
}
"""Reasons of rejections, for a chemist; others are shown as they are."""


def stability(energy_above_hull: float | None) -> str:
    """`0.012 eV/atom above the hull`; empty where there is none."""
    if energy_above_hull is None:
        return ""
    if abs(energy_above_hull) < 0.0005:  # what the digits show
        return "on the hull"
    side = "above" if energy_above_hull > 0 else "below"
    return f"{abs(energy_above_hull):.3f} eV/atom {side} the hull"


def wish(goal: Goal, unit: str) -> str:
    """What is sought of one objective: `high bulk_modulus (GPa)`, `density (g/cm3) of 3, within 0.2, at most 5`."""
    named = f"{goal.name} ({unit})" if unit else goal.name
    if goal.target is not None:
        text = f"{named} of {goal.target:g}" + (f", within {goal.tolerance:g}" if goal.tolerance else "")
    elif goal.direction is not None:
        text = f"{'low' if goal.direction == 'min' else 'high'} {named}"
    else:
        text = named
    if goal.limit is not None:
        bound = f"{'at most' if goal.limit.sign == '<=' else 'at least'} {goal.limit.value:g}"
        text += f" {bound}" if goal.direction is None and goal.target is None else f", {bound}"
    return text


def problem(reason: str, detail: str = "", energy_above_hull: float | None = None) -> str:
    """What was wrong with a crystal, in a line."""
    if reason == FAR_ABOVE_HULL and energy_above_hull is not None:
        return stability(energy_above_hull)
    words = PROBLEMS.get(reason, reason.replace("_", " "))
    return f"{words} ({' '.join(detail.split())})" if detail else words


def competing(decomposition: Mapping[str, float], formula: str) -> str:
    """`0.67 Li2O + 0.33 TiO2`, the phases that a crystal competes with; empty where that is only itself."""
    if set(decomposition) <= {formula}:
        return ""
    return " + ".join(f"{share:.2f} {phase}" for phase, share in decomposition.items() if share >= 0.005)


def space_group_name(number: int | None) -> str:
    """`Fm-3m (225)`; empty for none."""
    return "" if number is None else f"{standard_symbol(number)} ({number})"
