"""What the README shows works as it stands there."""

import re
from pathlib import Path

from matsearch.config import load_config

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_campaign_in_the_readme_is_valid(tmp_path):
    (toml,) = blocks("toml")
    path = tmp_path / "oxides.toml"
    path.write_text(toml)
    assert [one.name for one in load_config(path).objectives] == ["energy_above_hull", "bulk_modulus"]


def test_the_python_in_the_readme_runs(capsys):
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "bulk_modulus" in capsys.readouterr().out
