from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from matsearch.crystal.group_symbols import space_group_number, standard_symbol
from matsearch.crystal.tokens import TextError
from matsearch.crystal.wyckoff_positions import wyckoff_positions
from matsearch.crystal.wyckoff_text import from_wyckoff_text, to_wyckoff_text

RUTILE = """space group 136 P4_2/mnm
a = 4.5937
c = 2.9587
Ti 2a
O 4f x=0.3053
"""
TIGHT = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5, scale=False)


def crystal(symbol: str, lattice: Lattice, **sites: list[float]) -> Structure:
    return Structure.from_spacegroup(symbol, lattice, list(sites), list(sites.values()))


CRYSTALS = {
    "Fm-3m": crystal("Fm-3m", Lattice.cubic(5.64), Na=[0, 0, 0], Cl=[0.5, 0.5, 0.5]),
    "P4_2/mnm": crystal("P4_2/mnm", Lattice.tetragonal(4.5937, 2.9587), Ti=[0, 0, 0], O=[0.3053, 0.3053, 0]),
    "P6_3mc": crystal("P6_3mc", Lattice.hexagonal(3.25, 5.2), Zn=[1 / 3, 2 / 3, 0], O=[1 / 3, 2 / 3, 0.3817]),
    "R-3m": crystal("R-3m", Lattice.hexagonal(4.38, 30.5), Bi=[0, 0, 0.4], Te=[0, 0, 0], Se=[0, 0, 0.2097]),
    "P2_1/c": crystal(
        "P2_1/c", Lattice.monoclinic(5.15, 5.21, 5.32, 99.2), Zr=[0.276, 0.041, 0.208], O=[0.07, 0.33, 0.345]
    ),
    "Fd-3m": Structure.from_prototype("diamond", ["C"], a=3.567),
    "P1": Structure(
        Lattice.from_parameters(4.1, 5.2, 6.3, 71, 83, 105), ["Ti", "O", "Li"], [[0.1, 0.2, 0.3], [0.6] * 3, [0.35] * 3]
    ),
}


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_a_crystal_comes_back_with_its_space_group(symbol):
    text = to_wyckoff_text(CRYSTALS[symbol])
    assert text.splitlines()[0].split()[3] == symbol
    assert TIGHT.fit(from_wyckoff_text(text), CRYSTALS[symbol])
    assert to_wyckoff_text(from_wyckoff_text(text)).splitlines()[0] == text.splitlines()[0]


def test_what_is_written_is_short_and_in_the_standard_setting():
    assert to_wyckoff_text(CRYSTALS["P4_2/mnm"]) == RUTILE
    assert to_wyckoff_text(CRYSTALS["Fm-3m"] * (2, 1, 1)) == "space group 225 Fm-3m\na = 5.6400\nNa 4a\nCl 4b\n"


def test_what_is_read_is_the_primitive_cell():
    assert len(from_wyckoff_text("space group 225\na = 5.64\nNa 4a\nCl 4b")) == 2


@pytest.mark.parametrize("number", [5, 15, 47, 62, 70, 139, 146, 167, 194, 206, 216, 227, 230])
def test_every_position_of_a_group_is_read_with_its_multiplicity(number):
    group = wyckoff_positions(number)
    cell = (
        "a = 7.1\nb = 8.3\nc = 9.7\nbeta = 101"
        if number < 16
        else "a = 7.1\nb = 8.3\nc = 9.7"
        if number < 75
        else "a = 7"
    )
    cell = "a = 7\nc = 9" if 75 <= number < 195 else cell
    for position in group.values():
        free = " ".join(
            f"{'xyz'[axis]}={value}" for axis, value in zip(position.free, (0.137, 0.219, 0.091), strict=False)
        )
        found = from_wyckoff_text(f"space group {number}\n{cell}\nCs {position.multiplicity}{position.letter} {free}")
        assert len(found) == position.primitive_multiplicity


