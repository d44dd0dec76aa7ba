from __future__ import annotations

import json
import random
import re
import time

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.text import from_poscar, to_cif, to_json, to_short_json
from matsearch.crystal.wyckoff import to_compact
from matsearch.propose import parse_reply
from matsearch.propose.parse import MAX_CHARACTERS, MAX_CRYSTALS
from matsearch.records import Rejection, Stage

POSCAR = """Cs1 Cl1
1.0
4.1 0.0 0.0
0.0 4.1 0.0
0.0 0.0 4.1
Cs Cl
1 1
direct
0.0 0.0 0.0 Cs
0.5 0.5 0.5 Cl
"""
OTHER = """K1 Br1
1.0
3.9 0.0 0.0
0.0 3.9 0.0
0.0 0.0 3.9
K Br
1 1
Direct
0 0 0
0.5 0.5 0.5
"""
MISCOUNTED = POSCAR.replace("1 1\n", "1 2\n")
CSCL = from_poscar(POSCAR)
CIF = to_cif(CSCL)
COMPACT = to_compact(Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]))
ESCAPED = POSCAR.replace("\n", "\\n")


def seen(text: str) -> list[str]:
    """Formula or reason of each entry."""
    entries = parse_reply(text)
    for entry in entries:
        if isinstance(entry, Rejection):
            assert entry.stage is Stage.PARSE
            assert entry.detail
            assert len(entry.detail) < 500
            entry.detail.encode()
    return [e.reason if isinstance(e, Rejection) else e.composition.reduced_formula for e in entries]


