"""What the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import pandas as pd
from pymatgen.core import Structure
from scripted_campaign import poscar

from matsearch.config import load_config
from matsearch.crystal.text import to_cif

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_campaign_in_the_readme_is_valid(tmp_path):
    (toml,) = blocks("toml")
    path = tmp_path / "oxides.toml"
    path.write_text(toml)
    assert [one.name for one in load_config(path).objectives] == ["energy_above_hull", "bulk_modulus"]


def test_the_python_in_the_readme_runs(capsys):
    exec(compile("\n".join(blocks("python")), "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "bulk_modulus" in out and "msun 0 of 2 proposed" in out


def test_the_evaluations_in_the_readme_run(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    cif = to_cif(Structure.from_str(poscar("NaCl", 4.2, ("Mg", "O")), fmt="poscar"))
    pd.DataFrame({"cif": [cif]}).to_csv("made.csv", index=False)
    Path("cifs").mkdir()
    Path("cifs", "MgO.cif").write_text(cif)
    (lines,) = [block.splitlines() for block in blocks("bash") if "matsearch evaluate" in block]
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["matsearch", "evaluate"] and command(*words[1:])[0] == 0, line
    assert Path("out.json").is_file() and Path("lemat", "structures.csv").is_file()