SPELLINGS = {
    "number alone": RUTILE.replace(" P4_2/mnm", ""),
    "symbol alone": RUTILE.replace("136 ", ""),
    "symbol before the number": RUTILE.replace("136 P4_2/mnm", "P4_2/mnm (No. 136)"),
    "full symbol with blanks": RUTILE.replace("136 P4_2/mnm", "P 4_2/m 2_1/n 2/m"),
    "colon": RUTILE.replace("space group ", "Space group: "),
    "key": RUTILE.replace("space group ", "space_group: "),
    "abbreviation": RUTILE.replace("space group ", "SG "),
    "words beside the number": RUTILE.replace("136 P4_2/mnm", "136, rutile type"),
    "no subscripts": RUTILE.replace("P4_2/mnm", "P42/mnm"),
    "LaTeX": RUTILE.replace("P4_2/mnm", "$P4_{2}/mnm$"),
    "all six parameters": RUTILE.replace("c = ", "b = 4.5937\nc = ") + "alpha = 90\nbeta = 90\ngamma = 90\n",
    "parameters on one line": RUTILE.replace("\nc", ", c").replace("a = ", "Lattice parameters: a = "),
    "units": RUTILE.replace("4.5937", "4.5937 Å").replace("2.9587", "2.9587 Angstrom"),
    "equal axes": RUTILE.replace("a = ", "a = b = ") + "α = β = γ = 90°\n",
    "uncertainties": RUTILE.replace("4.5937", "4.5937(2)").replace("0.3053", "0.3053(1)"),
    "all coordinates named": RUTILE.replace("x=0.3053", "x=0.3053 y=0.3053 z=0").replace("2a", "2a x=0 y=0 z=0"),
    "all coordinates in a row": RUTILE.replace("x=0.3053", "(0.3053, 0.3053, 0)").replace("2a", "2a (0, 0, 0)"),
    "another atom of the orbit": RUTILE.replace("x=0.3053", "0.8053 0.1947 1/2"),
    "another cell": RUTILE.replace("x=0.3053", "-0.6947 1.3053 5"),
    "coordinate without its name": RUTILE.replace("x=", ""),
    "commas": RUTILE.replace("Ti 2a", "Ti, 2a").replace("O 4f x", "O: 4f, x"),
    "words": RUTILE.replace("Ti 2a", "Ti at Wyckoff position 2a").replace("O 4f", "O on 4f"),
    "labels and charges": RUTILE.replace("Ti 2a", "Ti1 2a").replace("O 4f", "O2- 4f"),
    "bullets": "".join(f"- {line}\n" for line in RUTILE.splitlines()),
    "bold": RUTILE.replace("space group", "**Space group:**"),
    "comments": RUTILE.replace("2a", "2a  # the corner and the middle"),
    "remarks": RUTILE.replace("Ti 2a", "Ti 2a (corners)").replace("0.3053", "0.3053 - planar"),
    "volume and number of formula units": RUTILE.replace("Ti 2a", "V = 62.4\nZ = 2\nTi 2a"),
    "all six parameters in a row": RUTILE.replace("a = 4.5937\nc = 2.9587", "lattice: 4.5937 4.5937 2.9587 90 90 90"),
    "one line": RUTILE.replace("\n", "; "),
    "no equals sign": RUTILE.replace("x=", "x "),
    "words beside the symbol": RUTILE.replace("P4_2/mnm", "P4_2/mnm (tetragonal)"),
    "headings": RUTILE.replace("a =", "Lattice parameters:\na =").replace("Ti", "Orbits:\nTi"),
    "blank lines": RUTILE.replace("\n", "\n\n"),
    "table": "Space group: 136\na = 4.5937\nc = 2.9587\n\n| Element | Wyckoff | x | y | z |\n|:--|---|---|---|---|\n"
    "| Ti | 2a | - | - | - |\n| O | 4f | 0.3053 | 0.3053 | 0 |\n",
    "Windows line ends": RUTILE.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_ways_to_write_one_crystal(text):
    found = from_wyckoff_text(text)
    assert found.formula == "Ti2 O4"
    assert TIGHT.fit(found, CRYSTALS["P4_2/mnm"])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("136 ", "137 ", "bad_wyckoff"),
        ("136 P4_2/mnm", "0", "bad_wyckoff"),
        ("136 P4_2/mnm", "231", "bad_wyckoff"),
        ("136 P4_2/mnm", "P2_1/n", "bad_wyckoff"),
        ("136 P4_2/mnm", "136 (Pnma)", "bad_wyckoff"),
        ("136 P4_2/mnm", "62 (Pbnm)", "bad_wyckoff"),
        ("136 P4_2/mnm", "137 P4_2/mnm, rutile type", "bad_wyckoff"),
        ("136 P4_2/mnm", "136 P4_2/mnm, origin choice 1", "bad_wyckoff"),
        ("136 P4_2/mnm", "136 P4_2/mnm (non-standard setting)", "bad_wyckoff"),
        ("136 P4_2/mnm", "14 P2_1/n", "bad_wyckoff"),
        ("a = 4.5937\n", "", "bad_wyckoff"),
        ("a = 4.5937\n", "a = 4.5937\na = 4.6\n", "bad_wyckoff"),
        ("a = 4.5937\n", "a = 4.5937\nb = 4.6\n", "bad_wyckoff"),
        ("a = 4.5937\n", "a = 4.5937\ngamma = 120\n", "bad_wyckoff"),
        ("a = 4.5937\n", "a = -4.5937\n", "bad_wyckoff"),
        ("a = 4.5937\n", "a = nan\n", "not_finite"),
        ("a = 4.5937\n", "a = 4.59.37\n", "bad_wyckoff"),
        ("a = 4.5937\n", "a = about 4.6\n", "bad_wyckoff"),
        ("Ti 2a", "Ti 4a", "count_mismatch"),
        ("Ti 2a", "Ti 1a", "count_mismatch"),
        ("Ti 2a", "Ti 2z", "bad_wyckoff"),
        ("Ti 2a", "Ti a", "bad_wyckoff"),
        ("Ti 2a", "Ti", "bad_wyckoff"),
        ("Ti 2a", "Tx 2a", "unknown_element"),
        ("Ti 2a", "Ti 2a\nZr 2a", "bad_wyckoff"),
        ("Ti 2a", "Ti 2a x=0.1", "bad_wyckoff"),
        ("Ti 2a", "Ti 2a 0.5 0.5 0", "bad_wyckoff"),
        ("x=0.3053", "", "bad_wyckoff"),
        ("x=0.3053", "y=0.3053", "bad_wyckoff"),
        ("x=0.3053", "x=0.3053 y=0.2", "bad_wyckoff"),
        ("x=0.3053", "x=0.3053 x=0.3053", "bad_wyckoff"),
        ("x=0.3053", "0.3053 0.3", "bad_wyckoff"),
        ("x=0.3053", "0.3053 0.2 0", "bad_wyckoff"),
        ("x=0.3053", "0.3053 0.3053 0 0", "bad_wyckoff"),
        ("x=0.3053", "x=u", "bad_wyckoff"),
        ("x=0.3053", "x=inf", "not_finite"),
        ("x=0.3053", "x=0", "bad_wyckoff"),
        ("x=0.3053", "x=0.5", "bad_wyckoff"),
        ("Ti 2a\nO 4f x=0.3053\n", "", "truncated"),
        ("space group 136 P4_2/mnm\n", "", "bad_wyckoff"),
        ("O 4f", "and then\nO 4f", "bad_wyckoff"),
        ("space group 136 P4_2/mnm\n", "space group 136\nspace group 137\n", "bad_wyckoff"),
    ],
)
def test_a_text_that_contradicts_itself_is_refused(old, new, reason):
    assert old in RUTILE
    with pytest.raises(TextError) as error:
        from_wyckoff_text(RUTILE.replace(old, new, 1))
    assert error.value.reason == reason
    assert error.value.detail