WYCKOFF = """space group 221 Pm-3m
a = 4.1
Cs 1a
Cl 1b
"""
WRAPPINGS = {
    "bare": POSCAR,
    "windows line ends": POSCAR.replace("\n", "\r\n"),
    "no last line end": POSCAR.rstrip(),
    "prose": f"Here is a crystal:\n\n{POSCAR}\nIt should be stable below 300 K.",
    "fence": f"Sure!\n```\n{POSCAR}```\nDone.",
    "fence with a word": f"```poscar\n{POSCAR}```",
    "fence without a comment line": "```vasp\n" + POSCAR.partition("\n")[2] + "```",
    "tilde fence": f"~~~\n{POSCAR}~~~",
    "unclosed fence": f"```\n{POSCAR}",
    "list item": "1. **Polymorph**\n   * POSCAR: ```\n"
    + "".join(f"      {x}\n" for x in POSCAR.splitlines())
    + "   ```",
    "quote": "".join(f"> {line}\n" for line in POSCAR.splitlines()),
    "literal line ends": f"* POSCAR: ```\n   {ESCAPED}\n```",
    "backslash at the end of each line": POSCAR.replace("\n", "\\\n"),
    "minus signs and spaces of typography": POSCAR.replace("0.5 0.5 0.5", "\u22120.5\u00a00.5 0.5"),
    "labels with numbers": POSCAR.replace("0.0 Cs", "0.0 Cs1").replace("0.5 Cl", "0.5 Cl1-"),
    "ions": POSCAR.replace("\nCs Cl\n", "\nCs+ Cl-\n"),
    "fractions": POSCAR.replace("0.5 0.5 0.5", "1/2 1/2 1/2"),
    "commas": POSCAR.replace("0.5 0.5 0.5", "0.5, 0.5, 0.5").replace("4.1 0.0 0.0", "4.1, 0.0, 0.0"),
    "fractions and commas without labels": OTHER.replace("K", "Cs")
    .replace("Br", "Cl")
    .replace("3.9", "4.1")
    .replace("0 0 0\n", "0, 0, 0\n")
    .replace("0.5 0.5 0.5", "1/2, 1/2, 1/2"),
    "three scale factors": f"Here:\n\n{POSCAR.replace('1.0', '1.0 1.0 1.0', 1)}\nDone.",
    "json": json.dumps({"poscar": POSCAR}),
    "json in a fence": "```json\n" + json.dumps({"0": {"formula": "CsCl", "POSCAR": POSCAR}}, indent=2) + "\n```",
    "json list": json.dumps([{"structure": POSCAR}]),
    "json list of lines": json.dumps({"poscar": POSCAR.splitlines()}),
    "json without outer braces": '"0": {"poscar": "' + ESCAPED + '"}',
    "json with raw line ends": '{"poscar": "' + POSCAR + '"}',
    "json with twice escaped line ends": '{"poscar": "' + ESCAPED.replace("\\", "\\\\") + '"}',
    "json with a trailing comma": '{"poscar": "' + ESCAPED + '",}',
    "json with comments": '{ // first\n "a": 1, /* two */ "poscar": "' + ESCAPED + '" # three\n}',
    "json without a comma": '{"space_group": "Pm3m"\n "poscar": "' + ESCAPED + '"}',
    "json with unknown escapes": '{"space_group": "Fm\\3m", "note": "\\~", "poscar": "' + ESCAPED + '"}',
    "json with single quotes": "{'note': 'it is', 'poscar': '" + ESCAPED + "'}",
    "json with bare keys": '{name: CsCl, poscar: "' + ESCAPED + '"}',
    "json with triple quotes": '{"poscar": """' + POSCAR + '"""}',
    "json with a fence in the string": json.dumps({"poscar": f"Here:\n\n{POSCAR}\nDone"}),
    "stray brace in prose": "The set {Cs, Cl} and {100} planes {\n" + POSCAR,
    "python dict": repr({"poscar": POSCAR}),
    "cif": CIF,
    "cif in a fence": f"```cif\n{CIF}```",
    "cif in prose": f"As a CIF:\n\n{CIF}\nThis is the CsCl type.",
    "cif before words that look like a row": f"{CIF}\nIt has {'very ' * 3}few atoms.\nAngles of 109.5 and 2.35 Å.",
    "cif in json": json.dumps({"cif": CIF}),
    "wyckoff": WYCKOFF,
    "wyckoff in a fence": f"Answer:\n```\n{WYCKOFF}```",
    "wyckoff in prose": f"**CsCl type**\n\n{WYCKOFF}\nIn this crystal both have 8 neighbours.",
    "wyckoff before a sentence": f"{WYCKOFF}It has 2 atoms.",
    "wyckoff in json": json.dumps({"crystal": WYCKOFF}),
    "wyckoff in a list of json": json.dumps({"crystals": [{"formula": "CsCl", "wyckoff": WYCKOFF}]}),
    "wyckoff with literal line ends": WYCKOFF.replace("\n", "\\n"),
    "wyckoff as a list": "".join(f"  * {line}\n" for line in WYCKOFF.splitlines()),
    "wyckoff of a table": "Space group: Pm-3m (221)\n\na = b = c = 4.1 \u00c5\n\n| Element | Position |\n|---|---|\n"
    "| Cs | 1a |\n| Cl | 1b |\n",
    "space group above a poscar": f"**Space group:** Pm-3m (221)\n* Lattice: a = 4.1\n\n{POSCAR}",
    "orbits in prose above a poscar": f"{WYCKOFF}\n```\n{POSCAR}```",
    "orbits in a list without a cell above a cif": f"Space group: Pm-3m\n- Cs: 1a (0, 0, 0)\n- Cl: 1b\n\n{CIF}",
    "poscar and cif of one crystal": json.dumps({"poscar": POSCAR, "cif": CIF}),
    "broken poscar beside a good cif": json.dumps({"poscar": MISCOUNTED, "cif": CIF}),
    "own json": to_json(CSCL),
    "json in prose": f"Answer: {to_json(CSCL)} as asked.",
    "thoughts before": f"<think>{OTHER}\nno, wait</think>\n{POSCAR}",
    "thoughts without an opening tag": f"{OTHER}\nno</think>{POSCAR}",
    "thoughts in thoughts": f"<thinking>a<thinking>{OTHER}</thinking>{OTHER}</thinking>{POSCAR}",
    "yaml": "- formula: CsCl\n  poscar: |\n" + "".join(f"    {line}\n" for line in POSCAR.splitlines()),
    "tags": f"<answer><poscar>{POSCAR.rstrip()}</poscar></answer>",
    "thoughts in brackets": f"[THINK]{OTHER}[/THINK]{POSCAR}",
    "placeholder before": '{"poscar": "<the POSCAR>"}\n' + POSCAR,
    "marked bytes": "\ufeff\ufffd\ufffd\n" + POSCAR,
}


