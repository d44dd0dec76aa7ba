"""Replies in the manner of many models. What each holds was written down before the parser saw it."""

from __future__ import annotations

import pytest

from matsearch.propose import parse_reply
from matsearch.records import Rejection

# Name: (what is in it, the reply).
REPLIES: dict[str, tuple[list[str], str]] = {}


def reply(name: str, found: list[str], text: str) -> None:
    REPLIES[name] = found, text


reply(
    "a thought with a draft, then the answer",
    ["Mg1 O1"],
    """<think>
Okay, rock salt MgO. Let me draft:
Mg O
1.0
4 0 0
0 4 0
0 0 4
Mg O
4 4
direct
0 0 0
Hmm, the primitive cell is shorter.
</think>

Here is the structure:

```
MgO
1.0
0.0 2.106 2.106
2.106 0.0 2.106
2.106 2.106 0.0
Mg O
1 1
direct
0.0 0.0 0.0 Mg
0.5 0.5 0.5 O
```
""",
)
reply(
    "LaTeX and a table of parameters beside the POSCAR",
    ["Sr1 Ti1 O3"],
    r"""## Proposed structure: $\mathrm{SrTiO_3}$

| Property | Value |
|---|---|
| Space group | $Pm\bar{3}m$ (221) |
| $a$ | 3.905 Å |

\[ V = a^3 = 59.5\,\text{Å}^3 \]

```poscar
SrTiO3 cubic perovskite
1.0
3.905 0.000 0.000
0.000 3.905 0.000
0.000 0.000 3.905
Sr Ti O
1 1 3
Direct
0.0 0.0 0.0
0.5 0.5 0.5
0.5 0.5 0.0
0.5 0.0 0.5
0.0 0.5 0.5
```

**Why it is stable:** the tolerance factor is $t \approx 1.0$.
""",
)
reply(
    "Chinese prose and full-width punctuation",
    ["Li2 O1"],
    """好的，以下是我设计的晶体结构：

**结构 1**：反萤石型 Li2O（空间群：Fm-3m，225 号）

```
Li2O
1.0
0.0 2.31 2.31
2.31 0.0 2.31
2.31 2.31 0.0
Li O
2 1
Direct
0.25 0.25 0.25 Li
0.75 0.75 0.75 Li
0.0 0.0 0.0 O
```

该结构的形成能较低。
""",
)
reply(
    "JSON with comments, trailing commas and a NaN in the second",
    ["K1 Cl1", "not_finite"],
    """```json
{
  "crystals": [
    {  // the first
      "lattice": [3.8, 3.8, 3.8, 90, 90, 90],
      "species": ["K", "Cl"],
      "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5],],
    },
    {
      "lattice": [3.8, 3.8, 3.8, 90, 90, 90],
      "species": ["K", "Br"],
      "frac_coords": [[0, 0, 0], [0.5, NaN, 0.5]],
    },
  ],
}
```""",
)
reply(
    "JSON grouped by element, as asked",
    ["Ca1 F2"],
    '{"crystals":[{"lattice":[3.86,3.86,3.86,60,60,60],"sites":[{"element":"Ca","frac_coords":[[0,0,0]]},'
    '{"element":"F","frac_coords":[[0.25,0.25,0.25],[0.75,0.75,0.75]]}]}]}',
)
reply(
    "JSON that ends in the middle of the second crystal",
    ["Ca1 F2", "truncated"],
    '{"crystals":[{"lattice":[3.86,3.86,3.86,60,60,60],"sites":[{"element":"Ca","frac_coords":[[0,0,0]]},'
    '{"element":"F","frac_coords":[[0.25,0.25,0.25],[0.75,0.75,0.75]]}]},{"lattice":[4.1,4.1,4.1,60,60,60],"sites":'
    '[{"element":"Sr","frac_coords":[[0,0,0]]},{"element":"F","frac_coords":[[0.25,0.2',
)
reply(
    "CIF with the symmetry operations, uncertainties and two loops",
    ["Na4 Cl4"],
    """```cif
data_NaCl
_symmetry_space_group_name_H-M   'F m -3 m'
_cell_length_a   5.6402(4)
_cell_length_b   5.6402(4)
_cell_length_c   5.6402(4)
_cell_angle_alpha   90
_cell_angle_beta    90
_cell_angle_gamma   90
_cell_volume   179.43(2)
_cell_formula_units_Z   4
loop_
_atom_type_symbol
_atom_type_oxidation_number
Na1+ 1.0
Cl1- -1.0
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na1+ 0.000(1) 0.000 0.000 1
Cl1 Cl1- 0.500 0.500 0.500 1.0
```""",
)
reply(
    "CIF of a quartz with multiplicities and Wyckoff letters in its columns",
    ["Si3 O6"],
    """data_SiO2
_cell_length_a 4.913
_cell_length_b 4.913
_cell_length_c 5.405
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_space_group_IT_number 154
_space_group_name_H-M_alt 'P 32 2 1'
loop_
_atom_site_label
_atom_site_symmetry_multiplicity
_atom_site_Wyckoff_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 3 a 0.4697 0.0000 0.66667
O1 6 c 0.4135 0.2669 0.7857
""",
)
reply(
    "CIF whose multiplicity is wrong",
    ["count_mismatch"],
    """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_symmetry_multiplicity
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs1 1 0 0 0
Cl1 3 0.5 0.5 0.5
""",
)
reply(
    "CIF with half an atom",
    ["disordered"],
    """```cif
data_alloy
_cell_length_a 3.6
_cell_length_b 3.6
_cell_length_c 3.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cu 0 0 0 0.5
Ni 0 0 0 0.5
```""",
)
reply(
    "selective dynamics, Cartesian coordinates and a scale factor",
    ["Ga1 As1"],
    """POSCAR for zincblende GaAs:

GaAs
5.65
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Ga As
1 1
Selective dynamics
Cartesian
0.00 0.00 0.00 T T T
0.25 0.25 0.25 F F F

Relax with ISIF = 3.""",
)
reply(
    "the volume as the scale, VASP 4 and no labels",
    ["Al1 Fe1"],
    """Fe Al
-24.5
1 0 0
0 1 0
0 0 1
1 1
Direct
0 0 0
0.5 0.5 0.5
""",
)
reply(
    "VASP 4 without symbols anywhere",
    ["unknown_element"],
    """my structure
1.0
2.9 0 0
0 2.9 0
0 0 2.9
1 1
Direct
0 0 0
0.5 0.5 0.5
""",
)
reply(
    "CONTCAR with velocities",
    ["Al1 Fe1"],
    """```
FeAl
   1.00000000000000
     2.9090000000000000    0.0000000000000000    0.0000000000000000
     0.0000000000000000    2.9090000000000000    0.0000000000000000
     0.0000000000000000    0.0000000000000000    2.9090000000000000
   Fe   Al
     1     1
Direct
  0.0000000000000000  0.0000000000000000  0.0000000000000000
  0.5000000000000000  0.5000000000000000  0.5000000000000000

  0.00000000E+00  0.00000000E+00  0.00000000E+00
  0.00000000E+00  0.00000000E+00  0.00000000E+00
```""",
)
reply(
    "three structures in one fence, the second miscounted",
    ["Na1 Cl1", "count_mismatch", "K1 Br1"],
    """```
NaCl
1.0
0 2.82 2.82
2.82 0 2.82
2.82 2.82 0
Na Cl
1 1
direct
0 0 0
0.5 0.5 0.5

KCl
1.0
0 3.15 3.15
3.15 0 3.15
3.15 3.15 0
K Cl
1 2
direct
0 0 0
0.5 0.5 0.5

KBr
1.0
0 3.3 3.3
3.3 0 3.3
3.3 3.3 0
K Br
1 1
direct
0 0 0
0.5 0.5 0.5
```""",
)
reply(
    "a numbered list of indented POSCARs",
    ["Na1 Cl1", "Rb1 Cl1"],
    """1. **NaCl** (rock salt)

   ```
   NaCl
   1.0
   0 2.82 2.82
   2.82 0 2.82
   2.82 2.82 0
   Na Cl
   1 1
   direct
   0 0 0
   0.5 0.5 0.5
   ```

2. **RbCl**

   ```
   RbCl
   1.0
   0 3.3 3.3
   3.3 0 3.3
   3.3 3.3 0
   Rb Cl
   1 1
   direct
   0 0 0
   0.5 0.5 0.5
   ```
""",
)
reply(
    "cut inside a fence after all counts are known",
    ["truncated"],
    "```\nNaCl\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 0.",
)
reply(
    "Windows line ends, tabs and typographic minus signs",
    ["Ti2 O4"],
    "TiO2\r\n1.0\r\n4.594\t0\t0\r\n0\t4.594\t0\r\n0\t0\t2.959\r\nTi\tO\r\n2\t4\r\nDirect\r\n0\t0\t0\r\n0.5\t0.5\t0.5\r\n"
    "0.305\t0.305\t0\r\n\u22120.305\t\u22120.305\t0\r\n0.195\t\u20130.195\t0.5\r\n\u22120.195\t0.195\t0.5\r\n",
)
reply(
    "coordinates outside the cell",
    ["Cs1 Cl1"],
    "CsCl\n1.0\n4.12 0 0\n0 4.12 0\n0 0 4.12\nCs Cl\n1 1\ndirect\n-1.0 2.0 0.0 Cs\n1.5 -0.5 3.5 Cl\n",
)
reply(
    "decimal commas",
    ["bad_poscar"],
    "CsCl\n1,0\n4,12 0,0 0,0\n0,0 4,12 0,0\n0,0 0,0 4,12\nCs Cl\n1 1\ndirect\n0,0 0,0 0,0 Cs\n0,5 0,5 0,5 Cl\n",
)
reply(
    "a comment behind every line",
    ["Cs1 Cl1"],
    """```
CsCl            # comment
1.0             # scaling factor
4.12 0 0        # a
0 4.12 0        # b
0 0 4.12        # c
Cs Cl           # elements
1 1             # counts
direct          # mode
0 0 0 Cs        # corner
0.5 0.5 0.5 Cl  # centre
```""",
)
reply(
    "an explanation in parentheses behind each line",
    ["Cs1 Cl1"],
    """CsCl
1.0
4.12 0 0 (a)
0 4.12 0 (b)
0 0 4.12 (c)
Cs Cl
1 1
direct
0 0 0
0.5 0.5 0.5
""",
)
reply(
    "labels behind the sites in another order than the counts",
    ["count_mismatch"],
    "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\ndirect\n0 0 0 Cl\n0.5 0.5 0.5 Na\n",
)
reply(
    "an element that is none",
    ["unknown_element"],
    "```\nJq2O\n1.0\n4 0 0\n0 4 0\n0 0 4\nJq O\n2 1\ndirect\n0 0 0\n0.5 0.5 0.5\n0.25 0.25 0.25\n```",
)
reply(
    "Wyckoff text of three, one with an impossible multiplicity",
    ["Na1 Cl1", "count_mismatch", "Ti2 O4"],
    """```
space group 225 Fm-3m
a = 5.6402
Na 4a
Cl 4b
```
```
space group 225 Fm-3m
a = 5.6402
Na 4a
Cl 6b
```
```
space group 136 P4_2/mnm
a = 4.5937
c = 2.9587
Ti 2a
O 4f x=0.3053
```""",
)
reply(
    "Wyckoff text in Markdown, the group by name",
    ["Zn2 S2"],
    """### Wurtzite ZnS

- **Space group:** P6_3mc (No. 186)
- **Lattice parameters:** a = b = 3.82 Å, c = 6.26 Å, α = β = 90°, γ = 120°

| Atom | Wyckoff | x | y | z |
|------|---------|-----|-----|-----|
| Zn | 2b | 1/3 | 2/3 | 0 |
| S | 2b | 1/3 | 2/3 | 0.375 |

Each Zn is tetrahedrally coordinated.""",
)
reply(
    "Wyckoff text whose number and symbol name two groups",
    ["bad_wyckoff"],
    "space group 221 Fm-3m\na = 5.64\nNa 4a\nCl 4b\n",
)
reply(
    "Wyckoff text without a parameter that is free",
    ["bad_wyckoff"],
    "Here:\n\nspace group 194 P6_3/mmc\na = 3.2\nMg 2c\n\nThat is all.",
)
reply(
    "a space group and sites in prose, the crystal itself as POSCAR",
    ["Cs1 Cl1"],
    """**Space group:** Pm-3m (No. 221)
**Lattice parameter:** a = 4.12 Å
**Atomic positions:** Cs at (0, 0, 0) and Cl at (1/2, 1/2, 1/2)

```
CsCl
1.0
4.12 0 0
0 4.12 0
0 0 4.12
Cs Cl
1 1
direct
0 0 0
0.5 0.5 0.5
```
""",
)
reply(
    "the same reply twice",
    ["Cs1 Cl1", "Cs1 Cl1"],
    2 * "CsCl\n1.0\n4.12 0 0\n0 4.12 0\n0 0 4.12\nCs Cl\n1 1\ndirect\n0 0 0 Cs\n0.5 0.5 0.5 Cl\n\n",
)
reply(
    "all three formats, one crystal each",
    ["Cs1 Cl1", "Na1 Cl1", "K1 Cl1", "Rb1 Cl1"],
    """1) POSCAR
```
CsCl
1.0
4.12 0 0
0 4.12 0
0 0 4.12
Cs Cl
1 1
direct
0 0 0
0.5 0.5 0.5
```
2) Symmetry
```
space group 225
a = 5.64
Na 4a
Cl 4b
```
3) JSON
{"lattice": {"a": 4.45, "b": 4.45, "c": 4.45, "alpha": 60, "beta": 60, "gamma": 60}, "species": ["K", "Cl"],
 "coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}
4) CIF
```
data_RbCl
_cell_length_a 4.65
_cell_length_b 4.65
_cell_length_c 4.65
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
loop_
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Rb 0 0 0
Cl 0.5 0.5 0.5
```
""",
)
reply("a refusal", ["no_structure"], "I'm sorry, but I can't generate crystal structures without more information.")
reply(
    "Python with pymatgen instead of a crystal",
    ["no_structure"],
    """```python
from pymatgen.core import Structure, Lattice
lattice = Lattice.cubic(5.64)
structure = Structure.from_spacegroup("Fm-3m", lattice, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
print(structure)
```""",
)
reply(
    "pymatgen's own dictionary",
    ["Cs1 Cl1"],
    """{"@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0, "lattice": {"matrix": [[4.12, 0, 0],
 [0, 4.12, 0], [0, 0, 4.12]], "pbc": [true, true, true], "a": 4.12, "b": 4.12, "c": 4.12, "alpha": 90.0, "beta": 90.0,
 "gamma": 90.0, "volume": 69.9},
 "sites": [{"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0], "xyz": [0, 0, 0],
 "label": "Cs"}, {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5],
 "xyz": [2.06, 2.06, 2.06], "label": "Cl", "properties": {}}]}""",
)
reply(
    "ions in the species line, counts with a decimal point",
    ["bad_poscar"],
    "MgO\n1.0\n0 2.1 2.1\n2.1 0 2.1\n2.1 2.1 0\nMg2+ O2-\n1.0 1.0\ndirect\n0 0 0\n0.5 0.5 0.5\n",
)
reply(
    "ions in the species line",
    ["Mg1 O1"],
    "MgO\n1.0\n0 2.1 2.1\n2.1 0 2.1\n2.1 2.1 0\nMg2+ O2-\n1 1\ndirect\n0 0 0 Mg2+\n0.5 0.5 0.5 O2-\n",
)
reply(
    "sites in groups with a blank line between them",
    ["Mg1 O1"],
    "```\nMgO\n1.0\n0 2.1 2.1\n2.1 0 2.1\n2.1 2.1 0\nMg O\n1 1\ndirect\n0 0 0 Mg\n\n0.5 0.5 0.5 O\n```",
)
reply(
    "an ellipsis instead of the sites",
    ["count_mismatch"],
    "```\nMgO\n1.0\n4.2 0 0\n0 4.2 0\n0 0 4.2\nMg O\n4 4\ndirect\n0 0 0 Mg\n...\n0.5 0.5 0.5 O\n```",
)
reply(
    "the lattice as lengths and angles in a POSCAR",
    ["bad_poscar"],
    "```\nMgO\n1.0\n4.2 4.2 4.2\n90 90 90\nMg O\n1 1\ndirect\n0 0 0 Mg\n0.5 0.5 0.5 O\n```",
)
reply(
    "JSON whose counts do not fit",
    ["count_mismatch"],
    '{"lattice": [4.2, 4.2, 4.2, 90, 90, 90], "species": ["Mg", "Mg", "O"], "frac_coords": [[0,0,0],[0.5,0.5,0.5]]}',
)
reply(
    "JSON with Wyckoff letters instead of all atoms",
    ["Na1 Cl1"],
    '{"space_group": 225, "lattice": {"a": 5.64, "b": 5.64, "c": 5.64, "alpha": 90, "beta": 90, "gamma": 90},'
    ' "sites": [{"element": "Na", "wyckoff": "4a", "frac_coords": [0, 0, 0]},'
    ' {"element": "Cl", "wyckoff": "4b", "frac_coords": [0.5, 0.5, 0.5]}]}',
)
reply(
    "JSON with Wyckoff letters of another group",
    ["count_mismatch"],
    '{"space_group": {"number": 221, "symbol": "Pm-3m"}, "lattice": [4.12, 4.12, 4.12, 90, 90, 90],'
    ' "sites": [{"element": "Cs", "wyckoff": "4a"}, {"element": "Cl", "wyckoff": "1b"}]}',
)
reply(
    "JSON with all atoms and their Wyckoff letters",
    ["Ti2 O4"],
    '{"space_group": "P4_2/mnm", "lattice": [4.594, 4.594, 2.959, 90, 90, 90], "sites": ['
    '{"element": "Ti", "wyckoff": "2a", "abc": [0, 0, 0]},'
    '{"element": "Ti", "wyckoff": "2a", "abc": [0.5, 0.5, 0.5]},'
    '{"element": "O", "wyckoff": "4f", "abc": [0.305, 0.305, 0]},'
    '{"element": "O", "wyckoff": "4f", "abc": [0.695, 0.695, 0]},'
    '{"element": "O", "wyckoff": "4f", "abc": [0.195, 0.805, 0.5]},'
    '{"element": "O", "wyckoff": "4f", "abc": [0.805, 0.195, 0.5]}]}',
)
reply(
    "JSON with an orbit and its free coordinate",
    ["Ti2 O4"],
    '{"spacegroup": 136, "lattice": {"a": 4.594, "c": 2.959}, "sites": [{"element": "Ti", "wyckoff": "2a"},'
    ' {"element": "O", "wyckoff": "4f", "x": 0.305}]}',
)
reply(
    "JSON with bare letters",
    ["Ti2 O4"],
    '{"spacegroup": 136, "lattice": {"a": 4.594, "c": 2.959}, "sites": [{"element": "Ti", "wyckoff": "a"},'
    ' {"element": "O", "wyckoff": "f", "x": 0.305}]}',
)
reply(
    "XML-like tags round every crystal",
    ["Mg1 O1", "Ca1 O1"],
    "<structure id=1>\nMgO\n1.0\n0 2.1 2.1\n2.1 0 2.1\n2.1 2.1 0\nMg O\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n</structure>\n"
    "<structure id=2>\nCaO\n1.0\n0 2.4 2.4\n2.4 0 2.4\n2.4 2.4 0\nCa O\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n</structure>",
)


