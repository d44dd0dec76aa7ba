"""Machine-learning potentials: structures in, energies, forces and stresses out."""

from matsearch.potential.base import Potential, load_potential

__all__ = ["Potential", "load_potential"]
