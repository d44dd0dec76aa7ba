"""What crystals with charges are put under, and potentials that answer to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from matsearch.errors import PotentialError
from matsearch.potential.batch import BatchPrediction, CrystalBatch, Output, spread
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.derivatives import differentiate
from matsearch.potential.domain import out_of_domain
from matsearch.potential.threads import one_thread
from matsearch.records import Prediction

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.response import Response


@dataclass(frozen=True, eq=False)
class Conditions:
    """What crystals are put under.

    Attributes:
        total_charges: [n_systems] in e; None: all are neutral. A charged crystal has a uniform background.
        field: [3] in V/Å, the field inside (with the boundary of a conductor, what is macroscopically applied); None
            for none. In a crystal of PQEq it acts on the shells alone.
        slab_axis: Lattice vector (0, 1, 2) across the vacuum of slabs, for PQEq. The field has to be normal to the
            slab's plane and acts on the charges, too; its potential falls back within the widest gap between the atoms.
    """

    total_charges: Tensor | None = None
    field: Tensor | None = None
    slab_axis: int | None = None

    def applied(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Total charges [n_systems] and fields [n_systems, 3] of the crystals of a batch.

        Raises:
            ValueError: They do not fit the batch.
        """
        like = batch.cells.detach()
        totals, field = self.total_charges, self.field
        totals = like.new_zeros(batch.n_systems) if totals is None else totals.to(like)
        field = like.new_zeros(3) if field is None else field.to(like)
        if totals.shape != (batch.n_systems,) or field.shape != (3,):
            raise ValueError(
                f"total_charges must be [n_systems={batch.n_systems}] and field [3], got {tuple(totals.shape)} and "
                f"{tuple(field.shape)}"
            )
        return totals, field.expand(batch.n_systems, 3)


class ChargedPotential(BatchedPotential):
    """A potential that knows charges, and what they do in a field and at a total charge.

    Attributes:
        has_charges: False for one that was made without, as a control.
    """

    has_charges = True

    @abstractmethod
    def output(self, batch: CrystalBatch, conditions: Conditions) -> Output:
        """Energies and charges of crystals under conditions, as `forward`."""

    @abstractmethod
    def response(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
        """Polarization, Born charges, polarizability and dielectric tensor, ions clamped."""

    def forward(self, batch: CrystalBatch) -> Output:
        """Energies and charges of neutral crystals without a field."""
        return self.output(batch, Conditions())

    def charges(self, batch: CrystalBatch) -> tuple[Tensor, dict[int, str]]:
        """[n_atoms] in e of neutral crystals, and by number of crystal why it has none (its charges are NaN).

        Raises:
            PotentialError: The potential was made without charges.
        """
        with torch.no_grad():
            found = self.forward(batch).charges
        if found is None:
            raise PotentialError(f"{self.name} was made without charges")
        return found, {}

    @torch.inference_mode(False)
    def evaluate_under(self, batch: CrystalBatch, conditions: Conditions) -> BatchPrediction:
        """`evaluate` under conditions.

        Raises:
            PotentialError: The potential cannot answer to them.
            ValueError: They do not fit the batch.
        """
        with one_thread(batch.positions.device):
            return differentiate(partial(self.output, conditions=conditions), batch)

    def predict_under(self, structures: Sequence[Structure], conditions: Conditions) -> list[Prediction]:
        """`predict` under conditions, as one batch.

        Raises:
            PotentialError, TypeError: As `predict`; or the potential cannot answer to the conditions.
            ValueError: They do not fit the structures.
        """
        self.require_predictable(structures)
        if not structures:
            return []
        batch = CrystalBatch.from_structures(structures, self.device)
        prediction = self.evaluate_under(batch, conditions)
        flags = out_of_domain(batch, prediction.energies, self)
        return [replace(one, out_of_domain=flag) for one, flag in zip(spread(batch, prediction), flags, strict=True)]