@pytest.mark.parametrize("text", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_wrapping_does_not_matter_and_nothing_is_counted_twice(text):
    (entry,) = parse_reply(text)
    assert isinstance(entry, Structure), entry
    assert entry.composition.reduced_formula == "CsCl"
    assert entry.volume == pytest.approx(4.1**3)


SPELLINGS = {
    "parameters": {"lattice": {"a": 4.1, "b": 4.1, "c": 4.1, "alpha": 90, "beta": 90, "gamma": 90}},
    "parameters in a list": {"Lattice_Parameters": [4.1, 4.1, 4.1, 90, 90, 90]},
    "parameters at the top": {"a": 4.1, "b": 4.1, "c": 4.1, "alpha": 90, "beta": 90, "gamma": 90},
    "matrix": {"lattice": {"matrix": [[4.1, 0, 0], [0, 4.1, 0], [0, 0, 4.1]]}},
    "named vectors": {"cell": {"a": [4.1, 0, 0], "b": [0, 4.1, 0], "c": [0, 0, 4.1]}},
}
ATOMS = {
    "frac_coords": {"species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]},
    "coords": {"elements": ["Cs", "Cl"], "coords": [[0, 0, 0], [0.5, 0.5, 0.5]]},
    "numbers": {"atomic_numbers": [55, 17], "scaled_positions": [[0, 0, 0], [0.5, 0.5, 0.5]]},
    "cartesian key": {"species": ["Cs", "Cl"], "cart_coords": [[0, 0, 0], [2.05, 2.05, 2.05]]},
    "cartesian flag": {"species": ["Cs", "Cl"], "coords": [[0, 0, 0], [2.05] * 3], "coords_are_cartesian": True},
    "cartesian mode": {"symbols": ["Cs", "Cl"], "positions": [[0, 0, 0], [2.05] * 3], "coordinate_type": "Cartesian"},
    "sites": {"sites": [{"element": "Cs", "xyz": [0, 0, 0]}, {"label": "Cl1", "xyz": [2.05, 2.05, 2.05]}]},
    "axes": {"atoms": [{"element": "Cs", "x": 0, "y": 0, "z": 0}, {"element": "Cl", "x": 0.5, "y": 0.5, "z": 0.5}]},
    "counts": {"species": ["Cs", "Cl"], "counts": [1, 1], "coords": [[0, 0, 0], [0.5, 0.5, 0.5]]},
    "by element": {"positions": {"Cs": [[0, 0, 0]], "Cl": [0.5, 0.5, 0.5]}},
    "pymatgen": {"sites": CSCL.as_dict()["sites"]},
}


@pytest.mark.parametrize("lattice", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("atoms", ATOMS.values(), ids=ATOMS.keys())
def test_spellings_of_a_structure_object(lattice, atoms):
    for content in (lattice | atoms, {"formula": "CsCl", "structure": lattice | atoms}):
        (entry,) = parse_reply("```json\n" + json.dumps(content) + "\n```")
        assert isinstance(entry, Structure), entry
        assert entry.composition.reduced_formula == "CsCl"
        assert entry.get_distance(0, 1) == pytest.approx(4.1 * 3**0.5 / 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (POSCAR + "\n" + OTHER, ["CsCl", "KBr"]),
        (POSCAR + OTHER + POSCAR, ["CsCl", "KBr", "CsCl"]),
        (f"```\n{OTHER}```\nand\n```\n{MISCOUNTED}```\nand\n```\n{POSCAR}```", ["KBr", "count_mismatch", "CsCl"]),
        (json.dumps({"1": {"poscar": OTHER}, "2": {"poscar": MISCOUNTED}}), ["KBr", "count_mismatch"]),
        (json.dumps({"1": OTHER, "2": POSCAR}), ["KBr", "CsCl"]),
        (json.dumps({"first": json.loads(to_json(CSCL)), "second": {"cif": CIF}}), ["CsCl", "CsCl"]),
        (f"{OTHER}\n{json.dumps({'poscar': POSCAR})}\n{CIF}", ["KBr", "CsCl", "CsCl"]),
        (CIF + CIF, ["CsCl", "CsCl"]),
        (f"<think>x</think>{OTHER}<think>{POSCAR}</think>{POSCAR}", ["KBr", "CsCl"]),
        (f"{COMPACT}\n{COMPACT}", ["NaCl", "NaCl"]),
        (f"{COMPACT} {COMPACT}", ["NaCl", "NaCl"]),
        (f"1. `{COMPACT}`\n2. crystal: {COMPACT}.", ["NaCl", "NaCl"]),
        (f"Here:\n```\n{COMPACT}\n```\n{POSCAR}", ["NaCl", "CsCl"]),
        (json.dumps({"crystals": [COMPACT, COMPACT]}), ["NaCl", "NaCl"]),
        (WYCKOFF + WYCKOFF, ["CsCl", "CsCl"]),
        (f"1. A\n{WYCKOFF}\n2. B\n{WYCKOFF.replace('Cl', 'Br')}\n{POSCAR}", ["CsCl", "CsBr", "CsCl"]),
        (f"```\n{WYCKOFF}\n{WYCKOFF.replace('1b', '2b')}\n{WYCKOFF}```", ["CsCl", "count_mismatch", "CsCl"]),
        (json.dumps({"crystals": [WYCKOFF, WYCKOFF]}), ["CsCl", "CsCl"]),
        (f"{WYCKOFF.replace('Cl', 'Br')}\n{POSCAR}", ["CsBr", "CsCl"]),
        (f"```\n{WYCKOFF}```\n{POSCAR}", ["CsCl", "CsCl"]),
        (json.dumps({"answer": f"{POSCAR}\n\n{OTHER}\n\n{CIF}"}), ["CsCl", "KBr", "CsCl"]),
        (json.dumps({"structures": [OTHER] * 6}), ["KBr"] * 6),
        (json.dumps([POSCAR, OTHER]), ["CsCl", "KBr"]),
        (json.dumps([{"poscar": POSCAR}, {"poscar": OTHER}]), ["CsCl", "KBr"]),
    ],
)
def test_several_crystals_come_in_the_order_of_the_text(text, expected):
    assert seen(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty_reply"),
        (" \n\t\n", "empty_reply"),
        ("I cannot help with that.", "no_structure"),
        ("A crystal structure of Ag2O has a = 4.7 Å.\ncrystal In this phase silver moves.", "no_structure"),
        ("| a | b | c |\n1.0 2.0 3.0\n4.0 5.0 6.0\n7.0 8.0 9.0\n1.0 2.0 3.0", "no_structure"),
        ('{"poscar": "...", "cif": null}', "no_structure"),
        ('{"formula": "NaCl", "space_group": "Fm-3m"}', "no_structure"),
        ('{"lattice": {"a": 4.1}, "space_group": "Fm-3m"}', "no_structure"),
        (f"<think>{POSCAR}", "truncated"),
        (MISCOUNTED, "count_mismatch"),
        (POSCAR.replace("Cs Cl\n", "Cs Qq\n"), "unknown_element"),
        (POSCAR.replace("0.5 0.5 0.5 Cl", "0.5 NaN 0.5 Cl"), "not_finite"),
        (POSCAR.replace("0.0 0.0 4.1\n", "0.0 0.0 4.1\n0.0 0.0 4.1\n"), "bad_poscar"),
        (POSCAR.replace("direct", "primitive"), "bad_poscar"),
        (POSCAR.replace("direct", "indirect"), "bad_poscar"),
        (POSCAR.replace("1.0\n", "", 1), "bad_poscar"),
        ("Ag O\n6 2\ndirect\n0 0 0 Ag\n0.5 0.5 0.5 O\n0.1 0.2 0.3 O", "bad_poscar"),
        ("POSCAR:\n```\nAg 0.1 0.2 0.3\nAg 0.4 0.2 0.3\nO 0.1 0.2 0.7\n```", "bad_poscar"),
        ("POSCAR:\n```\nAg1 0.1 0.2 0.3\nAg2 0.4 0.2 0.3\nO1 0.1 0.2 0.7\nO2 0.1 0.2", "truncated"),
        ("```\n" + POSCAR[:-12], "truncated"),
        (POSCAR[:-12], "truncated"),
        ("```\n" + OTHER.rstrip(), "truncated"),
        ("```\n" + CIF[:-20], "truncated"),
        ('{"1": {"poscar": "' + ESCAPED, "truncated"),
        ('{"1": {"formula": "CsCl", "space_group": "Pm-3', "truncated"),
        (to_json(CSCL)[:-20], "truncated"),
        (json.dumps({"poscar": "Ag6 O2 6 2 4 4 4 90 90 90"}), "truncated"),
        (json.dumps({"cif": "loop_ 1 2 3 4"}), "bad_cif"),
        (json.dumps({"poscar": MISCOUNTED, "cif": CIF.replace("_cell_length_a", "_cell_length_x")}), "count_mismatch"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs", "Cl"], "coords": [[0, 0, 0]]}', "count_mismatch"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "coords": [[0, 0, NaN]]}', "not_finite"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "coords": [[0, 0, "third"]]}', "bad_json"),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "coords": [[0, 0, "NaN"]]}', "not_finite"),
        ('{"lattice": {"a": 4}, "species": ["Cs"], "coords": [[0, 0, 0]]}', "bad_json"),
        (
            '{"lattice": [4, 4, 4, 90, 90, 90], "sites": [{"species": [{"element": "Cs", "occu": 0.5}], '
            '"abc": [0, 0, 0]}]}',
            "disordered",
        ),
        (
            '{"lattice": [4, 4, 4, 90, 90, 90], "sites": [{"element": "Cs", "wyckoff": "4a", "abc": [0, 0, 0]}]}',
            "bad_json",
        ),
        ('{"lattice": [4, 4, 4, 90, 90, 90], "scale": 2, "species": ["Cs"], "coords": [[0, 0, 0]]}', "bad_json"),
        (
            '{"lattice": [4, 4, 4, 90, 90, 90], "species": ["Cs"], "counts": [2], "coords": [[0, 0, 0]]}',
            "count_mismatch",
        ),
        (WYCKOFF.replace("221", "225"), "bad_wyckoff"),
        (WYCKOFF.replace("1b", "3b"), "count_mismatch"),
        (WYCKOFF.replace("Cl 1b", "Cl somewhere at 1b, perhaps"), "bad_wyckoff"),
        (WYCKOFF.replace("Cl 1b", "\nthen\nCl 1b"), "bad_wyckoff"),
        (WYCKOFF.replace("Cl 1b", "Cl"), "truncated"),
        ("```\n" + WYCKOFF, "truncated"),
        ("Space group 225 Fm-3m\nLattice: a = 5.64", "no_structure"),
        (COMPACT.removesuffix(" end"), "truncated"),
        (COMPACT.replace("sg225", "sg999"), "bad_compact"),
        (COMPACT.replace("Cl 1 :", "Cl 2 :"), "bad_compact"),
        ("crystal Na Na Na end", "bad_compact"),
        ("x" * (MAX_CHARACTERS + 1), "reply_too_long"),
        (POSCAR.replace("1 1\n", "1 9000\n") + "0.5 0.5 0.5 Cl\n" * 8999, "too_long"),
    ],
)
def test_what_is_no_crystal_gives_one_row_with_its_reason(text, expected):
    assert seen(text) == [expected]


def test_a_cut_reply_keeps_the_crystals_before_the_cut():
    text = json.dumps({"1": {"formula": "KBr", "poscar": OTHER}, "2": {"formula": "CsCl", "poscar": POSCAR}})
    for end in range(text.index("}"), len(text) - 2):
        found = seen(text[:end])
        assert found[0] == "KBr"
        assert found[1:] in ([], ["truncated"])


@pytest.mark.parametrize("fence", ["", "```cif\n"])
def test_no_cut_of_a_cif_is_taken_for_a_smaller_crystal(fence):
    for end in range(CIF.index("_cell_length_b"), len(CIF) - 1):
        for entry in parse_reply(fence + CIF[:end]):
            assert isinstance(entry, Rejection) or entry.composition == CSCL.composition


SURE = {
    "line end": POSCAR,
    "blank": OTHER.rstrip() + " ",
    "next word": OTHER + "The",
    "next line": f"{OTHER}\n2. ",
    "fence": f"```\n{OTHER}```",
    "half a fence": f"```\n{POSCAR}`",
    "quote": json.dumps({"poscar": OTHER.rstrip()}),
    "quote of an open object": '{"poscar": ' + json.dumps(OTHER.rstrip()),
    "end": COMPACT,
    "thought": f"{OTHER.rstrip()}<think>Is it",
    "object": to_json(CSCL),
}
UNSURE = {
    "number": OTHER.rstrip(),
    "label": POSCAR.rstrip(),
    "fence": f"```\n{POSCAR.rstrip()}",
    "point": OTHER.rstrip()[:-1],
    "fraction": OTHER.replace("0.5 0.5 0.5\n", "1/2 1/2 1/1"),
    "second": POSCAR + OTHER.rstrip(),
    "rows": CIF,
    "orbits": WYCKOFF,
}


@pytest.mark.parametrize("text", SURE.values(), ids=SURE.keys())
def test_a_crystal_that_ends_before_the_cut_is_kept(text):
    assert parse_reply(text, truncated=True) == parse_reply(text)
    assert isinstance(parse_reply(text, truncated=True)[0], Structure)


@pytest.mark.parametrize("text", UNSURE.values(), ids=UNSURE.keys())
def test_a_crystal_that_ends_with_the_cut_is_refused(text):
    assert [e.reason for e in parse_reply(text, truncated=True) if isinstance(e, Rejection)] == ["truncated"]


def test_no_cut_gives_another_crystal():
    for whole in (
        *(POSCAR, OTHER, CIF, to_json(CSCL), to_short_json(CSCL), WYCKOFF),
        *(json.dumps({"poscar": POSCAR}), f"```\n{OTHER}```", f"```\n{WYCKOFF}```", json.dumps([WYCKOFF])),
    ):
        (structure,) = parse_reply(whole)
        for end in range(1, len(whole)):
            found = [e for e in parse_reply(whole[:end], truncated=True) if isinstance(e, Structure)]
            assert found in ([], [structure]), whole[:end]


def test_a_flood_of_crystals_is_cut_in_one_row():
    found = seen(POSCAR * (MAX_CRYSTALS + 5))
    assert len(found) == MAX_CRYSTALS + 1
    assert found[-1] == "too_many_structures"


def test_left_handed_and_flat_cells_are_left_to_the_checks():
    left = POSCAR.replace("4.1 0.0 0.0\n0.0 4.1 0.0", "0.0 4.1 0.0\n4.1 0.0 0.0")
    flat = POSCAR.replace("0.0 0.0 4.1", "0.0 0.0 0.0")
    assert seen(left) == seen(flat) == ["CsCl"]


NUMBERS = "\n".join("0.1234 0.2345 0.3456" for _ in range(20_000))
HOSTILE = {
    "braces": "{" * 200_000,
    "brackets": "[" * 200_000,
    "open objects": '{"a":' * 90_000,
    "open arrays": '{"a":[' * 80_000,
    "quotes": '{"a":' + '"' * 400_000,
    "backslashes": '{"a":"' + "\\" * 400_000,
    "bare backslashes": "\\" * 400_000,
    "backticks": "``` " * 100_000,
    "thoughts": "<think></think>" * 30_000,
    "numbers": NUMBERS,
    "numbers in a fence": f"```\n{NUMBERS}\n```",
    "one line of numbers": NUMBERS.replace("\n", " "),
    "sites": "0.1 0.2 0.3 Ag\n\n\n" * 25_000,
    "headers": "x\n1.0\n1 0 0\n0 1 0\n0 0 1\n" * 18_000,
    "data blocks": "data_x\n" * 60_000,
    "cif names": "data_x\n_cell_length_a 1\nloop_\n" + "_a 1\n" * 90_000,
    "space groups": "space group 225 Fm-3m\n" * 20_000,
    "space groups and parameters": "space group 225\na = 5\n\n" * 17_000,
    "orbits of no group": "Na 4a x=0.1\n" * 35_000,
    "names of a parameter": "space group 225\n" + "a = " * 90_000 + "5\nNa 4a",
    "blanks in a group": ("space group" + " " * 100 + "\n") * 3_500,
    "compact starts": "crystal Na 1\n" * 35_000,
    "spaces": " " * 400_000 + "x",
    "line ends": "x" + "\n" * 400_000,
    "bytes that are no text": "\ufffd\x00\ud800\udfff" * 100_000,
    "noise": "".join(random.Random(0).choices("{}[]\":,\\n`0123456789. \nAgdirect<>#'_", k=400_000)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_replies_take_linear_time(text):
    start = time.process_time()
    entries = parse_reply(text)
    assert time.process_time() - start < 2
    assert entries
    assert all(isinstance(entry, Rejection) for entry in entries)


def test_random_damage_never_raises():
    rng = random.Random(7)
    sources = [*WRAPPINGS.values(), COMPACT, json.dumps({"a": [CIF, POSCAR]})]
    for _ in range(300):
        text = list(rng.choice(sources))
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(text) + 1)
            text[at : at + rng.choice([0, 1, 1, 5, 40])] = rng.choice(
                ["", '"', "\\", "{", "}", "\n", "nan", "\ud800", "9e99", "```"]
            )
        entries = parse_reply("".join(text))
        assert entries
        for entry in entries:
            if isinstance(entry, Structure):
                assert len(entry) <= 8


def test_large_cells_of_one_reply_are_read_quickly():
    n = 500
    rng = random.Random(1)
    sites = "".join(f"{rng.random():.6f} {rng.random():.6f} {rng.random():.6f} Ag\n" for _ in range(n))
    text = f"Ag\n1.0\n30 0 0\n0 30 0\n0 0 30\nAg\n{n}\ndirect\n{sites}"
    start = time.process_time()
    (entry,) = parse_reply(text)
    assert isinstance(entry, Structure)
    assert len(entry) == n
    assert entry.lattice == Lattice.cubic(30)
    assert time.process_time() - start < 2


RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
)
HALITE = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])


