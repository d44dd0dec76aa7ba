"""What the elements of a crystal bring along: concentrated supply, price, poison. The composition alone decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from matsearch.objectives.base import FunctionObjective
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

TOXIC = frozenset({"As", "Be", "Cd", "Hg", "Os", "Pb", "Tl"})
"""Elements whose compounds are, as a class, acutely toxic or carcinogenic (categories 1 and 2 of Regulation (EC)
1272/2008, annex VI): a coarse list, for turning away. Chromium, which depends on its oxidation state, is left out."""
RADIOACTIVE = frozenset("Tc Pm Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split())


def mass_fractions(structure: Structure) -> dict[str, float]:
    """Share of the mass of each element, by symbol."""
    composition = structure.composition.element_composition
    return {element.symbol: composition.get_wt_fraction(element) for element in composition.elements}


def _weighted(table: Callable[[], Mapping[str, float]], what: str) -> Callable[[Structure], float | Rejection]:
    """The mean over the mass; a rejection where an element is not in the table."""

    def mean(structure: Structure) -> float | Rejection:
        shares, values = mass_fractions(structure), table()
        if missing := sorted(shares.keys() - values.keys()):
            return Rejection(Stage.SCORE, "no_data", f"no {what} of {', '.join(missing)}")
        return sum(share * values[symbol] for symbol, share in shares.items())

    return mean


@cache
def _hhi() -> tuple[dict[str, float], dict[str, float]]:
    from pymatgen.analysis.hhi import HHIModel

    table = HHIModel().symbol_hhip_hhir
    return {symbol: one[0] for symbol, one in table.items()}, {symbol: one[1] for symbol, one in table.items()}


@cache
def _prices() -> dict[str, float]:
    # pymatgen's own reader parses a BibTeX entry for every element; the table is all that is needed.
    text = files("pymatgen.analysis").joinpath("costdb_elements.csv").read_text(encoding="utf-8")
    return {symbol: float(price) for symbol, price, *_ in (line.split(",") for line in text.splitlines() if line)}


def _toxic_mass(structure: Structure) -> float:
    return sum(share for symbol, share in mass_fractions(structure).items() if symbol in TOXIC | RADIOACTIVE)


hhi_production = FunctionObjective(
    _weighted(lambda: _hhi()[0], "Herfindahl-Hirschman index"), name="hhi_production", unit="1", direction="min"
)
hhi_production.__doc__ = """Herfindahl-Hirschman index of the production of the elements, by mass: up to 10,000.

Above 2,500 a market is highly concentrated. Source: M. W. Gaultois et al., Chem. Mater. 25, 2911 (2013).
"""
hhi_reserve = FunctionObjective(
    _weighted(lambda: _hhi()[1], "Herfindahl-Hirschman index"), name="hhi_reserve", unit="1", direction="min"
)
hhi_reserve.__doc__ = "As `hhi_production`, of the known reserves."
element_cost = FunctionObjective(_weighted(_prices, "price"), name="element_cost", unit="USD/kg", direction="min")
element_cost.__doc__ = "Price of the elements in a kilogram, as pymatgen lists them (2013): an order of magnitude."
toxic_mass_fraction = FunctionObjective(_toxic_mass, name="toxic_mass_fraction", unit="1", direction="min")
toxic_mass_fraction.__doc__ = "Share of the mass in toxic or radioactive elements (`TOXIC`, `RADIOACTIVE`)."
