"""Units: eV, Å, e and eV/Å^3 inside; the factors for what people read and type."""

from __future__ import annotations

EV_PER_A3_IN_GPA = 160.21766208
"""1 eV/Å^3 in GPa (CODATA 2014, as in ASE)."""

AMU_PER_A3_IN_G_PER_CM3 = 1.66053906660
"""1 u/Å^3 in g/cm^3 (CODATA 2018)."""
