import moyopy
import numpy as np
import pytest

from matsearch.crystal.space_groups import space_group
from matsearch.crystal.wyckoff_positions import (
    LETTERS,
    derive_positions,
    wyckoff_letter,
    wyckoff_positions,
)

NUMBERS = range(1, 231)


def test_there_are_1731_positions_as_in_the_international_tables():
    assert sum(len(wyckoff_positions(number)) for number in NUMBERS) == 1731


# International Tables A: space group, number of letters, some multiplicities.
@pytest.mark.parametrize(
    ("number", "n_letters", "known"),
    [
        (1, 1, {"a": 1}),
        (2, 9, {"a": 1, "i": 2}),
        (14, 5, {"a": 2, "e": 4}),
        (47, 27, {"h": 1, "t": 2, "z": 4, "A": 8}),
        (62, 4, {"a": 4, "c": 4, "d": 8}),
        (136, 11, {"a": 2, "f": 4, "k": 16}),
        (166, 9, {"a": 3, "c": 6, "h": 18, "i": 36}),
        (194, 12, {"c": 2, "f": 4, "h": 6, "l": 24}),
        (225, 12, {"a": 4, "b": 4, "c": 8, "l": 192}),
        (227, 9, {"a": 8, "d": 16, "e": 32, "i": 192}),
    ],
)
def test_letters_and_multiplicities_are_those_of_the_international_tables(number, n_letters, known):
    positions = wyckoff_positions(number)
    assert "".join(positions) == LETTERS[:n_letters]
    assert {letter: positions[letter].multiplicity for letter in known} == known


@pytest.mark.parametrize("number", NUMBERS)
def test_orbit_of_every_position_has_the_stated_multiplicity(number):
    group, random = space_group(number), np.random.default_rng(number)
    for position in wyckoff_positions(number).values():
        for _ in range(2):
            orbit = group.orbit(position.point(random.random(len(position.free))))
            assert len(orbit) == position.multiplicity == position.primitive_multiplicity * len(group.centring)


@pytest.mark.parametrize("number", NUMBERS)
def test_general_position_is_last_and_free_in_all_directions(number):
    last = list(wyckoff_positions(number).values())[-1]
    assert last.free == (0, 1, 2)
    assert last.primitive_multiplicity == len(space_group(number).rotations)


@pytest.mark.parametrize("number", NUMBERS)
def test_letter_and_free_coordinates_are_found_again_from_any_atom_of_the_orbit(number):
    group, random = space_group(number), np.random.default_rng(number)
    for letter, position in wyckoff_positions(number).items():
        values = random.random(len(position.free))
        orbit = group.orbit(position.point(values))
        found, found_values = wyckoff_letter(number, orbit[random.integers(len(orbit))])
        assert found == letter
        away = orbit - position.point(found_values)
        assert np.abs(away - np.round(away)).max(axis=1).min() < 1e-6


@pytest.mark.parametrize("number", range(3, 231, 4))
def test_moyo_gives_the_same_letters(number):
    group, random = space_group(number), np.random.default_rng(number)
    letters = random.permutation(list(wyckoff_positions(number)))[:4]
    points = [wyckoff_positions(number)[letter] for letter in letters]
    orbits = [group.orbit(random.random(3)) for _ in range(3)]
    orbits += [group.orbit(position.point(random.random(len(position.free)))) for position in points]
    numbers = np.repeat(np.arange(len(orbits)) + 1, [len(orbit) for orbit in orbits])
    metric = np.diag([50.0, 80.0, 160.0]) + np.array([[0, 7, -9], [7, 0, -5], [-9, -5, 0]])
    metric = np.mean([rotation.T @ metric @ rotation for rotation in group.rotations], axis=0)
    cell = moyopy.Cell(np.linalg.cholesky(metric).tolist(), np.concatenate(orbits).tolist(), numbers.tolist())
    dataset = moyopy.MoyoDataset(cell, symprec=1e-3, setting=moyopy.Setting.standard())
    assert dataset.number == number
    named = [one.letter for one in dataset.normalizer_wyckoff_positions().wyckoffs]
    assert [wyckoff_letter(number, np.array(point))[0] for point in dataset.std_cell.positions] == named


@pytest.mark.parametrize("number", [1, 47, 82, 178, 216])
def test_table_is_what_the_derivation_gives(number):
    positions = wyckoff_positions(number).values()
    assert [f"{one.multiplicity}{one.letter} {one.coordinates}" for one in positions] == derive_positions(number)


def test_unknown_space_group_is_an_error():
    with pytest.raises(ValueError, match="1 to 230, got 231"):
        wyckoff_positions(231)