def test_symmetry_that_is_nearly_there_is_made_exact():
    rattled = CRYSTALS["P4_2/mnm"].copy()
    rattled.perturb(0.002, seed=1)
    assert to_wyckoff_text(rattled).startswith("space group 136 ")
    rattled.perturb(0.1, seed=1)
    assert to_wyckoff_text(rattled).startswith("space group 1 ")


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]), "disordered"),
        (Structure(Lattice.tetragonal(0.1, 1000), ["Fe"], [[0, 0, 0]]), "bad_wyckoff"),
        (Structure(Lattice.cubic(3), ["Fe", "Fe"], [[0, 0, 0], [0, 0, 0]]), "bad_wyckoff"),
    ],
)
def test_what_cannot_be_written_is_refused(structure, reason):
    with pytest.raises(TextError) as error:
        to_wyckoff_text(structure)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("symbol", "number"),
    [
        ("Fm-3m", 225),
        ("F m -3 m", 225),
        ("Fm3m", 225),
        ("$Fm\\bar{3}m$", 225),
        ("Fm3\u0304m", 225),
        ("P6\u2083/mmc", 194),
        ("P 1 21/c 1", 14),
        ("Cmca", 64),
        ("R-3m:H", 166),
        ("Fd-3m:2", 227),
        ("R-3m:R", None),
        ("Fd-3m:1", None),
        ("Pbnm", None),
        ("P2_1/n", None),
        ("cubic", None),
    ],
)
def test_symbols_of_space_groups(symbol, number):
    assert space_group_number(symbol) == number


def test_every_group_is_known_by_its_own_symbol():
    assert [space_group_number(standard_symbol(number)) for number in range(1, 231)] == list(range(1, 231))


def test_coordinates_are_kept_to_four_decimals():
    for value in np.random.default_rng(0).uniform(0.02, 0.23, 5):
        crystal = from_wyckoff_text(RUTILE.replace("0.3053", f"{value:.6f}"))
        assert to_wyckoff_text(crystal).endswith(f"O 4f x={value:.4f}\n")
