"""D3 beside the package dftd3, its published figures, and what it does to crystals."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from generated_crystals import generated_crystals
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import ConfigError
from matsearch.potential import Potential, load_potential
from matsearch.potential.batch import CrystalBatch, spread
from matsearch.potential.longrange.d3_parameters import BOHR, FUNCTIONALS, HARTREE, Rational, Zero
from matsearch.potential.longrange.dispersion import D3, DFTD3, Cutoffs
from matsearch.potential.longrange.three_body import EVEN
from matsearch.testing.potential import PotentialContract, example_crystals

SHARP = Cutoffs(pairs=14.127, coordination=11.073, triples=7.031, sharp=True)  # none the distance of a shell
FCC = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def d3(name, cutoffs=None):
    functional, kind, *atm = name.split(",")
    return D3(functional, kind, torch.device("cpu"), three_body=bool(atm), cutoffs=cutoffs)


def molecular(lattice, centers, signs, arm, outer, inner):
    """Linear molecules along the diagonals of a cube, as in the crystals of CO2 and N2."""
    species, coords = [], []
    for center, sign in zip(centers, signs, strict=True):
        species += ([inner] if inner else []) + [outer] * 2
        coords += ([center] if inner else []) + [np.add(center, arm * side * np.array(sign)) for side in (1, -1)]
    return Structure(lattice, species, coords)


@cache
def crystals():
    """Layers, noble gases, molecules, metals, salts, a slab, and cells of all shapes."""
    hexagonal = Lattice.hexagonal
    diagonals = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    found = {
        "graphite": Structure(
            hexagonal(2.464, 6.711), ["C"] * 4, [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
        ),
        "graphene": Structure(hexagonal(2.464, 20.0), ["C"] * 2, [[0, 0, 0.5], [1 / 3, 2 / 3, 0.5]]),
        "MoS2": Structure.from_spacegroup(
            194, hexagonal(3.16, 12.29), ["Mo", "S"], [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]]
        ),
        "BN": Structure.from_spacegroup(
            194, hexagonal(2.504, 6.66), ["B", "N"], [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.75]]
        ),
        "PbI2": Structure.from_spacegroup(164, hexagonal(4.56, 6.98), ["Pb", "I"], [[0, 0, 0], [1 / 3, 2 / 3, 0.265]]),
        "CO2": molecular(Lattice.cubic(5.62), FCC, diagonals, 0.118, "O", "C"),
        "N2": molecular(Lattice.cubic(5.66), FCC, diagonals, 0.056, "N", None),
        "H2O": Structure(
            Lattice.from_parameters(4.5, 4.7, 5.1, 82, 95, 101),
            ["O", "H", "H"],
            [[0.1, 0.1, 0.1], [0.27, 0.19, 0.16], [0.04, 0.30, 0.08]],
        ),
        "Cs": Structure(Lattice.cubic(6.14), ["Cs"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "Fe": Structure(Lattice.cubic(2.87), ["Fe"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "Au": Structure(Lattice([[0, 2.04, 2.04], [2.04, 0, 2.04], [2.04, 2.04, 0]]), ["Au"], [[0, 0, 0]]),
        "CsI": Structure(Lattice.cubic(4.57), ["Cs", "I"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "BaTiO3": Structure.from_spacegroup(
            221, Lattice.cubic(4.0), ["Ba", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
        ),
        "UO2": Structure.from_spacegroup(225, Lattice.cubic(5.47), ["U", "O"], [[0, 0, 0], [0.25] * 3]),
    }
    for symbol, edge in (("Ne", 4.46), ("Ar", 5.31), ("Kr", 5.65), ("Xe", 6.13)):
        found[symbol] = Structure(Lattice.cubic(edge), [symbol] * 4, FCC)
    found |= dict(zip(("NaCl", "LiFeO2", "left-handed MgO", "Al"), example_crystals(), strict=True))
    return found


def from_dftd3(structure, name, cutoffs, periodic=True, ewald=False):
    """Energy, forces and stress of the package, in eV and Å."""
    interface = pytest.importorskip("dftd3.interface", reason="dftd3 comes with matsearch[test]")
    functional, kind, *atm = name.split(",")
    damping, s9 = FUNCTIONALS[functional][kind], 1.0 if atm else 0.0
    if isinstance(damping, Rational):
        parameters = interface.RationalDampingParam(s6=1.0, s8=damping.s8, a1=damping.a1, a2=damping.a2, s9=s9)
    else:
        parameters = interface.ZeroDampingParam(s6=1.0, s8=damping.s8, rs6=damping.rs6, rs8=1.0, s9=s9)
    # It searches images for atoms that lie in the cell.
    positions = structure.lattice.get_cartesian_coords(structure.frac_coords % 1)
    numbers = np.array([site.specie.Z for site in structure])
    box = (structure.lattice.matrix / BOHR, np.array([True] * 3)) if periodic else ()
    model = interface.DispersionModel(numbers, positions / BOHR, *box)
    model.set_realspace_cutoff(cutoffs.pairs / BOHR, cutoffs.triples / BOHR, cutoffs.coordination / BOHR)
    if ewald:
        model.set_ewald_summation()
    result = model.get_dispersion(parameters, grad=True)
    forces = -result["gradient"] * HARTREE / BOHR
    return result["energy"] * HARTREE, forces, result["virial"] * HARTREE / structure.volume


@pytest.mark.parametrize(
    "name", ["pbe,bj", "pbe,bj,atm", "pbe,zero", "pbe,zero,atm", "r2scan,bj", "r2scan,bj,atm", "scan,zero"]
)
def test_agrees_with_dftd3_at_equal_cutoffs(name):
    chosen = list(crystals().values()) + list(generated_crystals().values())[:6]
    for structure, prediction in zip(chosen, d3(name, SHARP).predict(chosen), strict=True):
        energy, forces, stress = from_dftd3(structure, name, SHARP)
        assert prediction.energy == pytest.approx(energy, abs=1e-8 * len(structure)), structure.formula
        np.testing.assert_allclose(prediction.forces, forces, atol=1e-8)
        np.testing.assert_allclose(prediction.stress, stress, atol=1e-9)


def test_dftd3_as_it_is_shipped_has_these_cutoffs():
    interface = pytest.importorskip("dftd3.interface", reason="dftd3 comes with matsearch[test]")
    xenon = Structure(Lattice([[0, 3.06, 3.07], [3.05, 0, 3.08], [3.09, 3.04, 0]]), ["Xe"], [[0, 0, 0]])
    model = interface.DispersionModel(
        np.array([54]), np.zeros((1, 3)), xenon.lattice.matrix / BOHR, np.array([True] * 3)
    )
    parameters = interface.RationalDampingParam(method="pbe", atm=True)
    energy = model.get_dispersion(parameters, grad=False)["energy"] * HARTREE
    assert D3("pbe", "bj", three_body=True, cutoffs=DFTD3).energies([xenon])[0] == pytest.approx(energy, abs=1e-8)


def test_cutoffs_beyond_the_pairs_are_refused():
    with pytest.raises(ValueError, match="numbers, 12"):
        Cutoffs(pairs=10.0, coordination=12.0, triples=5.0)
    with pytest.raises(ValueError, match=r"triangle, 11\.3"):
        Cutoffs(pairs=10.0, coordination=10.0, triples=8.0)


@pytest.mark.parametrize("name", ["pbe,bj,atm", "pbe,zero,atm"])
def test_molecules_in_a_large_box_are_those_of_dftd3_without_one(name):
    cutoffs = Cutoffs(pairs=13.0, coordination=13.0, triples=13.0, sharp=True)
    rng = np.random.default_rng(1)
    benzene = [
        [radius * math.cos(angle) + 15, radius * math.sin(angle) + 15, 15]
        for radius in (1.39, 2.48)
        for angle in np.arange(6) * math.pi / 3
    ]
    stacked = np.concatenate([benzene, np.add(benzene, [0.8, 0.3, 3.6])]) + rng.normal(scale=0.03, size=(24, 3))
    molecules = [
        Structure(Lattice.cubic(30), (["C"] * 6 + ["H"] * 6) * 2, stacked, coords_are_cartesian=True),
        Structure(Lattice.cubic(30), ["Xe", "Xe"], [[10, 10, 10], [14.5, 10, 10]], coords_are_cartesian=True),
    ]
    for molecule, prediction in zip(molecules, d3(name, cutoffs).predict(molecules), strict=True):
        energy, forces, _ = from_dftd3(molecule, name, cutoffs, periodic=False)
        assert prediction.energy == pytest.approx(energy, abs=1e-8)
        np.testing.assert_allclose(prediction.forces, forces, atol=1e-8)


def test_every_element_has_the_coefficients_of_dftd3():
    name = "pbe,zero,atm"
    cells = [
        Structure(Lattice.cubic(3.9), [Element.from_Z(number), "C"], [[0, 0, 0], [0.5, 0.52, 0.47]])
        for number in range(1, 95)
    ]
    for structure, prediction in zip(cells, d3(name, SHARP).predict(cells), strict=True):
        energy, forces, _ = from_dftd3(structure, name, SHARP)
        assert prediction.energy == pytest.approx(energy, abs=1e-7), structure.formula
        np.testing.assert_allclose(prediction.forces, forces, atol=1e-7)


@pytest.mark.parametrize(("functional", "kind"), [(name, kind) for name in FUNCTIONALS for kind in FUNCTIONALS[name]])
def test_every_functional_damps_as_in_dftd3(functional, kind):
    interface = pytest.importorskip("dftd3.interface", reason="dftd3 comes with matsearch[test]")
    make = interface.RationalDampingParam if kind == "bj" else interface.ZeroDampingParam
    structure = crystals()["BN"]
    numbers = np.array([site.specie.Z for site in structure])
    model = interface.DispersionModel(
        numbers, structure.cart_coords / BOHR, structure.lattice.matrix / BOHR, np.array([True] * 3)
    )
    model.set_realspace_cutoff(SHARP.pairs / BOHR, SHARP.triples / BOHR, SHARP.coordination / BOHR)
    energy = model.get_dispersion(make(method=functional, atm=True), grad=False)["energy"] * HARTREE
    assert d3(f"{functional},{kind},atm", SHARP).energies([structure])[0] == pytest.approx(energy, abs=1e-8)
    assert isinstance(FUNCTIONALS[functional][kind], Rational if kind == "bj" else Zero)


@pytest.mark.parametrize("name", ["pbe,bj", "pbe,zero"])
def test_what_is_cut_off_is_added(name):
    """Against dftd3's sum in reciprocal space, whose coordination numbers reach to 40 Bohr."""
    far = Cutoffs(pairs=60 * BOHR, coordination=40 * BOHR, triples=0.1)
    most = 24 if name == "pbe,bj" else 4
    chosen = [one for one in crystals().values() if len(one) <= most]
    deviations = []
    for structure, prediction in zip(chosen, d3(name).predict(chosen), strict=True):
        energy, forces, stress = from_dftd3(structure, name, far, ewald=True)
        deviations.append(abs(prediction.energy - energy) / len(structure))
        np.testing.assert_allclose(prediction.forces, forces, atol=2e-4)
        np.testing.assert_allclose(prediction.stress, stress, atol=2.5e-4)
    assert max(deviations) < 2e-4  # eV/atom
    assert np.mean(deviations) < 5e-5


