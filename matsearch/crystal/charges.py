"""Whether a crystal can be neutral with oxidation states that its elements are known to take.

The rule, after `metrics.md`: charge valid is what consists of metals alone, or has a neutral assignment of known
oxidation states, or whose bond valences balance. What is known comes from pymatgen (MIT): the oxidation states of
`Element`, and the bond valence parameters of O'Keeffe and Brese (J. Am. Chem. Soc. 113, 3226, 1991) with the states
that the ICSD holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from matsearch.crystal.checks import check_structure
from matsearch.crystal.tokens import TextError, count_formula, ordered_symbols, require_element
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

METALLOIDS_AS_METALS = frozenset({"Ge", "Sb", "Po"})
"""Metalloids whose compounds with metals are counted as alloys, as in SMACT; B, Si, As and Te are not."""
ELECTRONEGATIVITY_SLACK = 0.1
"""Pauling units by which a cation may be the more electronegative one: Pt (2.28) is the cation of Li2PtH6 (H 2.20)."""
FALLBACK_ELECTRONEGATIVITY = 1.3
"""Pauling units, for elements beyond Lr: that of the actinides."""
BOND_REACH = 1.2
"""Like atoms nearer than this times twice their covalent radius are bonded (O-O of a peroxide: 1.13)."""
VALENCE_WINDOW = 0.75
"""How far the bond valence sum of a site may lie from its oxidation state. Proposed cells are not relaxed yet."""
VALENCE_CUTOFF = 4.0
"""Å, range of bond valences."""
BOND_SOFTNESS = 0.31
"""Å, b of the valence exp((R - d) / b) with which pymatgen's statistics of the ICSD were made (0.37 in the paper)."""


def check_charges(structure: Structure) -> Rejection | None:
    """Why a crystal cannot be neutral; None where it can.

    It can be neutral when one of these holds, tried in this order; the cell it is written in does not matter:

    1. It holds one element, or metals alone (`METALLOIDS_AS_METALS` among them). Noble gases are guests.
    2. Known oxidation states add up to zero, where no cation is more electronegative than an anion (by more than
       `ELECTRONEGATIVITY_SLACK`). All atoms of an element take one state, or its cations take two neighbouring ones of
       those found in the ICSD (Fe3O4, Pb3O4).
    3. The same, where non-metal atoms bonded to atoms of their own element may take any charge between their
       extreme states (peroxides, azides, polyphosphides, boron clusters, polycations).
    4. Bond valences balance: each site takes a state found in the ICSD within `VALENCE_WINDOW` of its bond valence
       sum, and they add up to zero.

    The last two look at positions, and are tried only where `check_structure` finds nothing wrong. Charges that the
    species carry are not looked at.

    Returns:
        A rejection of `Stage.CHECK` with the reason `charge_unbalanced`, or `no_atoms`, `disordered` or
        `unknown_element` where there is nothing to add up.
    """
    try:
        symbols = [_hydrogen(require_element(symbol, "a site")) for symbol in ordered_symbols(structure)]
    except TextError as err:
        return Rejection(Stage.CHECK, err.reason, err.detail)
    if not symbols:
        return Rejection(Stage.CHECK, "no_atoms", "the structure has no atoms")
    counts = Counter(symbols)
    active = {symbol for symbol in counts if not _facts(symbol).is_noble_gas or len(counts) == 1}
    if len(active) <= 1 or all(_facts(symbol).is_metal for symbol in active):
        return None
    totals = _Totals.of(counts, {})
    if totals.holds_zero:
        return None
    # Positions that cannot be would make bonds of everything, and neighbours without end.
    is_sound = check_structure(structure) is None
    if is_sound and _positions_balance(structure, symbols, counts):
        return None
    return Rejection(Stage.CHECK, "charge_unbalanced", _explain(symbols, totals, is_sound))


def _positions_balance(structure: Structure, symbols: list[str], counts: Mapping[str, int]) -> bool:
    bonded = _count_bonded(structure, symbols)
    return (bool(bonded) and _Totals.of(counts, bonded).holds_zero) or _valences_balance(structure, symbols)


