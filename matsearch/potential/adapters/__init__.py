"""Potentials of other packages, brought to the units and conventions of `Potential`."""
