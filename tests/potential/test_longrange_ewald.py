"""Ewald sums against Madelung constants, other codes and the laws they have to follow."""

import math

import numpy as np
import pytest
import torch
import torchpme
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.ewald import COULOMB, ewald_energy, isolated_energy, waves

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
CUBE = Lattice.cubic(5.0)


def wurtzite(ratio: float, u: float) -> Structure:
    sites = [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, u], [2 / 3, 1 / 3, 0.5 + u]]
    return Structure(Lattice.hexagonal(3.8, 3.8 * ratio), ["Zn"] * 2 + ["S"] * 2, sites)


def rutile(ratio: float, u: float) -> Structure:
    sites = [[0, 0, 0], [0.5] * 3, [u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    return Structure(Lattice.tetragonal(4.6, 4.6 * ratio), ["Ti"] * 2 + ["O"] * 4, sites)


# Crystal, charges, formula units, length r (Å) of the constant M in E = -M C / r per formula unit, and M itself. The
# first four from their lattice sums to 12 digits and more (Sakamoto, J. Chem. Phys. 28, 164 (1958); Zucker, J. Phys. A
# 9, 499 (1976)); wurtzite at c/a = sqrt(8/3), u = 3/8, r = u c.
MADELUNG = {
    "CsCl": (Structure(CUBE, ["Cs", "Cl"], [[0] * 3, [0.5] * 3]), [1, -1], 1, 5 * math.sqrt(0.75), 1.76267477307099),
    "NaCl": (
        Structure(CUBE, ["Na"] * 4 + ["Cl"] * 4, np.concatenate([FCC, FCC + 0.5])),
        [1] * 4 + [-1] * 4,
        4,
        2.5,
        1.74756459463318,
    ),
    "zincblende": (
        Structure(CUBE, ["Zn"] * 4 + ["S"] * 4, np.concatenate([FCC, FCC + 0.25])),
        [1] * 4 + [-1] * 4,
        4,
        5 * math.sqrt(3) / 4,
        1.63805505338879,
    ),
    "fluorite": (
        Structure(CUBE, ["Ca"] * 4 + ["F"] * 8, np.concatenate([FCC, FCC + 0.25, FCC + 0.75])),
        [2] * 4 + [-1] * 8,
        4,
        5 * math.sqrt(3) / 4,
        5.03878487998,
    ),
    "wurtzite": (wurtzite(math.sqrt(8 / 3), 3 / 8), [1, 1, -1, -1], 2, 3.8 * math.sqrt(8 / 3) * 3 / 8, 1.64132162737),
}
PEROVSKITE = Structure(
    CUBE, ["Sr", "Ti", "O", "O", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
)


def tensor(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def energy(structure: Structure, charges, exponents=None, splitting=None) -> float:
    batch = CrystalBatch.from_structures([structure])
    exponents = None if exponents is None else tensor(exponents)
    return float(ewald_energy(batch, tensor(charges), exponents, splitting=splitting)[0])


def random_cell(seed: int, n_atoms: int = 6) -> tuple[Structure, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = 5 * np.eye(3) + rng.normal(scale=1.2, size=(3, 3))
    if seed % 2:
        matrix = matrix[[1, 0, 2]]  # left-handed
    charges = rng.normal(size=n_atoms)
    structure = Structure(Lattice(matrix), ["H"] * n_atoms, rng.random((n_atoms, 3)))
    return structure, charges - charges.mean()


@pytest.mark.parametrize("splitting", [None, 0.25, 0.6, 1.1])
@pytest.mark.parametrize("crystal", MADELUNG)
def test_madelung_constant_whatever_the_splitting(crystal: str, splitting: float | None) -> None:
    structure, charges, units, length, constant = MADELUNG[crystal]
    assert -energy(structure, charges, splitting=splitting) / units * length / COULOMB == pytest.approx(
        constant, abs=1e-9
    )


@pytest.mark.parametrize("splitting", [None, 0.25, 0.6, 1.1])
@pytest.mark.parametrize(
    ("structure", "charges"),
    [
        (PEROVSKITE, [2, 4, -2, -2, -2]),
        (wurtzite(1.602, 0.3819), [2, 2, -2, -2]),  # ZnO
        (rutile(0.6440, 0.3053), [4, 4, -2, -2, -2, -2]),  # TiO2
    ],
    ids=["perovskite", "wurtzite of ZnO", "rutile"],
)
def test_energy_is_that_of_another_ewald_sum(structure: Structure, charges: list[int], splitting: float | None) -> None:
    other = structure.copy()
    other.add_oxidation_state_by_site(charges)
    theirs = EwaldSummation(other, acc_factor=14.0).total_energy / EwaldSummation.CONV_FACT
    assert energy(structure, charges, splitting=splitting) / COULOMB == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_random_cells_agree_with_another_ewald_sum(seed: int) -> None:
    structure, charges = random_cell(seed)
    other = structure.copy()
    other.add_oxidation_state_by_site(charges.tolist())
    sums = EwaldSummation(other, acc_factor=14.0, compute_forces=True)
    assert energy(structure, charges) / COULOMB == pytest.approx(sums.total_energy / EwaldSummation.CONV_FACT, rel=1e-9)
    batch = CrystalBatch.from_structures([structure])
    positions = batch.positions.requires_grad_()
    (slope,) = torch.autograd.grad(ewald_energy(batch, tensor(charges)).sum(), positions)
    np.testing.assert_allclose(-slope / COULOMB, sums.forces / EwaldSummation.CONV_FACT, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_random_cells_agree_with_torch_pme(seed: int) -> None:
    structure, charges = random_cell(seed)
    batch = CrystalBatch.from_structures([structure])
    pairs = batch.pairs(9.0)
    potential = torchpme.CoulombPotential(smearing=1.2)
    calculator = torchpme.EwaldCalculator(potential, lr_wavelength=0.5).double()
    potentials = calculator(
        charges=tensor(charges)[:, None],
        cell=batch.cells[0],
        positions=batch.positions,
        neighbor_indices=torch.stack([pairs.first, pairs.second], 1),
        neighbor_distances=pairs.lengths,
    )
    theirs = float((potentials[:, 0] * tensor(charges)).sum())
    assert energy(structure, charges) / COULOMB == pytest.approx(theirs, rel=1e-9)


def test_narrow_gaussians_are_points() -> None:
    structure, charges = random_cell(0)
    narrow = np.full(len(charges), 400.0)  # erfc(14 r) is below 1e-15 from 0.4 Å on
    assert energy(structure, charges, narrow) == pytest.approx(energy(structure, charges), abs=1e-10)


@pytest.mark.parametrize("total", [0.0, 1.5])
def test_gaussians_of_many_widths_give_one_energy_whatever_the_splitting(total: float) -> None:
    structure, charges = random_cell(1)
    charges = charges + total / len(charges)
    exponents = [0.05, 0.3, 0.6, 1.7, 4.0, math.inf]
    energies = [energy(structure, charges, exponents, splitting) for splitting in (None, 0.12, 0.3, 0.7, 1.2)]
    np.testing.assert_allclose(energies, energies[0], atol=1e-9)
    only_waves = energy(structure, charges, [*exponents[:5], 9.0], splitting=5.0)
    assert energy(structure, charges, [*exponents[:5], 9.0], splitting=0.3) == pytest.approx(only_waves, abs=1e-9)


def test_a_charged_cell_has_a_uniform_background() -> None:
    # One charge in a cube: the Wigner lattice, -1.41864873961 q² C / a (Placzek, Nijboer, van Hove 1951: 2.837297479).
    structure = Structure(CUBE, ["H"], [[0.3, 0.2, 0.1]])
    assert energy(structure, [1.0]) == pytest.approx(-2.837297479480620 / 2 * COULOMB / 5, abs=1e-8)
    # A Gaussian feels the background as what it is: C π Q sum(q/a) / V beside the point.
    shifted = energy(structure, [1.0]) + math.pi * COULOMB / 125 / 2.0
    assert energy(structure, [1.0], [2.0]) == pytest.approx(shifted, abs=1e-4)  # the images are 5 Å away
    assert energy(structure, [1.0], [2.0]) == pytest.approx(energy(structure, [1.0], [2.0], 0.4), abs=1e-9)


def test_supercells_translations_and_other_lattice_vectors_do_not_matter() -> None:
    structure, charges = random_cell(3)
    exponents = np.array([0.2, 0.5, math.inf, 1.0, math.inf, 0.8])
    once = energy(structure, charges, exponents)
    double = energy(structure * (2, 1, 1), np.repeat(charges, 2), np.repeat(exponents, 2))
    assert double == pytest.approx(2 * once, abs=1e-9)
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.3, 0.4, -0.2], to_unit_cell=False)
    assert energy(moved, charges, exponents) == pytest.approx(once, abs=1e-9)
    skewed = Lattice(np.array([[1, 0, 0], [1, 1, 0], [0, -2, 1]]) @ structure.lattice.matrix)
    other = Structure(skewed, structure.species, structure.cart_coords, coords_are_cartesian=True)
    assert energy(other, charges, exponents) == pytest.approx(once, abs=1e-9)


def test_a_batch_gives_what_single_crystals_do() -> None:
    cells = [random_cell(seed, n_atoms) for seed, n_atoms in enumerate((1, 7, 4, 12))]
    exponents = [np.linspace(0.1, 2.0, len(charges)) for _, charges in cells]
    batch = CrystalBatch.from_structures([structure for structure, _ in cells])
    together = ewald_energy(
        batch, tensor(np.concatenate([charges for _, charges in cells])), tensor(np.concatenate(exponents))
    )
    alone = [energy(structure, charges, a) for (structure, charges), a in zip(cells, exponents, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-10)


@pytest.mark.parametrize("splitting", [None, 0.5])
def test_derivatives_are_right_to_second_order(splitting: float | None) -> None:
    structure, charges = random_cell(2, 3)
    batch = CrystalBatch.from_structures([structure])
    exponents = tensor([0.3, 0.7, 0.9])

    def of(positions, strain, charges, exponents) -> torch.Tensor:
        deformation = torch.eye(3, dtype=torch.float64) + strain
        moved = batch.moved(positions @ deformation, batch.cells @ deformation)
        return ewald_energy(moved, charges, exponents, splitting=splitting)

    strain = torch.zeros((3, 3), dtype=torch.float64)
    inputs = [one.clone().requires_grad_() for one in (batch.positions, strain, tensor(charges), exponents)]
    assert torch.autograd.gradcheck(of, inputs, eps=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(of, inputs, eps=1e-5, atol=1e-5)


def test_a_cell_of_waves_too_many_for_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    structure, charges = random_cell(0)
    batch = CrystalBatch.from_structures([structure])
    exponents = torch.full((6,), 0.8, dtype=torch.float64)
    results = []
    for entries in (4e6, 200):
        monkeypatch.setattr("matsearch.potential.longrange.ewald.ELEMENTS_AT_ONCE", entries)
        positions = batch.positions.clone().requires_grad_()
        found = ewald_energy(batch.moved(positions, batch.cells), tensor(charges), exponents)
        results.append((found.item(), torch.autograd.grad(found.sum(), positions)[0].numpy()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-11)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-11)


def test_cells_long_in_different_directions_are_padded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = torch.stack([torch.diag(tensor(sides)) for sides in ([40, 3, 3], [3, 40, 3], [3, 3, 5])])
    cutoffs = tensor([5.0, 5.0, 4.0])
    together, mask = waves(cells, cutoffs)
    monkeypatch.setattr("matsearch.potential.longrange.ewald.MAX_BOX", 5e5)
    one_by_one, other_mask = waves(cells, cutoffs)
    assert torch.equal(mask, other_mask)
    assert (one_by_one[~mask] == tensor([0, 0, 1])).all()
    for system in range(3):
        found = [{tuple(one) for one in some[system][mask[system]].tolist()} for some in (together, one_by_one)]
        assert found[0] == found[1] and len(found[0]) == int(mask[system].sum())


def test_isolated_charges_follow_their_pairs() -> None:
    positions = tensor([[0, 0, 0], [0, 0, 1.5], [9, 9, 9], [9, 9, 12], [9, 9, 15]])
    charges = tensor([1, -1, 1, 1, -1])
    exponents = tensor([0.5, 0.7, math.inf, 0.4, math.inf])
    systems = torch.tensor([0, 0, 1, 1, 1])

    def pair(q: float, a: float, b: float, r: float) -> float:
        return COULOMB * q * math.erf(r / math.sqrt(1 / a + 1 / b)) / r

    expected = [
        pair(-1, 0.5, 0.7, 1.5),
        pair(1, math.inf, 0.4, 3) + pair(-1, math.inf, 0.4, 3) - COULOMB / 6,
    ]
    np.testing.assert_allclose(isolated_energy(positions, charges, systems, 2, exponents), expected, atol=1e-12)
    assert torch.autograd.gradgradcheck(
        lambda r: isolated_energy(r, charges, systems, 2, exponents), positions.requires_grad_()
    )


def test_a_large_box_gives_the_isolated_energy() -> None:
    # Neutral and without a dipole, so that what the images do falls off with the fifth power of the box.
    positions = np.array([[0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]])
    charges = [1.0, -0.5, -0.5]
    alone = float(isolated_energy(tensor(positions), tensor(charges), torch.zeros(3, dtype=torch.int64), 1)[0])
    boxes = [
        energy(Structure(Lattice.cubic(side), ["H"] * 3, positions, coords_are_cartesian=True), charges)
        for side in (15.0, 30.0)
    ]
    assert abs(boxes[0] - alone) == pytest.approx(32 * abs(boxes[1] - alone), rel=0.05)
    assert boxes[1] == pytest.approx(alone, abs=2e-5)


def test_refuses_what_does_not_fit() -> None:
    structure, charges = random_cell(0)
    with pytest.raises(ValueError, match=r"charges must be \[n_atoms=6\]"):
        energy(structure, charges[:5])
    with pytest.raises(ValueError, match="exponents must be positive"):
        energy(structure, charges, np.zeros(6))
    with pytest.raises(ValueError, match="splitting must be"):
        energy(structure, charges, splitting=0.0)