def _hydrogen(symbol: str) -> str:
    return "H" if symbol in ("D", "T") else symbol


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of one element.

    Attributes:
        electronegativity: Pauling's.
        states: Known oxidation states, ascending, without zero.
        mixing: States of its cations, ascending, of which neighbouring ones occur together.
        is_metal: Whether its alloys need no charges.
        is_noble_gas: Whether it may stay neutral as a guest.
        makes_chains: Whether it bonds to itself as an ion.
    """

    electronegativity: float
    states: tuple[int, ...]
    mixing: tuple[int, ...]
    is_metal: bool
    is_noble_gas: bool
    makes_chains: bool


@cache
def _facts(symbol: str) -> _Facts:
    from pymatgen.core import Element

    element = Element(symbol)
    in_icsd = set(element.icsd_oxidation_states)
    known = (in_icsd | set(element.oxidation_states) | set(element.common_oxidation_states)) - {0}
    if element.is_alkali:
        # Na- and K- are listed for the sake of alkalides, which exist only around cryptands. Negative states of
        # transition metals stay: in polar intermetallics they take up electrons, and not in aurides alone.
        known = {state for state in known if state > 0}
    # `Element.X` warns where there is none; the table itself does not.
    electronegativity = element.data.get("X")
    return _Facts(
        electronegativity=float(electronegativity or FALLBACK_ELECTRONEGATIVITY),
        states=tuple(sorted(known)),
        # The ICSD's list is empty for a few elements (Tc, Os, Pt, Au, the actinides but Th and U).
        mixing=tuple(sorted(state for state in in_icsd or known if state > 0)),
        is_metal=element.is_metal or symbol in METALLOIDS_AS_METALS,
        is_noble_gas=element.is_noble_gas,
        makes_chains=not element.is_metal and not element.is_noble_gas and symbol != "H",
    )


@dataclass(frozen=True, slots=True)
class _Totals:
    """Charges that a cell can have: bit `zero + q` stands for the total q.

    A set of integers as one long integer: adding a state to all of them is a shift, so that 120 atoms of ten elements
    take well below a millisecond, however many assignments there are.
    """

    bits: int
    zero: int

    @classmethod
    def of(cls, counts: Mapping[str, int], bonded: Mapping[str, int]) -> _Totals:
        """All totals of a composition.

        Args:
            counts: Atoms of each element.
            bonded: How many of them are bonded to atoms of their own element.
        """
        facts = {symbol: _facts(symbol) for symbol in counts}
        zero = sum(max(map(abs, facts[symbol].states), default=0) * n for symbol, n in counts.items())
        bits = 0
        # Every cut between cations, below, and anions, above; the elements at the cut may be either.
        for cut in {each.electronegativity for each in facts.values()}:
            reached = 1 << zero
            for symbol, n in counts.items():
                ranges = _charge_ranges(facts[symbol], cut, n, bonded.get(symbol, 0))
                reached = _add(reached, ranges)
            bits |= reached
        return cls(bits, zero)

    @property
    def holds_zero(self) -> bool:
        return bool(self.bits >> self.zero & 1)

    def nearest(self) -> int | None:
        """The total nearest to zero; None where there is none at all."""
        above = self.bits >> self.zero
        below = self.bits & ((1 << self.zero) - 1)
        found = []
        if above:
            found.append((above & -above).bit_length() - 1)
        if below:
            found.append(below.bit_length() - 1 - self.zero)
        return min(found, key=abs, default=None)


def _charge_ranges(facts: _Facts, cut: float, n: int, n_bonded: int) -> list[tuple[int, int]]:
    """Total charges of n atoms of one element, as closed ranges.

    Every integer between two mixed states counts, so that the verdict is that of the infinite crystal and not of the
    cell: half Bi3+ and half Bi5+ in BaBiO3 with one Bi in the cell.
    """
    is_cation = facts.electronegativity <= cut + ELECTRONEGATIVITY_SLACK
    is_anion = facts.electronegativity >= cut
    allowed = [state for state in facts.states if (is_cation if state > 0 else is_anion)]
    mixing = [state for state in facts.mixing if state in allowed]

    def free(n_atoms: int) -> list[tuple[int, int]]:
        one = [(n_atoms * state, n_atoms * state) for state in allowed]
        return one + [(n_atoms * low, n_atoms * high) for low, high in pairwise(mixing)]

    ranges = free(n)
    if n_bonded and allowed:
        lowest, highest = min(allowed[0], 0) * n_bonded, max(allowed[-1], 0) * n_bonded
        ranges += [(low + lowest, high + highest) for low, high in free(n - n_bonded)]
    if facts.is_noble_gas:
        ranges.append((0, 0))
    return ranges


def _add(totals: int, ranges: Iterable[tuple[int, int]]) -> int:
    """Totals after every charge of every range has been added to each."""
    found = 0
    for low, high in ranges:
        moved = totals << low if low >= 0 else totals >> -low
        width = 0
        while width < high - low:
            step = min(high - low - width, width + 1)
            moved |= moved << step
            width += step
        found |= moved
    return found


def _neighbours(structure: Structure, chosen: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, neighbour and distance (Å) of every pair of chosen sites [n_atoms] (bool) within the cutoff.

    Centres and neighbours count the chosen sites. No atom is its own neighbour, though its images are.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell = np.array(structure.lattice.matrix, dtype=float)
    coords = np.asarray(structure.frac_coords, dtype=float)[chosen]
    cartesian = np.ascontiguousarray((coords - np.floor(coords)) @ cell)
    # As in `check_structure`: few images of a reduced cell are searched, even when the cell as written is a needle.
    reduced = np.ascontiguousarray(structure.lattice.get_lll_reduced_lattice().matrix, dtype=float)
    centres, points, _, distances = find_points_in_spheres(
        cartesian, cartesian, r=cutoff, pbc=np.ones(3, dtype=np.int64), lattice=reduced, tol=1e-8
    )
    others = distances > 1e-6
    return centres[others], points[others], distances[others]


def _count_bonded(structure: Structure, symbols: list[str]) -> dict[str, int]:
    """How many atoms of each chain-making element are bonded to an atom of their own element."""
    from ase.data import atomic_numbers, covalent_radii

    elements = np.array(symbols)
    bonded = {}
    for symbol in sorted(set(symbols)):
        if _facts(symbol).makes_chains:
            reach = 2 * BOND_REACH * float(covalent_radii[atomic_numbers[symbol]])
            centres, _, _ = _neighbours(structure, elements == symbol, reach)
            if n := len(np.unique(centres)):
                bonded[symbol] = n
    return bonded


def _valences_balance(structure: Structure, symbols: list[str]) -> bool:
    """Whether known states near the bond valence sums of their sites add up to zero."""
    if not all(symbol in _radii_and_softness() and symbol in _icsd_states() for symbol in symbols):
        return False
    lowest = highest = 0
    for symbol, valence in zip(symbols, _bond_valence_sums(structure, symbols), strict=True):
        near = [state for state in _icsd_states()[symbol] if abs(state - valence) <= VALENCE_WINDOW]
        if not near:
            return False
        # Equal sites of two cells may differ, so that in the infinite crystal every mean between the two is reached.
        lowest, highest = lowest + min(near), highest + max(near)
    return lowest <= 0 <= highest


def _bond_valence_sums(structure: Structure, symbols: list[str]) -> np.ndarray:
    """Bond valence sum of each site [n_atoms] in e: positive for what is bonded to more electronegative atoms."""
    kinds = sorted(set(symbols))
    lengths, signs = np.zeros((len(kinds),) * 2), np.zeros((len(kinds),) * 2)
    for i, first in enumerate(kinds):
        for j, second in enumerate(kinds):
            if first == second or (_facts(first).is_metal and _facts(second).is_metal):
                continue
            (r1, c1), (r2, c2) = _radii_and_softness()[first], _radii_and_softness()[second]
            lengths[i, j] = r1 + r2 - r1 * r2 * (c1**0.5 - c2**0.5) ** 2 / (c1 * r1 + c2 * r2)
            signs[i, j] = np.sign(_facts(second).electronegativity - _facts(first).electronegativity)
    centres, points, distances = _neighbours(structure, np.ones(len(symbols), dtype=bool), VALENCE_CUTOFF)
    kind = np.searchsorted(kinds, symbols)
    pairs = kind[centres], kind[points]
    valences = signs[pairs] * np.exp((lengths[pairs] - distances) / BOND_SOFTNESS)
    return np.bincount(centres, weights=valences, minlength=len(symbols))


@cache
def _radii_and_softness() -> dict[str, tuple[float, float]]:
    """The two parameters r (Å) and c of each element."""
    from pymatgen.analysis.bond_valence import BV_PARAMS

    return {element.symbol: (float(found["r"]), float(found["c"])) for element, found in BV_PARAMS.items()}


@cache
def _icsd_states() -> dict[str, tuple[int, ...]]:
    """States of each element to which crystals of the ICSD were assigned by bond valences, rare ones included."""
    from pymatgen.analysis.bond_valence import ICSD_BV_DATA

    states = defaultdict(set)
    for species in ICSD_BV_DATA:
        if species.oxi_state:
            states[species.symbol].add(int(species.oxi_state))
    return {symbol: tuple(sorted(found)) for symbol, found in states.items()}


def _explain(symbols: list[str], totals: _Totals, is_sound: bool) -> str:
    """What was tried, and how near it came."""
    tried = "; ".join(
        f"{symbol} {' '.join(f'{state:+d}' for state in _facts(symbol).states) or 'none'}"
        for symbol in dict.fromkeys(symbols)
    )
    nearest = totals.nearest()
    best = "no assignment at all" if nearest is None else f"nearest {nearest:+d}"
    positions = (
        "bonds between like atoms and bond valences do not mend it"
        if is_sound
        else "bonds were not looked at, the structure is not valid"
    )
    return f"no known oxidation states of {count_formula(symbols)} add up to 0 ({tried}): {best}; {positions}"
