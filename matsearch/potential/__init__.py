"""Machine-learning potentials: structures in, energies, forces and stresses out."""

from matsearch.potential.base import Potential
from matsearch.potential.names import load_potential

__all__ = ["Potential", "load_potential"]
