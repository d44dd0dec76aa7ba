"""What other potentials say stands beside what the search's own does."""

from __future__ import annotations

import json
import re

from small_run import fill, make_store

from matsearch.report.judges import judged
from matsearch.report.packed import unpack
from matsearch.report.page import write_report
from matsearch.store import RunStore

FINALISTS = [
    {"preset": "matsearch", "seed": 0, "id": 9, "formula": "TiO", "own": 0.02, "other": 0.03},
    {"preset": "matsearch", "seed": 0, "id": 10, "formula": "VO", "own": 0.0, "other": "untrained_element"},
    {"preset": "matsearch", "seed": 0, "id": 11, "formula": "FeO", "own": 0.05, "other": 0.01},  # another crystal
    {"preset": "matsearch", "seed": 1, "id": 10, "formula": "VO", "own": 0.0, "other": 0.02},  # another run
]


def test_a_column_a_judge_for_what_was_judged(tmp_path):
    run_dir = make_store(tmp_path / "matsearch" / "seed-0")
    with RunStore(run_dir, writable=True) as store:
        fill(store)
        assert judged(store) == {}
        (tmp_path / "judges.json").write_text(json.dumps({"judges": {"other": {}}, "finalists": FINALISTS}))
        assert judged(store) == {"other": {9: 0.03}}
        text = write_report(store).read_text(encoding="utf-8")
    data = unpack(re.search(r'id="data">(.*?)</script>', text)[1])
    column = dict(zip(data["columns"]["id"], data["columns"]["energy_above_hull:other"], strict=True))
    assert column[9] == 0.03
    assert column[10] is None
    assert {"name": "energy_above_hull:other", "unit": "eV/atom"} in data["objectives"]


def test_a_broken_file_of_judges_is_no_judge(run_dir):
    (run_dir.parent.parent / "judges.json").write_text("{")
    with RunStore(run_dir, writable=False) as store:
        assert judged(store) == {}
    (run_dir.parent.parent / "judges.json").unlink()
