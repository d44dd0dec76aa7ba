"""Settings of the section [relax]."""

from __future__ import annotations

from pydantic import BaseModel, PositiveFloat, PositiveInt


class RelaxSettings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """When a relaxation is done, and when it is given up."""

    force_tol: PositiveFloat = 0.05  # eV/Å, on atoms and, through the cell filter, on the cell
    max_steps: PositiveInt = 500
