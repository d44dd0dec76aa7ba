"""Machine-learning potentials: structures in, energies, forces and stresses out."""