def listed(structure: Structure, sites: list[int] | None = None, **said) -> str:
    """A JSON object that lists some sites of a crystal (all without), and says more."""
    rows = [
        {"element": site.specie.symbol, "frac_coords": site.frac_coords.round(4).tolist()}
        for at, site in enumerate(structure)
        if sites is None or at in sites
    ]
    return json.dumps({**said, "lattice": structure.lattice.matrix.tolist(), "sites": rows})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (listed(RUTILE, space_group="P4_2/mnm"), "TiO2"),
        (listed(RUTILE, [0, 2], space_group="P4_2/mnm"), "count_mismatch"),
        (listed(RUTILE, space_group={"number": 136}), "TiO2"),
        (listed(RUTILE, space_group="Fm-3m (136)"), "bad_json"),
        (listed(RUTILE, space_group="unknown"), "TiO2"),
        (listed(HALITE, space_group="Fm-3m, cubic"), "NaCl"),
        (listed(HALITE, [0, 4], space_group=225), "count_mismatch"),
        (listed(HALITE.get_primitive_structure(), space_group=225), "NaCl"),
        ('{"space_group": 225, "structure": ' + listed(HALITE, [0, 4]) + "}", "count_mismatch"),
        (listed(HALITE, formula="NaCl", Z=4), "NaCl"),
        (listed(HALITE, [0, 4], formula="NaCl", Z=4), "count_mismatch"),
        (listed(RUTILE, formula="TiO_2"), "TiO2"),
        (listed(RUTILE, formula="rutile TiO"), "TiO2"),
        (listed(RUTILE, [0, 2], formula="TiO2"), "count_mismatch"),
        (listed(RUTILE, nsites=3), "count_mismatch"),
    ],
)
def test_what_an_object_says_beside_its_sites_must_agree_with_them(text, expected):
    assert seen(text) == [expected]


