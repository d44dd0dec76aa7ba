"""Linear elasticity: tensors, what symmetry leaves of them, and the moduli that follow.

Voigt's notation throughout: components 1 to 6 are xx, yy, zz, yz, xz, xy; strains carry twice the shear components,
stresses do not. Cartesian axes are those of the crystal's lattice vectors as given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_FACTORS = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
LEAST_SINGULAR = 0.3
"""An error of the stresses is magnified by no more than the inverse of this."""


def strain_matrix(voigt: np.ndarray) -> np.ndarray:
    """Strain tensor [3, 3] of a Voigt strain [6]."""
    matrix = np.zeros((3, 3))
    for value, factor, (i, j) in zip(voigt, _FACTORS, PAIRS, strict=True):
        matrix[i, j] = matrix[j, i] = value / factor
    return matrix


def voigt_stress(matrix: np.ndarray) -> np.ndarray:
    """Voigt stress [6] of a stress tensor [3, 3]."""
    return np.array([(matrix[i, j] + matrix[j, i]) / 2 for i, j in PAIRS])


def _stress_rotation(rotation: np.ndarray) -> np.ndarray:
    """[6, 6] matrix that turns Voigt stresses as a Cartesian rotation [3, 3] turns the stress tensor."""
    columns = []
    for i, j in PAIRS:
        unit = np.zeros((3, 3))
        unit[i, j] = unit[j, i] = 1.0
        columns.append(voigt_stress(rotation @ unit @ rotation.T))
    return np.array(columns).T


def rotated(tensor: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Elastic tensor [6, 6] in axes turned by a Cartesian rotation [3, 3]: that of the crystal turned by it."""
    turn = _stress_rotation(rotation)
    turned: np.ndarray = turn @ tensor @ turn.T
    return turned


def invariant_basis(rotations: np.ndarray) -> np.ndarray:
    """An orthonormal basis [n, 6, 6] of the elastic tensors that a point group leaves as they are.

    n is 21 without symmetry, 13, 9, 6 or 7, 6 or 7, 5 and 3 for cubic crystals.

    Args:
        rotations: [n_ops, 3, 3] Cartesian rotations, improper ones included or not.
    """
    upper = [(i, j) for i in range(6) for j in range(i, 6)]
    symmetric = np.zeros((21, 6, 6))
    for number, (i, j) in enumerate(upper):
        symmetric[number, i, j] = symmetric[number, j, i] = 1.0 if i == j else 0.5**0.5
    turns = np.array([_stress_rotation(rotation) for rotation in rotations])
    # The mean over the group of T C T^t projects onto what is invariant; the projector in the symmetric basis.
    images = np.einsum("gij,njk,glk->nil", turns, symmetric, turns) / len(turns)
    projector = images.reshape(21, 36) @ symmetric.reshape(21, 36).T
    # T is orthogonal only up to Voigt's factors of 2, so that the projector is not symmetric: take its image.
    vectors, values, _ = np.linalg.svd(projector.T)
    kept = vectors[:, values > 0.5].T
    basis: np.ndarray = (kept @ symmetric.reshape(21, 36)).reshape(-1, 6, 6)
    return basis


def strain_directions(basis: np.ndarray) -> list[int]:
    """Few of the six Voigt strains whose stresses determine every tensor of a basis [n, 6, 6], and determine it well.

    In the axes of a cell that is turned a little, one strain brings all constants into play, some of them by a hair:
    what counts is the least singular value of the equations (1 with all six strains, 0.5 to 0.6 with the fewest in a
    crystal's own axes).
    """
    chosen: list[int] = []
    while len(chosen) < 6:
        gains = {}
        for direction in set(range(6)) - set(chosen):
            rows = np.concatenate([_equations(basis, one) for one in (*chosen, direction)])
            values = np.linalg.svd(rows, compute_uv=False)
            values = np.concatenate([values, np.zeros(max(0, len(basis) - len(values)))])
            gains[direction] = (int((values > LEAST_SINGULAR).sum()), round(float(values.min()), 6), -direction)
        best = max(gains, key=gains.__getitem__)
        chosen.append(best)
        if gains[best][0] == len(basis):
            break
    return sorted(chosen)


def _equations(basis: np.ndarray, direction: int) -> np.ndarray:
    """[6, n] stresses of the tensors of a basis under a unit Voigt strain."""
    stresses: np.ndarray = basis[:, :, direction].T
    return stresses