def test_the_three_body_term_is_close_to_its_limit():
    chosen = [crystals()[name] for name in ("Au", "graphite", "Fe", "BaTiO3")]
    wide = Cutoffs(triples=10.0)
    for structure in chosen:
        near, far = (
            (d3("pbe,bj,atm", cutoffs).energies([structure])[0] - d3("pbe,bj", cutoffs).energies([structure])[0])
            / len(structure)
            for cutoffs in (None, wide)
        )
        assert near == pytest.approx(far, abs=2e-3)  # eV/atom; the term is 0.005 to 0.085


def test_the_even_medium_is_the_integral_that_it_says():
    """Triangles with their shortest side at the origin's corner; the other two corners by Gauss' rule."""
    nodes, weights = np.polynomial.legendre.leggauss(150)
    total = 0.0
    # In polar coordinates of the two sides at that corner the size integrates to 1/3.
    for low, high in ((0.0, math.atan(0.5)), (math.atan(0.5), math.pi / 4)):
        for angle, weight in zip(low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2, strict=True):
            short, long = math.sin(angle), math.cos(angle)
            most = min(1.0, long / (2 * short))
            cosines, parts = -1 + (most + 1) * (nodes + 1) / 2, weights * (most + 1) / 2
            x, y = short**2, long**2
            z = x + y - 2 * short * long * cosines
            angular = 1 + 0.375 * (x + y - z) * (x + z - y) * (y + z - x) / (x * y * z)
            total += weight * x * y * np.sum(parts * angular / (x * y * z) ** 1.5 * ((x + y + z) / 3) ** 1.5)
    integral = 3 * 8 * math.pi**2 / 3 * total / 6
    assert pytest.approx(integral, rel=1e-5) == EVEN


