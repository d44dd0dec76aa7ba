"""Settings of the section [relax]."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, PositiveFloat, PositiveInt


class RelaxSettings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How a relaxation goes, when it is done, and when it is given up."""

    force_tol: PositiveFloat = 0.05  # eV/Å, on atoms and, through the cell filter, on the cell
    max_steps: PositiveInt = 500
    stress_tol: PositiveFloat | None = None  # eV/Å^3, on the cell instead of force_tol
    optimizer: Literal["fire", "lbfgs"] = "fire"
    fix_symmetry: bool = False  # keep the space group of the start
    pressure_gpa: float = 0.0
