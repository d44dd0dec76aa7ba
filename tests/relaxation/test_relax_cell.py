import numpy as np
import pytest
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pair_potentials import Morse
from scipy.linalg import expm, expm_frechet

from matsearch.potential.ase import PotentialCalculator, to_atoms
from matsearch.potential.batch import CrystalBatch
from matsearch.relaxation import cell, relax
from matsearch.relaxation.cell import CellFilter, exp_and_derivative
from matsearch.relaxation.optimizer import Fire
from matsearch.relaxation.rows import Rows
from matsearch.testing.potential import example_crystals


def test_exponential_and_its_derivative_equal_those_of_scipy():
    generator = np.random.default_rng(0)
    matrices, directions = generator.normal(scale=0.5, size=(2, 5, 3, 3))
    directions[0] *= 1000
    exponentials, derivatives = exp_and_derivative(torch.tensor(matrices), torch.tensor(directions))
    for one, direction, exponential, derivative in zip(matrices, directions, exponentials, derivatives, strict=True):
        np.testing.assert_allclose(exponential, expm(one), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(derivative, expm_frechet(one, direction, compute_expm=False), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("mode", "pressure_gpa"), [("free", 0.0), ("free", 10.0), ("fixed_volume", 0.0)])
def test_sixty_fire_steps_of_a_batch_are_those_of_ase_one_by_one(mode, pressure_gpa):
    potential, crystals = Morse(), example_crystals()
    filter = CellFilter.under(mode, pressure_gpa)
    batch = CrystalBatch.from_structures(crystals)
    rows = Rows.of(batch.sizes)
    coordinates, start_cells = cell.start(batch, rows), batch.cells
    optimizer = Fire()
    state = optimizer.start(rows)
    for _ in range(60):
        prediction = potential.evaluate(batch)
        forces = filter.forces(
            batch, rows, coordinates, start_cells, prediction.forces, prediction.stresses, batch.volumes
        )
        state, step = optimizer.step(state, forces, rows)
        coordinates = coordinates + step
        batch = filter.place(batch, rows, coordinates, start_cells)
    for structure, ours in zip(crystals, batch.structures(), strict=True):
        atoms = to_atoms(structure)
        atoms.calc = PotentialCalculator(potential)
        frechet = FrechetCellFilter(atoms, constant_volume=mode == "fixed_volume", scalar_pressure=filter.pressure)
        optimizer_ase = FIRE(frechet, logfile=None)
        for _ in range(60):
            optimizer_ase.step()
        np.testing.assert_allclose(ours.lattice.matrix, atoms.cell.array, atol=1e-10)
        np.testing.assert_allclose(ours.cart_coords, atoms.positions, atol=1e-10)


@pytest.mark.parametrize("mode", ["free", "fixed_volume"])
def test_generalised_forces_are_minus_the_slope_of_the_enthalpy(mode):
    potential, filter = Morse(), CellFilter.under(mode, 0.0 if mode == "fixed_volume" else 5.0)
    batch = CrystalBatch.from_structures(example_crystals()[:3])
    rows = Rows.of(batch.sizes)
    generator = torch.Generator().manual_seed(1)
    start = cell.start(batch, rows)
    coordinates = start + 0.1 * torch.randn(start.shape, generator=generator, dtype=start.dtype)
    direction = torch.randn(start.shape, generator=generator, dtype=start.dtype)
    if mode == "fixed_volume":  # along the cells whose volume stays
        atoms, cells = rows.unpack(direction)
        traces = torch.diagonal(cells, dim1=1, dim2=2).mean(1)
        direction = rows.pack(atoms, cells - torch.diag_embed(traces[:, None].expand(-1, 3)))

    def enthalpies(along):
        moved = filter.place(batch, rows, coordinates + along * direction, batch.cells)
        return potential.evaluate(moved).energies + filter.pressure * moved.volumes

    here = filter.place(batch, rows, coordinates, batch.cells)
    prediction = potential.evaluate(here)
    forces = filter.forces(here, rows, coordinates, batch.cells, prediction.forces, prediction.stresses, here.volumes)
    slopes = (enthalpies(1e-5) - enthalpies(-1e-5)) / 2e-5
    torch.testing.assert_close(-rows.dot(forces, direction), slopes, atol=1e-6, rtol=1e-6)


def test_the_residual_stress_is_what_the_mode_can_bring_to_zero():
    stress = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))[None]
    torch.testing.assert_close(
        CellFilter("free", -2.0).residual_stress(stress)[0].diagonal().tolist(), [-1.0, 0.0, 1.0]
    )
    torch.testing.assert_close(
        CellFilter("fixed_volume").residual_stress(stress)[0].diagonal().tolist(), [-1.0, 0.0, 1.0]
    )
    assert not CellFilter("fixed").residual_stress(stress).any()


def test_whole_relaxations_in_flight_take_the_steps_of_ase_and_end_where_it_does():
    crystals = example_crystals()
    for structure, ours in zip(crystals, relax(crystals, Morse(), force_tol=0.02), strict=True):
        atoms = to_atoms(structure)
        atoms.calc = PotentialCalculator(Morse())
        plain = FIRE(FrechetCellFilter(atoms), logfile=None)
        assert plain.run(fmax=0.02, steps=500)
        assert ours.n_steps == plain.nsteps
        np.testing.assert_allclose(ours.structure.lattice.matrix, atoms.cell.array, atol=1e-8)
        np.testing.assert_allclose(ours.structure.cart_coords, atoms.positions, atol=1e-8)
