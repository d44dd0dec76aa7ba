"""The published figures of D3: what each functional damps with, and the reference systems of each element.

Sources:

- Reference systems (coordination numbers, C6), covalent and van der Waals radii and <r^4>/<r^2> of the elements:
  Grimme, Antony, Ehrlich and Krieg, J. Chem. Phys. 132, 154104 (2010); Fr to Pu: Wittmann et al., Phys. Chem. Chem.
  Phys. 26, 21379 (2024). Covalent radii: Pyykkö and Atsumi, Chem. Eur. J. 15, 186 (2009), those of metals less a tenth.
  `data/d3_reference.npz` holds the figures as tabulated in tad-dftd3 0.7.0 and tad-mctc 0.11.3 (Apache-2.0).
- Damping: zero, the paper above; Becke-Johnson, Grimme, Ehrlich and Goerigk, J. Comput. Chem. 32, 1456 (2011) and
  Goerigk and Grimme, Phys. Chem. Chem. Phys. 13, 6670 (2011); SCAN, Brandenburg et al., Phys. Rev. B 94, 115144 (2016);
  HSE06, Moellmann and Grimme, J. Phys. Chem. C 118, 7615 (2014); rSCAN and r2SCAN, Ehlert et al., J. Chem. Phys. 154,
  061101 (2021), who fitted Becke-Johnson alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from matsearch.errors import ConfigError

BOHR = 0.529177210903
"""Å (CODATA 2018)."""
HARTREE = 27.211386245988
"""eV (CODATA 2018)."""


@dataclass(frozen=True)
class Rational:
    """Damping of Becke and Johnson: s6 C6/(r^6 + R^6) + s8 C8/(r^8 + R^8) with R = a1 sqrt(C8/C6) + a2.

    Attributes:
        s8: Scale of the eighth power; that of the sixth is 1.
        a1: Scale of the critical radius.
        a2: Offset of the critical radius in Bohr.
    """

    s8: float
    a1: float
    a2: float


@dataclass(frozen=True)
class Zero:
    """Damping to zero: s_n C_n/r^n / (1 + 6 (rs_n R/r)^(n + 8)), n = 6 and 8, with the van der Waals radius R.

    Attributes:
        s8: Scale of the eighth power; that of the sixth is 1.
        rs6: Scale of the radius for the sixth power; that for the eighth is 1.
    """

    s8: float
    rs6: float


FUNCTIONALS: dict[str, dict[str, Rational | Zero]] = {
    "b3lyp": {"bj": Rational(1.9889, 0.3981, 4.4211), "zero": Zero(1.703, 1.261)},
    "blyp": {"bj": Rational(2.6996, 0.4298, 4.2359), "zero": Zero(1.682, 1.094)},
    "hse06": {"bj": Rational(2.310, 0.383, 5.685), "zero": Zero(0.109, 1.129)},
    "pbe": {"bj": Rational(0.7875, 0.4289, 4.4407), "zero": Zero(0.722, 1.217)},
    "pbe0": {"bj": Rational(1.2177, 0.4145, 4.8593), "zero": Zero(0.928, 1.287)},
    "pbesol": {"bj": Rational(2.9491, 0.4466, 6.1742), "zero": Zero(0.612, 1.345)},
    "r2scan": {"bj": Rational(0.78981345, 0.49484001, 5.73083694)},
    "revpbe": {"bj": Rational(2.3550, 0.5238, 3.5016), "zero": Zero(1.010, 0.923)},
    "rpbe": {"bj": Rational(0.8318, 0.1820, 4.0094), "zero": Zero(0.514, 0.872)},
    "rscan": {"bj": Rational(1.08859014, 0.47023427, 5.73408312)},
    "scan": {"bj": Rational(0.0, 0.5380, 5.4200), "zero": Zero(0.0, 1.324)},
    "tpss": {"bj": Rational(1.9435, 0.4535, 4.4752), "zero": Zero(1.105, 1.166)},
}
DAMPINGS = ("bj", "zero")


def damping(functional: str, kind: str) -> Rational | Zero:
    """The damping that was fitted for a functional.

    Raises:
        ConfigError: The functional or the damping is unknown, or that damping was not fitted for it; names the known.
    """
    if functional not in FUNCTIONALS:
        raise ConfigError(f"d3 knows no functional {functional!r}; known: {', '.join(sorted(FUNCTIONALS))}")
    if kind not in DAMPINGS:
        raise ConfigError(f"d3 knows no damping {kind!r}; known: {', '.join(DAMPINGS)}")
    if kind not in FUNCTIONALS[functional]:
        raise ConfigError(
            f"no {kind!r} damping of d3 was published for {functional}; known: {', '.join(FUNCTIONALS[functional])}"
        )
    return FUNCTIONALS[functional][kind]


@dataclass(frozen=True)
class Reference:
    """The reference systems of the elements H to Pu, in eV and Å; rows of atomic number 0 are of no atom.

    Attributes:
        coordination: [n_systems] coordination number of each reference system.
        c6: [n_systems + 1, n_systems + 1] eV Å^6 between reference systems; the last row is of none.
        systems: [95, 7] reference systems of each element; those that it lacks are the last of `c6`.
        covalent_radii: [95] in Å, enlarged by 4/3.
        vdw_radii: [95, 95] in Å, for pairs of elements.
        r4r2: [95] in Å: C8 = 3 C6 r4r2_i r4r2_j.
    """

    coordination: np.ndarray
    c6: np.ndarray
    systems: np.ndarray
    covalent_radii: np.ndarray
    vdw_radii: np.ndarray
    r4r2: np.ndarray


@cache
def reference() -> Reference:
    """Read the reference systems from the package's data."""
    with as_file(files(__package__) / "data" / "d3_reference.npz") as path, np.load(path) as table:
        elements, coordination = table["elements"], table["coordination"]
        c6, vdw = table["c6"] * 1e-4, table["vdw_radii"] * 1e-4  # published with four decimals, kept as integers
        covalent, r4_over_r2 = table["covalent_radii"], table["r4_over_r2"]
    systems = np.full((95, 7), len(elements))
    for number in range(1, 95):
        own = np.flatnonzero(elements == number)
        systems[number, : len(own)] = own
    return Reference(
        coordination=coordination,
        c6=np.pad(_symmetric(c6, len(elements)), (0, 1)) * HARTREE * BOHR**6,
        systems=systems,
        covalent_radii=np.pad(covalent, (1, 0)) * 4 / 3,
        vdw_radii=np.pad(_symmetric(vdw, 94), (1, 0)),
        r4r2=np.sqrt(0.5 * np.pad(r4_over_r2, (1, 0)) * np.sqrt(np.arange(95))) * BOHR,
    )


def _symmetric(triangle: np.ndarray, size: int) -> np.ndarray:
    """The symmetric matrix with this lower triangle."""
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = triangle
    return matrix + np.tril(matrix, -1).T