def fit_tensor(strains: np.ndarray, stresses: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The tensor [6, 6] of a basis whose stresses come nearest, by least squares.

    Args:
        strains: [n, 6] Voigt strains.
        stresses: [n, 6] Voigt stresses, less those of the unstrained crystal.
        basis: [n_invariants, 6, 6], from `invariant_basis`.

    Returns:
        In the unit of the stresses.
    """
    # Shears enter a stress twice in the energy; the weights make the fit independent of the axes. Of a strain of the
    # same largest component a shear is the longer: taken to one length, all strains count alike, and what stresses at
    # finite strain lack of a symmetric tensor is shared evenly, as the mean of the tensor and its transpose does.
    components = strains / _FACTORS
    lengths = np.sqrt((components**2 * _FACTORS).sum(axis=1))
    weights = np.sqrt(_FACTORS) * (np.abs(components).max(axis=1) / lengths)[:, None]
    design = np.einsum("nij,sj->sin", basis, strains) * weights[:, :, None]
    coefficients, *_ = np.linalg.lstsq(design.reshape(-1, len(basis)), (stresses * weights).ravel(), rcond=None)
    tensor: np.ndarray = np.einsum("n,nij->ij", coefficients, basis)
    return tensor


@dataclass(frozen=True, slots=True)
class Moduli:
    """What a polycrystal makes of an elastic tensor; moduli in the tensor's unit.

    Voigt's averages (equal strain) bound those of a polycrystal from above, Reuss's (equal stress) from below; Hill's
    are their means (R. Hill, Proc. Phys. Soc. A 65, 349 (1952)).

    Attributes:
        bulk_voigt: Bulk modulus K.
        bulk_reuss: K.
        shear_voigt: Shear modulus G.
        shear_reuss: G.
        least_stiffness: The smallest eigenvalue of the tensor in Mandel's notation. Where it is not positive the
            crystal gives way (Born's condition; F. Mouhat, F.-X. Coudert, Phys. Rev. B 90, 224104 (2014)), and Reuss's
            averages mean nothing.
    """

    bulk_voigt: float
    bulk_reuss: float
    shear_voigt: float
    shear_reuss: float
    least_stiffness: float

    @property
    def bulk(self) -> float:
        """Hill's bulk modulus."""
        return (self.bulk_voigt + self.bulk_reuss) / 2

    @property
    def shear(self) -> float:
        """Hill's shear modulus."""
        return (self.shear_voigt + self.shear_reuss) / 2

    @property
    def young(self) -> float:
        """Young's modulus of an isotropic body with these K and G."""
        return 9 * self.bulk * self.shear / (3 * self.bulk + self.shear)

    @property
    def poisson_ratio(self) -> float:
        """Poisson's ratio of such a body."""
        return (3 * self.bulk - 2 * self.shear) / (2 * (3 * self.bulk + self.shear))

    @property
    def pugh_ratio(self) -> float:
        """K / G: above about 1.75 metals are ductile (S. F. Pugh, Phil. Mag. 45, 823 (1954))."""
        return self.bulk / self.shear

    @property
    def universal_anisotropy(self) -> float:
        """5 G_V / G_R + K_V / K_R - 6; 0 for isotropic (S. I. Ranganathan, M. Ostoja-Starzewski, PRL 101, 055504)."""
        return 5 * self.shear_voigt / self.shear_reuss + self.bulk_voigt / self.bulk_reuss - 6

    def vickers_hardness(self) -> float:
        """Hardness from moduli in GPa, by the model of Tian: 0.92 (G/K)^1.137 G^0.708, in GPa.

        Source: Y. Tian, B. Xu, Z. Zhao, Int. J. Refract. Met. Hard Mater. 33, 93 (2012). Unlike that of Chen et al.
        (Intermetallics 19, 1275 (2011)) it is never negative.
        """
        return 0.92 * (self.shear / self.bulk) ** 1.137 * self.shear**0.708


def moduli(tensor: np.ndarray) -> Moduli:
    """Voigt's and Reuss's averages of an elastic tensor [6, 6].

    Raises:
        ValueError: The tensor is singular.
    """
    mandel = tensor * np.sqrt(np.outer(_FACTORS, _FACTORS))
    least = float(np.linalg.eigvalsh((mandel + mandel.T) / 2)[0])
    try:
        s = np.linalg.inv(tensor)
    except np.linalg.LinAlgError as err:
        raise ValueError("the elastic tensor is singular") from err
    c = tensor
    return Moduli(
        bulk_voigt=float(c[:3, :3].sum() / 9),
        bulk_reuss=float(1 / s[:3, :3].sum()),
        shear_voigt=float((np.trace(c[:3, :3]) - (c[0, 1] + c[0, 2] + c[1, 2]) + 3 * np.trace(c[3:, 3:])) / 15),
        shear_reuss=float(15 / (4 * np.trace(s[:3, :3]) - 4 * (s[0, 1] + s[0, 2] + s[1, 2]) + 3 * np.trace(s[3:, 3:]))),
        least_stiffness=least,
    )
