"""A campaign with the long-range potential, from its own hull of a few phases to the report."""

import json

import numpy as np
from pymatgen.core import Lattice, Structure

import matsearch as ms
from matsearch.reference import load_reference
from matsearch.store import RunStore

NAME = "matsearch-lr"
PHASES = {
    "Li": ("Im-3m", (3.44, 3.44), ["Li"], [[0, 0, 0]]),
    "Mg": ("Fm-3m", (4.51, 4.51), ["Mg"], [[0, 0, 0]]),
    "Ti": ("Fm-3m", (4.10, 4.10), ["Ti"], [[0, 0, 0]]),
    "O": ("P4/mmm", (3.4, 4.4), ["O"], [[0, 0, 0.14]]),
    "MgO": ("Fm-3m", (4.25, 4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "Li2O": ("Fm-3m", (4.66, 4.66), ["O", "Li"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "TiO": ("Fm-3m", (4.28, 4.28), ["Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
}


def test_a_campaign_relaxes_scores_and_reports_with_charges(write_campaign, command, tmp_path):
    known = tmp_path / "known"
    known.mkdir()
    for name, (group, (a, c), species, sites) in PHASES.items():
        crystal = Structure.from_spacegroup(group, Lattice.tetragonal(a, c), species, sites)
        crystal.get_primitive_structure().to(str(known / f"{name}.cif"))
    hull = tmp_path / "hull"
    status, _, err = command("reference", "build", "--from", known, "--potential", NAME, "--out", hull)
    assert status == 0, err
    assert load_reference(NAME, hull).energy_scale == "mp2020"

    more = f'[potential]\nname = "{NAME}"\n[reference]\npath = "{hull}"\n'
    run_dir = tmp_path / "run"
    status, _, err = command("run", write_campaign(more=more), "--run-dir", run_dir)
    assert status == 0, err
    frame = ms.Campaign.open(run_dir).candidates()
    scored = frame[frame.stage == "scored"]
    assert len(scored) >= 3 and np.isfinite(scored.energy_above_hull.astype(float)).all()
    weights = json.loads((run_dir / "resolved.json").read_text())["weights"]
    assert set(weights[NAME]) == {"model.json", "weights.safetensors"}
    with RunStore(run_dir, writable=False) as store:
        relaxed = [json.loads(row["structure"]) for row in store.rows("SELECT structure FROM relaxations")]
    assert relaxed and all(abs(sum(one["charges"])) < 1e-3 for one in relaxed)
    assert (run_dir / "report.html").is_file()