CELL = '"lattice": [[4.1, 0, 0], [0, 4.1, 0], [0, 0, 4.1]]'
ATOMS_IN_A = '"species": ["Cs", "Cl"], "positions": [[0, 0, 0], [2.05, 2.05, 2.05]]'


@pytest.mark.parametrize(
    "text",
    [
        f'{{{CELL}, "units": "angstrom", {ATOMS_IN_A}}}',
        f'{{{CELL}, "coordinate_format": "cartesian (Å)", {ATOMS_IN_A}}}',
        f'{{{CELL}, "coordinate_units": "Å", {ATOMS_IN_A}}}',
        f'{{"coordinate_mode": "Cartesian", "structure": {{{CELL}, {ATOMS_IN_A}}}}}',
        f'{{"coords_are_cartesian": true, "structures": [{{{CELL}, {ATOMS_IN_A}}}]}}',
        f'{{{CELL}, "sites": [{{"element": "Cs", "type": "cartesian", "position": [0, 0, 0]}},'
        ' {"element": "Cl", "type": "cartesian", "position": [2.05, 2.05, 2.05]}]}',
        f'{{{CELL}, "mode": "in Cartesian coordinates", "sites": [{{"element": "Cs", "position": [0, 0, 0]}},'
        ' {"element": "Cl", "x": 2.05, "y": 2.05, "z": 2.05}]}',
    ],
)
def test_positions_are_cartesian_wherever_that_is_said(text):
    (crystal,) = parse_reply(text)
    assert isinstance(crystal, Structure)
    assert crystal.frac_coords[1] == pytest.approx([0.5] * 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'{{{CELL}, "units": "angstrom", {ATOMS_IN_A.replace("2.05", "0.5")}}}', "bad_json"),
        (f'{{{CELL}, "mode": "fractional or cartesian", {ATOMS_IN_A}}}', "bad_json"),
        (f'{{{CELL}, "mode": "cartesian", {ATOMS_IN_A.replace("positions", "frac_coords")}}}', "bad_json"),
        (f'{{{CELL}, "a": 5, {ATOMS_IN_A}}}', "bad_json"),
        (f'{{"lattice": {{{CELL.replace("lattice", "matrix")}, "a": 5}}, {ATOMS_IN_A}}}', "bad_json"),
        (f'{{{CELL}, "a": 4.1, "gamma": 90, {ATOMS_IN_A}}}', "CsCl"),
        (f'{{{CELL.replace("4.1", "0.5")}, "lattice_constant": 8.2, {ATOMS_IN_A}}}', "bad_json"),
        (f'{{{CELL}, "lattice_constant": 4.1, {ATOMS_IN_A}}}', "CsCl"),
        (f'{{{CELL}, "occupancies": [0.5, 1], {ATOMS_IN_A}}}', "disordered"),
        (f'{{{CELL}, "occupancies": [1, 1.0], {ATOMS_IN_A}}}', "CsCl"),
        (f'{{{CELL}, "sites": [{{"element": "Cs", "occ": 0.5, "abc": [0, 0, 0]}}]}}', "disordered"),
    ],
)
def test_an_object_that_contradicts_itself_is_refused(text, expected):
    assert seen(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"I won't use <think> tags.\n{POSCAR}", ["CsCl"]),
        (f"Do not use `<think>`.\n{POSCAR}", ["CsCl"]),
        (f"[reasoning]: short\n{POSCAR}", ["CsCl"]),
        (f"I won't use <think> tags.\n{POSCAR}\n<think>{OTHER}</think>", ["CsCl"]),
        (f"<|begin_of_thought|>{OTHER}<|end_of_thought|>\n{POSCAR}", ["CsCl"]),
        (f"<|begin_of_thought|>{OTHER}", ["truncated"]),
        (f"<|assistant|> <think>\n{OTHER}", ["truncated"]),
        (f"[THINK]{OTHER}[/THINK]{POSCAR}", ["CsCl"]),
        (f"<think>a <thinking> is\n{OTHER}</think>\n{POSCAR}", ["CsCl"]),
        (f"<think>{OTHER}<think>{OTHER}</think>", ["truncated"]),
        (f"{OTHER}</think>\n{POSCAR}", ["CsCl"]),
    ],
)
def test_a_tag_that_is_only_mentioned_begins_no_thought(text, expected):
    assert seen(text) == expected