@pytest.mark.parametrize(
    # Dipole oscillator strengths: Kumar and Meath, Mol. Phys. 54, 823 (1985), in Hartree Bohr^6.
    ("symbol", "measured"),
    [("He", 1.46), ("Ne", 6.38), ("Ar", 64.30), ("Kr", 129.6), ("Xe", 285.9)],
)
def test_noble_gas_dimers_attract_by_the_measured_c6(symbol, measured):
    distance = 13.0
    dimer = Structure(Lattice.cubic(45), [symbol] * 2, [[0, 0, 0], [distance / 45, 0, 0]])
    # No damping and no eighth power: those of SCAN have none of the latter.
    energy = d3("scan,zero", Cutoffs(pairs=14.0, coordination=14.0, sharp=True)).energies([dimer])[0]
    assert -energy * distance**6 / HARTREE / BOHR**6 == pytest.approx(measured, rel=0.08)


def test_layers_of_graphite_attract_by_the_known_energy():
    """PBE alone leaves graphite next to unbound; with D3(BJ) it binds by about 50 meV/atom at 3.35 to 3.4 Å."""
    spacings = np.array([3.1, 3.35, 3.6, 12.0])
    layers = [
        Structure(
            Lattice.hexagonal(2.464, 2 * spacing),
            ["C"] * 4,
            [[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
        )
        for spacing in spacings
    ]
    energies = np.array(load_potential("d3(pbe,bj)", "cpu").energies(layers)) / 4
    assert np.all(np.diff(energies) > 0)
    assert -0.07 < energies[1] - energies[-1] < -0.045


def test_batch_equals_singles_to_rounding():
    chosen = [structure.copy().perturb(0.05) for structure in crystals().values()]
    potential = d3("pbe,bj,atm")
    batch = CrystalBatch.from_structures(chosen)
    for structure, one in zip(chosen, spread(batch, potential.evaluate(batch)), strict=True):
        alone = potential.evaluate(CrystalBatch.from_structures([structure]))
        assert one.energy == pytest.approx(float(alone.energies[0]), abs=1e-13)
        np.testing.assert_allclose(one.forces, alone.forces, atol=1e-14)
        np.testing.assert_allclose(one.stress, alone.stresses[0], atol=1e-15)


def test_slopes_of_one_crystal_can_be_weighted():
    """Each crystal's slope goes with its own energy, whatever the energies are multiplied by."""
    batch = CrystalBatch.from_structures(example_crystals())
    positions = batch.positions.clone().requires_grad_()
    potential = d3("pbe,bj,atm")
    energies = potential.forward(batch.moved(positions, batch.cells)).energies
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    (slopes,) = torch.autograd.grad((energies * weights).sum(), positions)
    expected = -potential.evaluate(batch).forces * weights[batch.system_idx, None]
    np.testing.assert_allclose(slopes, expected, atol=1e-12)


def test_an_atom_far_from_its_images_has_next_to_no_energy():
    lonely = Structure(Lattice.cubic(40), ["Ar"], [[0, 0, 0]])
    for name in ("pbe,bj", "pbe,bj,atm", "pbe,zero"):
        prediction = d3(name).predict([lonely])[0]
        assert -1e-6 < prediction.energy < 0
        np.testing.assert_allclose(prediction.forces, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d3", "takes a functional .*pbe.* and a damping"),
        ("d3(pbe)", "takes a functional"),
        ("d3(b97,bj)", "no functional 'b97'; known: .*pbe, .*r2scan"),
        ("d3(pbe,bjm)", "no damping 'bjm'; known: bj, zero"),
        ("d3(r2scan,zero)", "r2scan; known: bj$"),
        ("d3(pbe,bj,three)", "no term 'three'.*known: atm"),
        ("d3(pbe,bj", "brackets.*do not close"),
    ],
)
def test_what_it_does_not_know_it_names(name, message):
    with pytest.raises(ConfigError, match=message):
        load_potential(name, "cpu")


def test_names_are_written_in_one_way():
    assert load_potential("d3( PBE, BJ , atm )", "cpu").name == "d3(pbe,bj,atm)"


class TestD3Zero(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("d3(pbe,zero)", "cpu")


class TestD3WithThreeBodies(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("d3(r2scan,bj,atm)", "cpu")
