"""What PQEq adds to a potential that holds the electrostatics of near neighbours already.

A network that was fitted to total energies holds the lattice energy of a crystal, so that PQEq on top counts it twice.
Most of that energy is local, though: beyond some Å a charge is screened by the charges around it. So two equilibria are
taken, one with the whole interaction and one with interactions that end at a length L, erfc(r/L)/r in place of 1/r as
in the sums of D. Wolf et al., J. Chem. Phys. 110, 8254 (1999), and their energies subtracted:

    E_far = min over q, s of E_PQEq(q, s) - min over q, s of E_PQEq(q, s; screened at L)

The second is short-ranged and thereby part of what the network stands for: with E_short = network - E_PQEq(screened),
E_short + E_PQEq = network + E_far. Each energy is stationary in its own charges: forces are partial derivatives, and
those between fragments far apart are PQEq's own.

At L = 2 Å next to nothing is left in crystals (`benchmarks/far_share.py`, 400 of the Materials Project, every other one
strained and rattled; mean absolute values): 1.2 meV/atom, 1.8 meV/Å and 0.007 GPa, where PQEq's whole energy spreads
over 342 meV/atom. What is left is large where charges are far from what balances them: in surfaces, in layers, between
molecules. A shorter L leaves more (3.8 meV/atom at 1 Å); with a longer one two ions 6 Å apart, where the network ends,
feel less of each other: Na and Cl 0.93 of PQEq's force at 1 Å, 0.78 at 2 Å, 0.63 at 3 Å.

What the screened sum leaves out of a charge's interaction with itself stays, as in Wolf's: it acts as a softer core, so
that the screened charges are the larger ones where nothing is near (Na and Cl at infinity 0.78 e, PQEq's own 0.40 e),
and E_far of a neutral crystal is not negative. Fragments that hold fractional charges at any distance (PQEq's flow of
charge) differ from free ones by a constant: 1.09 eV for Na and Cl. So no energy of dissociation is to be read from it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.conditions import ChargedPotential, Conditions
from matsearch.potential.longrange.equilibration import is_large
from matsearch.potential.longrange.padding import Block, rejoin_atoms, rejoin_systems
from matsearch.potential.longrange.pqeq import PQEq, PQEqParameters, settle
from matsearch.potential.longrange.terms import Terms

if TYPE_CHECKING:
    from matsearch.potential.response import Response

SCREENING = 2.0
"""Å."""


class FarPQEq(ChargedPotential):
    """PQEq less PQEq with screened interactions.

    Charges, and the answer to a field and to a total charge, are those of PQEq; the screened one is taken of the
    neutral crystal without a field, whatever the conditions.

    Attributes:
        whole: PQEq.
    """

    is_term = True
    not_finite = PQEq.not_finite
    batch_atoms = PQEq.batch_atoms

    def __init__(self, name: str, parameters: PQEqParameters, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.energy_scale = name
        self.device = str(device)
        self.whole = PQEq(f"{name}, whole", parameters, device)
        self.elements = self.whole.elements
        # Charges of an element are next to none in both. With it a sum keeps the guard around the network's energy.
        self.energy_references = dict.fromkeys(sorted(self.elements), 0.0)

    def double(self) -> FarPQEq:
        """Itself: it computes in double precision."""
        return self

    def output(self, batch: CrystalBatch, conditions: Conditions) -> Output:
        """Energies, and PQEq's charges.

        Raises:
            PotentialError: A slab in a field has too little vacuum, or the field is not normal to it.
        """
        made, energies, charges = [], [], []
        for block, whole, totals in self.whole.terms(batch, conditions):
            near = self._near(batch, block, whole)
            n = len(totals)
            if is_large(whole):
                parts = [
                    settle(one, total, attached=False)
                    for one, total in ((whole, totals), (near, torch.zeros_like(totals)))
                ]
            else:
                # Side by side: half the calls, which is what small crystals cost.
                parts = [settle(whole.beside(near), torch.cat([totals, torch.zeros_like(totals)]), attached=False)]
            bad = torch.cat([found.unstable | found.unfinished for found, _ in parts])
            lowest = torch.cat([one for _, one in parts]) * torch.where(bad, torch.nan, 1.0)
            energies.append(lowest[:n] - lowest[n:])
            charges.append(torch.where(bad[:n, None], torch.nan, parts[0][0].charges[:n]))
            made.append(block)
        return Output(energies=rejoin_systems(made, energies), charges=rejoin_atoms(made, charges))

    def _near(self, batch: CrystalBatch, block: Block, whole: Terms) -> Terms:
        """The same with screened interactions, without a field."""
        chi = block.take(self.whole.parameters.chi.index_select(0, batch.numbers))
        lengths = torch.full_like(whole.screening, SCREENING)
        return replace(whole, chi=chi, field=torch.zeros_like(whole.field), screening=lengths)

    def charges(self, batch: CrystalBatch) -> tuple[Tensor, dict[int, str]]:
        """Those of PQEq."""
        return self.whole.charges(batch)

    def response(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
        """That of PQEq."""
        return self.whole.response(batch, conditions)


def pqeq_far(device: str = "auto") -> FarPQEq:
    """With the parameters of Gao et al., but for a harder hydrogen (`data/pqeq.toml`)."""
    where = torch_device(device)
    return FarPQEq("pqeq-far", PQEqParameters.published("pqeq-far", where), where)