INNER = to_json(CSCL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"name": "propose", "arguments": INNER}), ["CsCl"]),
        (json.dumps({"structures": [INNER, INNER]}), ["CsCl", "CsCl"]),
        (json.dumps([INNER, INNER]), ["CsCl", "CsCl"]),
        (json.dumps({"arguments": json.dumps({"structures": [INNER]})}), ["CsCl"]),
        (json.dumps({"arguments": INNER})[:-20], ["truncated"]),
        (
            '{"space_group": 225, "lattice": {"a": 5.64}, "sites": [{"element": "Na", "wyckoff": "a"},'
            ' {"element": "Cl", "wyckoff": "b"}]}',
            ["NaCl"],
        ),
        (
            '{"space_group": 225, "lattice": {"a": 5.64}, "sites": [{"element": "Na", "wyckoff": "z"}]}',
            ["bad_wyckoff"],
        ),
        (f'{{{CELL}, "atoms": {{"Cs": [[0, 0, 0]], "Cl": [[0.5, 0.5, 0.5]]}}}}', ["CsCl"]),
        (POSCAR.replace("1 1\n", "1 1  (total 2 atoms)\n"), ["CsCl"]),
        (POSCAR.replace("1 1\n", "1 x (2 atoms)\n"), ["bad_poscar"]),
        (re.sub(r"(?m)^(\d\.\d) (\d\.\d) (\d\.\d)", r"[\1, \2, \3],", POSCAR), ["CsCl"]),
        (re.sub(r"(?m)^(\d) (\d) (\d)$", r"[\1, \2, \3]", OTHER), ["KBr"]),
    ],
)
def test_json_in_strings_and_other_wordings(text, expected):
    assert seen(text) == expected


ORBITS = """| Element | Wyckoff | x | y | z |
|---|---|---|---|---|
| Na | 4a | 0 | 0 | 0 |
| Cl | 4b | 0.5 | 0.5 | 0.5 |
"""


@pytest.mark.parametrize(
    "head",
    [
        "Space group Fm-3m (225), a = 5.64 Å",
        "**Space group:** Fm-3m (No. 225); a = 5.64 Å",
        "Space group: Fm-3m (No. 225)\na = 5.64 Å",
        "- Space group: 225, a = b = c = 5.64",
    ],
)
def test_a_table_of_orbits_behind_group_and_cell_on_one_line(head):
    assert seen(f"{head}\n\n{ORBITS}") == ["NaCl"]