CSCL = """CsCl
1.0
4.12 0 0
0 4.12 0
0 0 4.12
Cs Cl
1 1
direct
0 0 0 Cs
0.5 0.5 0.5 Cl
"""
DRAFT = CSCL.replace("Cs", "K").replace("4.12", "3.9")
ROCKSALT = """_symmetry_space_group_name_H-M 'F m -3 m'
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
Cl1 0.5 0.5 0.5
"""
SYLVITE = ROCKSALT.replace("5.64", "6.29").replace("Na1", "K1")
ATOMS = '"species": ["Cs", "Cl"], "coords": [[0, 0, 0], [0.5, 0.5, 0.5]]'
CELL = '"lattice": [4.12, 4.12, 4.12, 90, 90, 90]'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Thoughts, as the templates of several models mark them.
        (
            f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{CSCL}",
            ["Cs1 Cl1"],
        ),
        (f"<|channel|>analysis<|message|>{DRAFT}", ["truncated"]),
        (f"\u25c1think\u25b7{DRAFT}\u25c1/think\u25b7{CSCL}", ["Cs1 Cl1"]),
        (f"<seed:think>{DRAFT}</seed:think>{CSCL}", ["Cs1 Cl1"]),
        # A CIF without its first line keeps its space group, and so does the next one.
        (ROCKSALT, ["Na4 Cl4"]),
        (f"_chemical_formula_sum 'Na1 Cl1'\n{ROCKSALT}", ["Na4 Cl4"]),
        (f"{ROCKSALT}{SYLVITE}", ["Na4 Cl4", "K4 Cl4"]),
        (f"{ROCKSALT}\nAnother one:\n\n{SYLVITE}\nThat is all.", ["Na4 Cl4", "K4 Cl4"]),
        (f"loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x,y+1/2,z+1/2'\n{ROCKSALT}", ["Na2 Cl2"]),
        (ROCKSALT + ROCKSALT[ROCKSALT.index("loop_") :].replace("Na1", "K1"), ["bad_cif"]),
        (ROCKSALT.replace("_cell_length_b", "_cell_length_a 5.7\n_cell_length_b"), ["bad_cif"]),
        (ROCKSALT.replace("a 5.64", "a 5.64 \u00c5"), ["bad_cif"]),
        (ROCKSALT.replace("_", "\\_"), ["Na4 Cl4"]),
        # Slips of a POSCAR.
        (f"---\n{CSCL}---\nDone", ["Cs1 Cl1"]),
        (f"POSCAR:\n{CSCL}=====\n{DRAFT}", ["Cs1 Cl1", "K1 Cl1"]),
        (CSCL.replace("direct", "Direct configuration=     1"), ["Cs1 Cl1"]),
        (CSCL.replace("direct", "Direct:"), ["Cs1 Cl1"]),
        (CSCL.replace("direct", "C").replace("0.5 0.5 0.5", "2.06 2.06 2.06"), ["Cs1 Cl1"]),
        (CSCL.replace("0.5 0.5 0.5", "\u00bd \u00bd \u00bd"), ["Cs1 Cl1"]),
        (CSCL.replace("Cs Cl\n", "Cs\u207a Cl\u207b\n"), ["Cs1 Cl1"]),
        (CSCL.replace("Cs Cl\n", "Cs, Cl\n").replace("1 1", "1, 1"), ["Cs1 Cl1"]),
        (CSCL.replace("1.0\n", "1.0 \u00c5\n", 1), ["bad_poscar"]),
        (CSCL.replace("Cs Cl\n1 1", "Cs1 Cl1"), ["bad_poscar"]),
        (CSCL.replace("Cs Cl\n1 1", "Cs 1 Cl 1"), ["bad_poscar"]),
        # Numbers of JSON in other clothes.
        ('{"lattice": [4.12, 4.12, 4.12], "angles": [90, 90, 90], ' + ATOMS + "}", ["Cs1 Cl1"]),
        ('{"lattice": {"lengths": [4.12, 4.12, 4.12], "angles": [90, 90, 90]}, ' + ATOMS + "}", ["Cs1 Cl1"]),
        ('{"lattice": ["4.12 \u00c5", "4.12", "4.12", "90\u00b0", "90", 90], ' + ATOMS + "}", ["Cs1 Cl1"]),
        ("{" + CELL + ", " + ATOMS.replace("0.5, 0.5, 0.5", '1/2, "1/2", 0.5') + "}", ["Cs1 Cl1"]),
        ("{" + CELL + ", " + ATOMS.replace("0.5, 0.5, 0.5", '"half", 0.5, 0.5') + "}", ["bad_json"]),
        ("{" + CELL + ", " + ATOMS.replace('["Cs", "Cl"]', '{"Cs": 1, "Cl": 1}') + "}", ["Cs1 Cl1"]),
        ("{" + CELL + ", " + ATOMS.replace('["Cs", "Cl"]', '{"Cs": 1, "Cl": 2}') + "}", ["count_mismatch"]),
        ("{" + CELL + ', "sites": ["Cs 0 0 0", "Cl 0.5 0.5 0.5"]}', ["bad_json"]),
        # Wyckoff texts.
        ("Space group: #225\na: 5.64 \u00c5\nNa: Wyckoff 4a (0, 0, 0)\nCl1 (4b): 1/2, 1/2, 1/2\n", ["Na1 Cl1"]),
        ("Space group: 225\na = 5.64\n4a Na\n4b: Cl\n", ["Na1 Cl1"]),
        ("Space group\uff1aP4\\_2/mnm\uff08136\uff09\na = 4.594\nc = 2.959\nTi 2a\nO 4f x = 0.305\n", ["Ti2 O4"]),
        ("space group 225\na = 5.64\nNa 4a\nthen\nthe\nother\none\nCl 4b\n", ["bad_wyckoff"]),
        ("space group 225\nFormula: NaCl\na = 5.64\nNa 4a\nCl 4b\n", ["Na1 Cl1"]),
        ("space group 225\nComposition: Na4Cl8\na = 5.64\nNa 4a\nCl 4b\n", ["count_mismatch"]),
        ("Space group: 225\na = 5.64\nNa 4a m-3m 0 0 0\nCl 4b m-3m 0.5 0.5 0.5\n", ["bad_wyckoff"]),
        (
            '{"space_group": 225, "a": 5.64, "orbits": [{"element": "Na", "site": "4a"},'
            ' {"element": "Cl", "site": "4b"}]}',
            ["Na1 Cl1"],
        ),
    ],
)
def test_slips_change_no_crystal_and_faults_have_their_reason(text, found):
    entries = parse_reply(text)
    assert [e.reason if isinstance(e, Rejection) else e.composition.formula for e in entries] == found


@pytest.mark.parametrize(("found", "text"), REPLIES.values(), ids=REPLIES.keys())
def test_a_reply_holds_what_a_reader_finds_in_it(found, text):
    entries = parse_reply(text)
    assert [e.reason if isinstance(e, Rejection) else e.composition.formula for e in entries] == found
