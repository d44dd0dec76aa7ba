"""PQEq against independent numbers, its own derivatives and the laws of a minimum."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.equilibration import energy, equilibrate
from matsearch.potential.longrange.ewald import COULOMB, ewald_energy, isolated_energy
from matsearch.potential.longrange.pqeq import (
    KCAL_PER_MOL,
    Conditions,
    HardnessWarning,
    PQEq,
    PQEqParameters,
    UnstableChargesError,
)
from matsearch.potential.longrange.terms import boys
from matsearch.potential.response import shell_response
from matsearch.testing.potential import example_crystals

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def rocksalt(side: float, cation: str, anion: str, rattle: float = 0.0) -> Structure:
    coords = np.concatenate([FCC, FCC + 0.5]) + np.random.default_rng(1).normal(scale=rattle, size=(8, 3))
    return Structure(Lattice.cubic(side), [cation] * 4 + [anion] * 4, coords)


def batch_of(*structures: Structure) -> CrystalBatch:
    return CrystalBatch.from_structures(structures)


@pytest.fixture(scope="module")
def potential() -> PQEq:
    return load_potential("pqeq", "cpu")


@pytest.fixture(scope="module")
def unstable() -> PQEq:
    """Shells so loose that they fly away from any charge."""
    published = PQEqParameters.published("pqeq")
    spring = published.spring.clone()
    spring[11] = 1e-3  # Na
    return PQEq("loose sodium", replace(published, spring=spring))


def test_all_cells_of_an_independent_code_are_reproduced(potential: PQEq) -> None:
    folder = os.environ.get("MATSEARCH_SHARED")
    if not folder or not (path := Path(folder) / "data" / "pqeq_fixtures.json").is_file():
        pytest.skip("MATSEARCH_SHARED names no folder with data/pqeq_fixtures.json")
    cells = [one for one in json.loads(path.read_text()).values() if "symbols" in one]
    assert len(cells) >= 4
    batch = CrystalBatch.from_arrays(
        [np.array(one["positions"]) for one in cells],
        [np.array(one["cell"]) for one in cells],
        [[Element(symbol).Z for symbol in one["symbols"]] for one in cells],
    )
    found = potential.equilibrium(batch).require()
    prediction = potential.evaluate(batch)
    start = 0
    for number, one in enumerate(cells):
        atoms = slice(start, start + len(one["symbols"]))
        start = atoms.stop
        theirs = one["ewald"]
        assert float(found.energies[number]) == pytest.approx(theirs["E_eV"], abs=1e-9)
        np.testing.assert_allclose(found.charges[atoms], theirs["q"], atol=1e-6)
        np.testing.assert_allclose(found.shells[atoms], theirs["rs"], atol=1e-8)
        np.testing.assert_allclose(prediction.forces[atoms][0], theirs["F_atom0"], atol=1e-6)


def brute_force_energy(structure: Structure, charges: np.ndarray, shells: np.ndarray) -> float:
    """The energy from its definition: `ewald_energy` of cores and shells as atoms of their own."""
    parameters = PQEqParameters.published("pqeq")
    numbers = torch.tensor(structure.atomic_numbers)
    chi, eta, spring, a = (
        x[numbers] for x in (parameters.chi, parameters.eta, parameters.spring, parameters.exponents)
    )
    positions = torch.tensor(np.concatenate([structure.cart_coords, structure.cart_coords + shells]))
    batch = CrystalBatch.from_arrays(
        [positions.numpy()], [structure.lattice.matrix], [np.tile(structure.atomic_numbers, 2)]
    )
    q, s = torch.tensor(charges), torch.tensor(shells)
    all_charges = torch.cat([q + 1, -torch.ones_like(q)])
    coulomb = ewald_energy(batch, all_charges, torch.cat([a, a]), splitting=0.3)[0]
    for atom in range(len(q)):  # no Coulomb between a core and its own shell
        both = torch.stack([torch.zeros(3, dtype=torch.float64), s[atom]])
        pair = torch.tensor([charges[atom] + 1, -1.0], dtype=torch.float64)
        coulomb -= isolated_energy(both, pair, torch.zeros(2, dtype=torch.int64), 1, a[atom].expand(2))[0]
    return float(coulomb + (chi * q + eta * q**2 / 2 + spring * s.square().sum(1) / 2).sum())


def test_energy_is_the_sum_it_is_defined_as_and_stationary(potential: PQEq) -> None:
    structure = example_crystals()[1]
    found = potential.equilibrium(batch_of(structure)).require()
    charges, shells = found.charges.numpy(), found.shells.numpy()
    assert np.abs(shells).max() > 0.005, "shells too small to say anything"
    lowest = brute_force_energy(structure, charges, shells)
    assert float(found.energies[0]) == pytest.approx(lowest, abs=1e-9)
    assert charges.sum() == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(4):
        dq, ds = rng.normal(size=len(charges)), rng.normal(size=shells.shape)
        dq -= dq.mean()
        plus, minus = (brute_force_energy(structure, charges + h * dq, shells + h * ds) for h in (1e-3, -1e-3))
        assert plus - minus == pytest.approx(0, abs=1e-8)  # third order remains
        assert plus > lowest < minus


def test_boys_functions() -> None:
    x = torch.tensor([0.0, 1e-9, 0.3, 0.4999, 0.5, 2.0, 30.0], dtype=torch.float64)
    t = (np.arange(20000) + 0.5) / 20000
    for order in range(4):
        exact = [np.mean(t ** (2 * order) * np.exp(-value * t**2)) for value in x.tolist()]
        np.testing.assert_allclose(boys(x, order), exact, atol=2e-8)
    assert torch.autograd.gradgradcheck(lambda y: boys(y, 0), (x[1:] + 0.01).requires_grad_())


def test_waves_kept_from_the_solution_give_the_slopes_of_automatic_differentiation(potential: PQEq) -> None:
    batch = batch_of(*example_crystals()[:3])
    moving = batch.positions.clone().requires_grad_(), batch.cells.clone().requires_grad_()
    slopes = []
    for kept in (True, False):
        total = torch.zeros(())
        for _, terms, charges in potential.terms(batch.moved(*moving)):
            found = equilibrate(terms, charges)
            assert found.at_atoms is not None
            total = total + energy(terms, found.charges, found.shells, found.at_atoms if kept else None).sum()
        slopes.append(torch.autograd.grad(total, moving))
    for one, two in zip(*slopes, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-10)


def test_supercells_and_company_do_not_matter_to_charges_and_shells(potential: PQEq) -> None:
    structure = example_crystals()[2]
    alone = potential.equilibrium(batch_of(structure))
    company = potential.equilibrium(batch_of(example_crystals()[0], structure * (2, 1, 3), structure))
    np.testing.assert_allclose(company.charges[-2:], alone.charges, atol=1e-10)
    np.testing.assert_allclose(company.charges[8:-2], np.repeat(alone.charges.numpy(), 6), atol=1e-9)
    np.testing.assert_allclose(company.shells[-2:], alone.shells, atol=1e-10)


def test_rotation_turns_shells_along(potential: PQEq) -> None:
    structure = example_crystals()[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))  # may be improper: shells follow
    turned = Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)
    one, two = potential.equilibrium(batch_of(structure)), potential.equilibrium(batch_of(turned))
    np.testing.assert_allclose(two.shells, one.shells.numpy() @ rotation.T, atol=1e-10)
    np.testing.assert_allclose(two.charges, one.charges, atol=1e-10)


def test_total_charges_are_kept_and_pull_on_the_energy(potential: PQEq) -> None:
    structure = example_crystals()[1]
    batch = batch_of(structure, structure, structure)
    totals = torch.tensor([0.999, 1.0, 1.001], dtype=torch.float64)
    found = potential.equilibrium(batch, Conditions(total_charges=totals)).require()
    np.testing.assert_allclose(batch.per_system(found.charges), totals, atol=1e-12)
    # dE/dQ is the common chemical potential: the slope at one more electron's charge on any one atom, all else fixed.
    slope = float(found.energies[2] - found.energies[0]) / 0.002
    charges, shells = found.charges[4:8].numpy(), found.shells[4:8].numpy()
    for atom in range(4):
        step = 1e-4 * np.eye(4)[atom]
        ends = [brute_force_energy(structure, charges + sign * step, shells) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(slope, abs=1e-6)


def test_forces_and_stress_of_charged_crystals_in_a_field_are_slopes(potential: PQEq) -> None:
    structure = example_crystals()[1]
    conditions = Conditions(
        total_charges=torch.tensor([0.7], dtype=torch.float64), field=torch.tensor([0.1, -0.2, 0.3])
    )
    batch = batch_of(structure)
    prediction = potential.evaluate_under(batch, conditions)

    def energy(positions: torch.Tensor, cells: torch.Tensor) -> float:
        return float(potential.equilibrium(batch.moved(positions, cells), conditions).energies[0])

    h = 1e-4
    for axis in range(3):
        step = torch.zeros_like(batch.positions)
        step[1, axis] = h
        slope = (energy(batch.positions + step, batch.cells) - energy(batch.positions - step, batch.cells)) / (2 * h)
        assert float(prediction.forces[1, axis]) == pytest.approx(-slope, abs=1e-6)
    for row, column in ((0, 0), (1, 2)):
        strain = torch.zeros((3, 3), dtype=torch.float64)
        strain[row, column] = strain[column, row] = h if row == column else h / 2
        ends = [
            energy(batch.positions @ deformation, batch.cells @ deformation)
            for deformation in (torch.eye(3, dtype=torch.float64) + sign * strain for sign in (1, -1))
        ]
        slope = (ends[0] - ends[1]) / (2 * h) / structure.volume
        assert float(prediction.stresses[0, row, column]) == pytest.approx(slope, abs=1e-6)


def test_a_field_polarizes_shells_as_its_energy_says(potential: PQEq) -> None:
    batch = batch_of(example_crystals()[1])
    h = 1e-3
    found = potential.equilibrium(batch, Conditions(field=torch.tensor([0.0, 0.0, 0.2])))
    ends = [
        potential.equilibrium(batch, Conditions(field=torch.tensor([0.0, 0.0, 0.2 + sign * h], dtype=torch.float64)))
        for sign in (1, -1)
    ]
    # dE/dF = -dipole of the shells
    slope = float(ends[0].energies - ends[1].energies) / (2 * h)
    assert -slope == pytest.approx(float(found.dipoles[:, 2].sum()), abs=1e-6)


def slab(gap: float) -> Structure:
    layers = Structure(
        Lattice.orthorhombic(3.0, 3.0, 6.3 + gap),
        ["Mg", "O", "O", "Mg", "Mg", "O"],
        [[0, 0, 0], [1.5, 1.5, 0.1], [0, 0, 2.1], [1.5, 1.5, 2.2], [0, 0, 4.3], [1.5, 1.5, 4.25]],
        coords_are_cartesian=True,
    )
    layers.translate_sites(range(6), [0, 0, 0.8], to_unit_cell=True)  # across the border of the cell
    return layers


def test_a_slab_in_a_field_moves_charge_and_its_forces_are_slopes(potential: PQEq) -> None:
    structure = slab(12.0)
    field = torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    conditions = Conditions(field=field, slab_axis=2)
    batch = batch_of(structure)
    found, without = potential.equilibrium(batch, conditions).require(), potential.equilibrium(batch)
    unwrapped = batch.positions[:, 2] + torch.where(batch.positions[:, 2] < 8, float(structure.lattice.c), 0.0)

    def dipole(one) -> float:
        return float((one.charges * unwrapped).sum() + one.dipoles[:, 2].sum())

    shells_alone = potential.equilibrium(batch, Conditions(field=field))
    assert dipole(found) > 1.2 * dipole(shells_alone) > 0.1 > abs(dipole(without))
    h = 1e-3
    ends = [
        float(potential.equilibrium(batch, replace(conditions, field=field + torch.tensor([0, 0, sign * h]))).energies)
        for sign in (1, -1)
    ]
    assert -(ends[0] - ends[1]) / (2 * h) == pytest.approx(dipole(found), abs=1e-6)
    forces = potential.evaluate_under(batch, conditions).forces
    step = torch.zeros_like(batch.positions)
    step[1, 2] = 1e-4
    ends = [
        float(potential.equilibrium(batch.moved(batch.positions + sign * step, batch.cells), conditions).energies)
        for sign in (1, -1)
    ]
    assert float(forces[1, 2]) == pytest.approx(-(ends[0] - ends[1]) / 2e-4, abs=1e-6)
    with pytest.raises(PotentialError, match="needs 5 Å of vacuum"):
        potential.equilibrium(batch_of(slab(0.0)), conditions)
    with pytest.raises(PotentialError, match="normal to its plane"):
        potential.equilibrium(batch, replace(conditions, field=torch.tensor([0.1, 0.0, 0.3])))


def test_parameters_are_learned_through_the_solution() -> None:
    published = PQEqParameters.published("pqeq")
    structures = [example_crystals()[1], example_crystals()[2]]
    batch = batch_of(*structures)

    def loss(parameters: PQEqParameters) -> torch.Tensor:
        model = PQEq("learned", parameters)
        positions = batch.positions.clone().requires_grad_()
        with torch.enable_grad():
            found = model.equilibrium(batch.moved(positions, batch.cells), attached=True)
            (slope,) = torch.autograd.grad(found.energies.sum(), positions, create_graph=True)
        weights = torch.linspace(-1, 2, batch.n_atoms, dtype=torch.float64)
        return (slope.square().sum(1) * weights).sum() + (found.charges * weights).sum() + found.shells[1].sum() * 5

    names = ("chi", "eta", "radius", "spring")
    free = {name: getattr(published, name).clone().requires_grad_() for name in names}
    slopes = torch.autograd.grad(loss(replace(published, **free)), list(free.values()))
    for name, slope in zip(names, slopes, strict=True):
        for number in (8, 26):
            h = 1e-4 * float(getattr(published, name)[number])
            ends = []
            for sign in (1, -1):
                changed = getattr(published, name).clone()
                changed[number] += sign * h
                ends.append(loss(replace(published, **{name: changed})).item())
            assert float(slope[number]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6), name


def test_curvature_of_the_energy_comes_from_attached_charges(potential: PQEq) -> None:
    batch = batch_of(example_crystals()[2])
    positions = batch.positions.clone().requires_grad_()
    with torch.enable_grad():
        found = potential.equilibrium(batch.moved(positions, batch.cells), attached=True)
        (slope,) = torch.autograd.grad(found.energies.sum(), positions, create_graph=True)
        (row,) = torch.autograd.grad(slope[0, 1], positions)
    h = 1e-4
    step = torch.zeros_like(batch.positions)
    step[0, 1] = h
    ends = [potential.evaluate(batch.moved(batch.positions + sign * step, batch.cells)).forces for sign in (1, -1)]
    np.testing.assert_allclose(row, -(ends[0] - ends[1]) / (2 * h), atol=1e-6)


def test_a_catastrophe_is_named_and_spares_its_company(unstable: PQEq) -> None:
    good, bad = rocksalt(4.21, "Mg", "O", 0.005), rocksalt(5.64, "Na", "Cl", 0.005)
    alone = unstable.predict([good])[0]
    first, second, third = unstable.predict([good, bad, good])
    assert second.out_of_domain is not None and "polarization catastrophe" in second.out_of_domain
    assert math.isnan(second.energy) and np.isnan(second.forces).all()
    for one in (first, third):
        assert one.out_of_domain is None
        assert one.energy == pytest.approx(alone.energy, abs=1e-10)
        np.testing.assert_allclose(one.forces, alone.forces, atol=1e-10)
    found = unstable.equilibrium(batch_of(good, bad))
    assert list(found.failures) == [1]
    with pytest.raises(UnstableChargesError, match="crystal 1 of the batch: polarization catastrophe"):
        found.require()


def test_predictions_carry_charges(potential: PQEq) -> None:
    prediction = potential.predict([rocksalt(5.64, "Na", "Cl")])[0]
    assert prediction.charges is not None
    np.testing.assert_allclose(prediction.charges, [0.9114] * 4 + [-0.9114] * 4, atol=2e-4)
    assert prediction.energy == pytest.approx(-10.4286, abs=2e-3)
    np.testing.assert_allclose(prediction.forces, 0, atol=1e-9)


def perovskite(side: float, large: str, small: str) -> Structure:
    return Structure(Lattice.cubic(side), [large, small, *"OOO"], [[0] * 3, [0.5] * 3, *FCC[1:]])


def test_crystals_as_measured_have_charges(potential: PQEq) -> None:
    # Cells at room temperature, from the usual tables.
    salts = [("Na", "Cl", 5.640), ("K", "Cl", 6.293), ("K", "Br", 6.598), ("Rb", "I", 7.342), ("Mg", "O", 4.212)]
    crystals = [rocksalt(side, cation, anion) for cation, anion, side in [*salts, ("Li", "F", 4.026)]]
    fluorite = np.concatenate([FCC, FCC + 0.25, FCC + 0.75])
    rutile = [[0] * 3, [0.5] * 3, [0.305, 0.305, 0], [-0.305, -0.305, 0], [0.805, 0.195, 0.5], [0.195, 0.805, 0.5]]
    corundum = [[0, 0, 0.352], [0.306, 0, 0.25]]
    crystals += [
        Structure(Lattice.cubic(4.123), ["Cs", "Cl"], [[0] * 3, [0.5] * 3]),
        Structure(Lattice.cubic(5.463), ["Ca"] * 4 + ["F"] * 8, fluorite),
        Structure(Lattice.tetragonal(4.594, 2.959), ["Ti"] * 2 + ["O"] * 4, rutile),
        perovskite(4.000, "Ba", "Ti"),
        perovskite(3.905, "Sr", "Ti"),
        Structure.from_spacegroup(167, Lattice.hexagonal(4.759, 12.991), ["Al", "O"], corundum),
        Structure(Lattice.cubic(3.615), ["Cu"] * 4, FCC),
        Structure(Lattice.cubic(5.328), ["K"] * 2, [[0] * 3, [0.5] * 3]),
    ]
    assert len(crystals) == 14
    # In supercells shells may move against each other.
    crystals += [one * 2 for one in crystals if len(one) <= 5] + [crystals[1] * (1, 1, 2)]
    found = potential.equilibrium(batch_of(*crystals))
    assert found.failures == {}
    assert torch.isfinite(found.energies).all()


def test_a_lone_atom_keeps_its_charge(potential: PQEq) -> None:
    metal = Structure(Lattice.cubic(3.6), ["Cu"] * 4, FCC)
    prediction = potential.predict([metal])[0]
    assert prediction.energy == pytest.approx(0, abs=1e-10)
    np.testing.assert_allclose(prediction.charges, 0, atol=1e-12)


@pytest.mark.parametrize("symbol", ["K", "Fr", "Cu", "H"])
def test_a_metal_so_wide_that_no_wave_reaches_it(potential: PQEq, symbol: str) -> None:
    # One atom in a cell so small that all waves of its Gaussian lie beyond the cutoff.
    metal = Structure(Lattice(1.9 * (1 - 2 * np.eye(3)) / 2), [symbol], [[0.1, 0.2, 0.3]])
    found = shell_response(potential, batch_of(metal)), potential.evaluate(batch_of(metal))
    assert float(found[1].energies) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found[1].forces, 0, atol=1e-9)
    assert torch.isfinite(found[1].stresses).all() and torch.isfinite(found[0].dielectric).all()


def test_parameters_of_103_elements_and_what_is_published_of_them() -> None:
    published = PQEqParameters.published("pqeq")
    assert len(published.symbols) == 103
    assert published.soft() == []
    oxygen = [float(getattr(published, name)[8]) for name in ("chi", "eta", "radius", "spring", "shell")]
    assert oxygen == pytest.approx([8.30811, 14.66128, 0.669, 414.04451 * KCAL_PER_MOL, 1.0])
    assert float(published.shell[103]) == 0, "Lr has no shell"
    with pytest.raises(PotentialError, match="unknown PQEq parameters 'none'; known: pqeq,"):
        PQEqParameters.published("none")


def test_a_soft_element_is_named_at_load() -> None:
    with pytest.warns(HardnessWarning, match="hardness of H does not exceed"):
        generic = load_potential("pqeq-generic", "cpu")
    hydride = rocksalt(4.08, "Li", "H", 0.005)
    assert generic.predict([hydride])[0].out_of_domain is None  # its own matrix is positive all the same
    assert load_potential("pqeq-refitted", "cpu").parameters.soft() == []


def test_an_element_without_shell_takes_part(potential: PQEq) -> None:
    found = potential.equilibrium(batch_of(rocksalt(5.2, "Lr", "N", 0.01))).require()
    assert (found.shells[:4] == 0).all()
    assert (found.charges[:4] > 0.1).all()


def test_far_atoms_keep_fractional_charges(potential: PQEq) -> None:
    # A limit of the model, not of the code: charge flows at any distance. Na and Cl alone would keep 0.395 e; here
    # they lie so far apart that they are points on the lattice of CsCl.
    far = Structure(Lattice.cubic(25.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    chi, eta = potential.parameters.chi, potential.parameters.eta
    difference, hardness = float(chi[17] - chi[11]), float(eta[11] + eta[17])
    assert difference / hardness == pytest.approx(0.395, abs=5e-4)
    attraction = 2 * 1.76267477307099 * COULOMB / (25 * math.sqrt(0.75))
    charges = potential.equilibrium(batch_of(far)).require().charges
    np.testing.assert_allclose(charges, np.array([1, -1]) * difference / (hardness - attraction), atol=1e-6)
