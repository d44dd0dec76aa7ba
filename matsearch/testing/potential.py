"""What every potential has to hold: subclass `PotentialContract` in a test file, give it a fixture `potential`.

```python
# test_my_potential.py
import pytest
from matsearch.potential import load_potential
from matsearch.testing.potential import PotentialContract

class TestMyPotential(PotentialContract):
    @pytest.fixture
    def potential(self):
        return load_potential("my_package.potential:make", "cpu")

    @pytest.fixture
    def crystals(self):             # only where the elements of `example_crystals` (Li O Na Mg Al Cl Fe) are unknown
        return [one.copy() for one in MY_CRYSTALS]
```
"""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import Potential

OF_ATOMS = ("magmoms", "charges", "atom_energies", "features")
"""What a prediction may say of each atom."""


class PotentialContract:
    """Checks of a potential against its own energies and the symmetries of nature.

    They are strict, and for that need energies in double precision. A potential in single precision may offer a copy of
    itself that computes in double, `double()`; give that as the fixture.

    Attributes:
        step: Å, of the central differences; the strain is a tenth of its number. The default suits double precision.
            An energy in single precision is good to about 1e-6 of itself, some 1e-5 eV here, so that it needs 0.01 Å
            and leaves 5e-4 eV/Å of noise: loosen the tolerances with it, or check a double-precision copy.
        force_tol: eV/Å, between forces and central differences.
        stress_tol: eV/Å^3, between stresses and central differences.
        energy_tol: eV/atom, between energies that have to be equal.
        atom_tol: Relative and absolute, between other numbers of an atom (moments, charges, energies, features) that
            have to be equal.
    """

    step = 1e-4
    force_tol = 1e-5
    stress_tol = 1e-6
    energy_tol = 1e-9
    atom_tol = 1e-6

    @pytest.fixture
    def crystals(self) -> list[Structure]:
        """Cells of all kinds; override it where the potential does not know these elements."""
        return example_crystals()

    def test_declares_what_it_is(self, potential: Potential) -> None:
        assert potential.name
        assert potential.energy_scale
        assert potential.elements

    def test_batch_equals_singles_in_order(self, potential: Potential, crystals: list[Structure]) -> None:
        together = potential.predict(crystals)
        for structure, prediction in zip(crystals, together, strict=True):
            alone = potential.predict([structure])[0]
            assert prediction.energy == pytest.approx(alone.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(prediction.forces, alone.forces, atol=self.force_tol / 10)
            np.testing.assert_allclose(prediction.stress, alone.stress, atol=self.stress_tol / 10)
            for name in OF_ATOMS:
                self._same_of_atoms(getattr(prediction, name), getattr(alone, name), name)

    def test_a_flat_batch_says_what_the_list_does(self, potential: Potential, crystals: list[Structure]) -> None:
        from matsearch.potential.batch import CrystalBatch, spread

        batch = CrystalBatch.from_structures(crystals, potential.device)
        for flat, listed in zip(spread(batch, potential.evaluate(batch)), potential.predict(crystals), strict=True):
            assert flat.energy == pytest.approx(listed.energy, abs=self.energy_tol * len(listed.forces))
            np.testing.assert_allclose(flat.forces, listed.forces, atol=self.force_tol / 10)
            np.testing.assert_allclose(flat.stress, listed.stress, atol=self.stress_tol / 10)
            for name in OF_ATOMS:
                self._same_of_atoms(getattr(flat, name), getattr(listed, name), name)

    def test_an_empty_list_gives_an_empty_list(self, potential: Potential) -> None:
        assert potential.predict([]) == []

    def test_shapes_and_types(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure, prediction in zip(crystals, potential.predict(crystals), strict=True):
            assert isinstance(prediction.energy, float)
            assert prediction.forces.shape == (len(structure), 3)
            assert prediction.stress.shape == (3, 3)
            np.testing.assert_allclose(prediction.stress, prediction.stress.T, atol=self.stress_tol / 100)
            assert prediction.features is None or prediction.features.ndim == 2
            for name in OF_ATOMS:
                values = getattr(prediction, name)
                assert values is None or len(values) == len(structure), name
            for name in ("magmoms", "charges", "atom_energies"):
                values = getattr(prediction, name)
                assert values is None or values.shape == (len(structure),), name
            assert prediction.magmoms is None or np.all(prediction.magmoms >= 0)

    def test_energies_of_the_atoms_sum_to_the_energy(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure, prediction in zip(crystals, potential.predict(crystals), strict=True):
            if prediction.atom_energies is None:
                pytest.skip("gives no energies of atoms")
            assert prediction.atom_energies.sum() == pytest.approx(
                prediction.energy, abs=self.energy_tol * len(structure)
            )

    def test_structures_are_left_as_they_were(self, potential: Potential, crystals: list[Structure]) -> None:
        before = [structure.copy() for structure in crystals]
        potential.predict(crystals)
        for structure, copy in zip(crystals, before, strict=True):
            np.testing.assert_array_equal(structure.frac_coords, copy.frac_coords)
            np.testing.assert_array_equal(structure.lattice.matrix, copy.lattice.matrix)

    def test_forces_are_minus_the_slope_of_the_energy(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure in crystals:
            forces = potential.predict([structure])[0].forces
            for atom in (0, len(structure) - 1):
                moved = [_moved(structure, atom, axis, sign * self.step) for axis in range(3) for sign in (1, -1)]
                slopes = _central([one.energy for one in potential.predict(moved)], self.step)
                np.testing.assert_allclose(forces[atom], -slopes, atol=self.force_tol, err_msg=str(structure))

    def test_stress_is_the_slope_of_the_energy_with_strain(
        self, potential: Potential, crystals: list[Structure]
    ) -> None:
        strain_step = self.step / 10
        for structure in crystals:
            stress = potential.predict([structure])[0].stress
            for first, second in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
                strained = [_strained(structure, first, second, sign * strain_step) for sign in (1, -1)]
                slope = _central([one.energy for one in potential.predict(strained)], strain_step)[0]
                # Rounding of the energy, spread over a small cell and a small strain, is what limits this one.
                rounding = self.energy_tol * len(structure) / 2 / strain_step / structure.volume
                assert stress[first, second] == pytest.approx(
                    slope / structure.volume, abs=self.stress_tol + rounding
                ), f"{first}{second} of {structure}"

    def test_energy_is_extensive(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure in crystals:
            one, two = potential.predict([structure, structure * (2, 1, 1)])
            assert two.energy == pytest.approx(2 * one.energy, abs=2 * self.energy_tol * len(structure))
            np.testing.assert_allclose(two.stress, one.stress, atol=self.stress_tol / 10)
            np.testing.assert_allclose(two.forces, np.repeat(one.forces, 2, axis=0), atol=self.force_tol / 10)

    def test_order_of_the_atoms_does_not_matter(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure in crystals:
            order = np.random.default_rng(0).permutation(len(structure))
            shuffled = Structure(
                structure.lattice, [structure[index].specie for index in order], structure.frac_coords[order]
            )
            one, two = potential.predict([structure, shuffled])
            assert two.energy == pytest.approx(one.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(two.forces, one.forces[order], atol=self.force_tol / 10)
            for name in OF_ATOMS:
                values = getattr(one, name)
                self._same_of_atoms(getattr(two, name), None if values is None else values[order], name)

    def test_rotation_turns_forces_and_stress_along(self, potential: Potential, crystals: list[Structure]) -> None:
        rotation = _rotation()
        for structure in crystals:
            turned = Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)
            one, two = potential.predict([structure, turned])
            assert two.energy == pytest.approx(one.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(two.forces, one.forces @ rotation.T, atol=self.force_tol / 10)
            np.testing.assert_allclose(two.stress, rotation @ one.stress @ rotation.T, atol=self.stress_tol / 10)

    def test_translation_and_choice_of_image_do_not_matter(
        self, potential: Potential, crystals: list[Structure]
    ) -> None:
        for structure in crystals:
            coords = structure.frac_coords + np.array([0.31, -0.17, 0.53])
            coords[0] += [1, -2, 3]
            one, two = potential.predict([structure, Structure(structure.lattice, structure.species, coords)])
            assert two.energy == pytest.approx(one.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(two.forces, one.forces, atol=self.force_tol / 10)

    def test_choice_of_lattice_vectors_does_not_matter(self, potential: Potential, crystals: list[Structure]) -> None:
        # (a, b + a, c - 2b) spans the lattice of (a, b, c), too; it is so skewed that atoms are near across many cells.
        change = np.array([[1, 0, 0], [1, 1, 0], [0, -2, 1]])
        for structure in crystals:
            skewed = Structure(
                Lattice(change @ structure.lattice.matrix),
                structure.species,
                structure.cart_coords,
                coords_are_cartesian=True,
            )
            one, two = potential.predict([structure, skewed])
            assert two.energy == pytest.approx(one.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(two.forces, one.forces, atol=self.force_tol / 10)
            np.testing.assert_allclose(two.stress, one.stress, atol=self.stress_tol / 10)

    def test_handedness_of_the_cell_does_not_matter(self, potential: Potential, crystals: list[Structure]) -> None:
        for structure in crystals:
            # The same crystal described by (a, c, b) instead of (a, b, c).
            swap = [0, 2, 1]
            other = Structure(
                Lattice(structure.lattice.matrix[swap]), structure.species, structure.frac_coords[:, swap]
            )
            assert np.sign(np.linalg.det(other.lattice.matrix)) != np.sign(np.linalg.det(structure.lattice.matrix))
            one, two = potential.predict([structure, other])
            assert two.energy == pytest.approx(one.energy, abs=self.energy_tol * len(structure))
            np.testing.assert_allclose(two.forces, one.forces, atol=self.force_tol / 10)
            np.testing.assert_allclose(two.stress, one.stress, atol=self.stress_tol / 10)

    def test_refuses_untrained_elements_by_name(self, potential: Potential) -> None:
        everything = {element.symbol for element in Element if element.symbol not in {"D", "T"}}
        unknown = sorted(everything - potential.elements)
        if not unknown:
            pytest.skip("trained on every element")
        with pytest.raises(PotentialError, match=rf"{unknown[0]}\b"):
            potential.predict([Structure(Lattice.cubic(3), [unknown[0]], [[0, 0, 0]])])

    def test_refuses_what_it_cannot_know(self, potential: Potential, crystals: list[Structure]) -> None:
        first, second = sorted(potential.elements)[0], sorted(potential.elements)[-1]
        if first != second:
            with pytest.raises(PotentialError, match="disordered"):
                potential.predict([Structure(Lattice.cubic(3), [{first: 0.5, second: 0.5}], [[0, 0, 0]])])
        with pytest.raises(PotentialError, match="finite"):
            potential.predict([Structure(Lattice.cubic(3), [first], [[0, float("nan"), 0]])])
        with pytest.raises(TypeError, match="list"):
            potential.predict(crystals[0])

    def test_a_copy_in_double_precision_is_the_same_potential(
        self, potential: Potential, crystals: list[Structure]
    ) -> None:
        if not hasattr(potential, "double"):
            pytest.skip("offers no copy in double precision")
        before = potential.predict(crystals)
        double = potential.double()
        assert (double.name, double.energy_scale, double.elements) == (
            potential.name,
            potential.energy_scale,
            potential.elements,
        )
        for structure, one, two, three in zip(
            crystals, before, double.predict(crystals), potential.predict(crystals), strict=True
        ):
            # What single precision leaves of an energy, some 1e-6 of it, and of a force.
            assert two.energy == pytest.approx(one.energy, abs=1e-4 * len(structure))
            np.testing.assert_allclose(two.forces, one.forces, atol=1e-3)
            assert three.energy == one.energy, "making the copy changed the original"

    def _same_of_atoms(self, one: np.ndarray | None, two: np.ndarray | None, name: str) -> None:
        """Numbers of atoms that have to be equal, where there are any."""
        assert (one is None) == (two is None), name
        if one is not None and two is not None:
            np.testing.assert_allclose(one, two, rtol=self.atom_tol, atol=self.atom_tol, err_msg=name)


def example_crystals() -> list[Structure]:
    """Distorted cells: cubic, triclinic, left-handed, and of one atom."""
    sodium = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    rattling = np.random.default_rng(7).normal(scale=0.01, size=(8, 3))
    rattled = Structure(Lattice.cubic(5.6), ["Na"] * 4 + ["Cl"] * 4, np.concatenate([sodium, sodium + 0.5]) + rattling)
    triclinic = Structure(
        Lattice.from_parameters(4.1, 5.0, 5.6, 75, 82, 99),
        ["Li", "Fe", "O", "O"],
        [[0.02, 0.05, 0.0], [0.5, 0.48, 0.51], [0.52, 0.03, 0.47], [0.03, 0.51, 0.49]],
    )
    left_handed = Structure(
        Lattice([[0.1, 2.2, 2.1], [2.1, 2.1, 0.0], [2.1, -0.1, 2.2]]), ["Mg", "O"], [[0, 0, 0], [0.52, 0.49, 0.5]]
    )
    one_atom = Structure(Lattice([[0.0, 2.0, 2.1], [2.1, 0.1, 2.0], [2.0, 2.0, 0.0]]), ["Al"], [[0.1, 0.2, 0.3]])
    return [rattled, triclinic, left_handed, one_atom]


def _central(energies: list[float], step: float) -> np.ndarray:
    """Slopes from energies at +step, -step, +step, -step, ..."""
    pairs = np.array(energies).reshape(-1, 2)
    return (pairs[:, 0] - pairs[:, 1]) / (2 * step)


def _moved(structure: Structure, atom: int, axis: int, distance: float) -> Structure:
    positions = structure.cart_coords.copy()
    positions[atom, axis] += distance
    return Structure(structure.lattice, structure.species, positions, coords_are_cartesian=True)


def _strained(structure: Structure, first: int, second: int, amount: float) -> Structure:
    strain = np.eye(3)
    strain[first, second] += amount / 2
    strain[second, first] += amount / 2
    return Structure(Lattice(structure.lattice.matrix @ strain), structure.species, structure.frac_coords)


def _rotation() -> np.ndarray:
    """A proper rotation along no axis of any cell."""
    orthogonal, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return orthogonal * np.sign(np.linalg.det(orthogonal))
