"""Long-range physics: electrostatics, polarizable charges, dispersion."""
