"""How much room atoms take, and crystals with other elements on their sites.

The volume of a crystal is taken as the sum of volumes of its elements, which differ between crystals that hold a
non-metal and alloys; one cell is scaled to another by the ratio of two such sums, so that what is peculiar to a
structure type cancels. The table is a least-squares fit (relative errors) to the known phases within 0.05 eV/atom of
the hull of CHGNet 0.3.0, made by `benchmarks/element_volumes.py`. On phases that were not fitted, of one prototype and
differing in one element, it leaves ratios of volumes off by 8 % (compounds) and 10 % (alloys): 3 % in lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from matsearch.propose.operators.oxidation import is_alloy

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Element, Å^3 in a crystal with a non-metal, Å^3 in an alloy; a dash where fewer than five phases have it.
_VOLUMES = """
H 6.9 15.2; Li 8.6 15.4; Be 5.4 8.0; B 7.4 -; C 10.0 11.3; N 9.7 23.3; O 9.7 16.7; F 12.6 -; Na 18.1
30.7; Mg 13.4 22.5; Al 13.0 15.7; Si 17.8 -; P 18.5 -; S 23.8 -; Cl 31.4 -; K 32.6 55.5; Ca 21.4 35.0; Sc
16.2 22.1; Ti 11.8 16.5; V 12.7 13.3; Cr 9.9 11.8; Mn 11.1 11.4; Fe 10.6 10.8; Co 8.9 9.6; Ni 8.4 9.4; Cu 11.1 11.2;
Zn 15.8 14.6; Ga 17.2 16.4; Ge 19.4 16.7; As 22.9 -; Se 29.6 -; Br 39.5 -; Kr - 50.7; Rb 39.1 72.1; Sr 25.1 45.5; Y
22.1 30.5; Zr 17.6 22.4; Nb 15.1 18.3; Mo 15.9 16.1; Tc 12.9 13.9; Ru 12.3 12.2; Rh 12.9 12.0; Pd 14.2 13.8; Ag 19.7
17.3; Cd 23.0 21.6; In 25.1 24.0; Sn 25.1 24.9; Sb 24.9 26.8; Te 37.3 -; I 51.6 -; Xe 46.4 69.7; Cs 49.7 83.9; Ba
34.1 55.5; La 25.8 37.3; Ce 24.3 31.7; Pr 26.3 35.6; Nd 25.0 34.5; Pm 26.2 33.0; Sm 23.9 32.6; Eu 24.8 38.4; Gd 22.1
31.1; Tb 21.8 30.2; Dy 21.7 29.6; Ho 20.9 29.0; Er 20.8 28.4; Tm 19.5 27.7; Yb 20.8 29.4; Lu 19.5 26.7; Hf 16.3
21.2; Ta 14.5 18.1; W 18.0 16.3; Re 15.1 14.9; Os 13.3 12.9; Ir 13.9 12.9; Pt 15.5 14.6; Au 22.7 17.3; Hg 28.7 23.1;
Tl 31.9 26.5; Pb 28.3 29.2; Bi 27.6 31.4; Ac 30.4 44.8; Th 26.3 33.7; Pa 20.4 26.2; U 20.0 24.5; Np 18.7 25.3; Pu
20.5 25.4
"""
NOBLE_GASES = frozenset("He Ne Ar Kr Xe Rn".split())
UNKNOWN_VOLUME = 25.0
"""Å^3, of elements that no known phase holds."""


@cache
def _table() -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for row in _VOLUMES.split(";"):
        symbol, *values = row.split()
        seen = next(value for value in values if value != "-")
        ionic, metallic = (float(seen if value == "-" else value) for value in values)
        found[symbol] = ionic, metallic
    return found


ELEMENTS = tuple(symbol for symbol in _table() if symbol not in NOBLE_GASES)
"""What is drawn from where a space names no elements: those of the known phases, noble gases left out."""


def expected_volume(counts: Mapping[str, int]) -> float:
    """Å^3 that these atoms take in a crystal."""
    alloy = is_alloy(counts)
    return sum(n * atom_volume(symbol, alloy) for symbol, n in counts.items())


def atom_volume(symbol: str, alloy: bool) -> float:
    """Å^3 that one atom takes in an alloy, or in a crystal with a non-metal."""
    return _table()[symbol][alloy] if symbol in _table() else UNKNOWN_VOLUME


def with_elements(structure: Structure, renamed: Mapping[str, str]) -> Structure:
    """The crystal with other elements on its sites, its cell scaled alike in all directions to their volume.

    Args:
        structure: Ordered.
        renamed: Old symbol to new one; others stay.
    """
    old = [site.specie.symbol for site in structure]
    return with_symbols(structure, [renamed.get(symbol, symbol) for symbol in old])


def with_symbols(structure: Structure, symbols: list[str]) -> Structure:
    """The same with the new element of each site."""
    from pymatgen.core import Lattice, Structure

    old = [site.specie.symbol for site in structure]
    ratio = expected_volume(_count(symbols)) / expected_volume(_count(old))
    return Structure(Lattice(structure.lattice.matrix * ratio ** (1 / 3)), symbols, structure.frac_coords)


def _count(symbols: list[str]) -> dict[str, int]:
    return {symbol: symbols.count(symbol) for symbol in set(symbols)}
