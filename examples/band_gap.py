"""A custom objective with a model of one's own: crystals near the hull whose band gap is 3 eV.

Run it from anywhere: python examples/band_gap.py; or matsearch run examples/band_gap.toml, which finds the class by the
dotted path in it.

The model here is a straight line through a dozen measured gaps, so that the example is whole. Put your own in its
place: what counts is the shape of the class. It is asked for many crystals at once, gives one number or one rejection
for each, in order, and states name, unit, direction and cost.
"""

from pathlib import Path

import numpy as np

import matsearch as ms
from matsearch.objectives import Objective, ObjectiveContext
from matsearch.records import Stage

# Measured band gaps at room temperature in eV, as textbooks list them.
MEASURED = {
    "LiF": 13.6, "NaCl": 8.5, "KBr": 7.3, "MgO": 7.8, "CaO": 6.9, "AlN": 6.2, "ZnO": 3.4, "ZnS": 3.7,
    "ZnSe": 2.7, "GaP": 2.3, "GaAs": 1.4, "InSb": 0.2, "Si": 1.1, "Ge": 0.7,
}  # fmt: skip


def features(composition):
    """One, and the spread and the mean of the elements' electronegativities (Pauling)."""
    values = [element.X for element in composition.elements]
    return [1.0, max(values) - min(values), float(np.mean(values))]


class BandGap(Objective):
    """Band gap in eV by a linear model of electronegativities; never below 0."""

    name = "band_gap"
    unit = "eV"
    direction = "max"
    cost = "free"  # beside a relaxation; a network that takes as long as one would say "relaxation"
    timeout = 60.0  # seconds a crystal may take

    def __init__(self, context: ObjectiveContext, floor: float = 0.0) -> None:  # noqa: ARG002
        """Load what takes long once; `context` holds the potential and the known phases, should a model need them.

        Options, such as `floor`, come from `options = { ... }` in the campaign file.
        """
        from pymatgen.core import Composition

        rows = np.array([features(Composition(formula)) for formula in MEASURED])
        self._weights, *_ = np.linalg.lstsq(rows, np.array(list(MEASURED.values())), rcond=None)
        self._floor = floor

    def __call__(self, relaxed):
        """A number in eV or a rejection for each crystal, in order."""
        return [self._gap(one.structure.composition.element_composition) for one in relaxed]

    def _gap(self, composition):
        symbols = {element.symbol for element in composition.elements}
        if inert := sorted(symbols & {"He", "Ne", "Ar"}):
            return ms.Rejection(Stage.SCORE, "no_electronegativity", f"Pauling's scale has no {', '.join(inert)}")
        return max(self._floor, float(np.dot(features(composition), self._weights)))


if __name__ == "__main__":
    campaign = ms.Campaign.from_toml(Path(__file__).with_suffix(".toml")).run()
    table = campaign.candidates().query("stage == 'scored'")
    print(table[["formula", "energy_above_hull", "band_gap"]].sort_values("band_gap").to_string(index=False))
