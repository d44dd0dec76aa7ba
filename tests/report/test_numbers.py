"""Every number of the page is that of a query on the store, asked here anew."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from large_run import make_large_run

from matsearch.crystal.text import from_json
from matsearch.metrics.discovery import wilson_interval
from matsearch.report.front import front
from matsearch.report.packed import PLACES, unpack
from matsearch.report.page import write_report
from matsearch.store import RunStore


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A store of 300 candidates, its page, and the data in the page."""
    run_dir = make_large_run(tmp_path_factory.mktemp("numbers") / "run", 300, seeds=20)
    with RunStore(run_dir, writable=False) as store:
        text = write_report(store).read_text(encoding="utf-8")
        yield store, text, unpack(re.search(r'id="data">(.*?)</script>', text)[1])


def one(store, sql, *values):
    return store.row(sql, *values)[0]


def test_columns_of_the_table_are_those_of_the_store(reported):
    store, _, data = reported
    columns = data["columns"]
    for name in ("id", "generation", "stage", "reason", "energy_above_hull", "duplicate_of", "matched_known", "name"):
        assert columns[name] == [row[0] for row in store.rows(f"SELECT {name} FROM candidates ORDER BY id")], name
    assert columns["parents"] == [
        json.loads(row[0]) for row in store.rows("SELECT parents FROM candidates ORDER BY id")
    ]
    scores = dict(store.rows("SELECT candidate_id, value FROM scores WHERE objective = 'bulk_modulus'"))
    assert columns["bulk_modulus"] == [scores.get(number) for number in columns["id"]]
    relaxed = "SELECT r.{} FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
    for name in ("n_steps", "energy", "max_force", "converged"):
        assert columns[name] == [row[0] for row in store.rows(relaxed.format(name))], name


def test_crystals_in_the_page_are_those_of_the_store(reported):
    store, text, data = reported
    blocks = [unpack(block) for block in re.findall(r'class="block">(.*?)</script>', text)]
    rows = store.rows(
        "SELECT c.id, c.structure AS proposed, r.structure AS relaxed FROM candidates c "
        "LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
    )
    for row, block, n_atoms, volume in zip(
        rows, *(data["columns"][name] for name in ("block", "n_atoms", "volume")), strict=True
    ):
        found = blocks[block]["candidates"][str(row["id"])]
        for side in ("proposed", "relaxed"):
            assert (found[side] is None) == (row[side] is None)
            if row[side] is None:
                continue
            structure = from_json(row[side])
            lattice, runs, coords = found[side]
            assert np.allclose(np.array(lattice) / 10**PLACES, structure.lattice.matrix.ravel(), atol=1e-5)
            assert np.allclose(np.array(coords) / 10**PLACES, structure.frac_coords.ravel(), atol=1e-5)
            species = [s for s, n in zip(runs[::2], runs[1::2], strict=True) for _ in range(n)]
            assert species == [site.specie.symbol for site in structure]
        shown = row["relaxed"] or row["proposed"]
        if shown is not None:
            assert n_atoms == len(from_json(shown))
            assert volume == pytest.approx(from_json(shown).volume / n_atoms)


NEW = "duplicate_of IS NULL AND matched_known IS NULL AND add_status IS NOT NULL"


@pytest.mark.parametrize(
    ("title", "where", "of"),
    [
        ("Metastable, unique and novel", f"energy_above_hull <= 0.1 AND {NEW}", "proposed"),
        ("Stable, unique and novel", f"energy_above_hull <= 0.001 AND {NEW}", "proposed"),
        ("Metastable", "energy_above_hull <= 0.1", "proposed"),
        ("Stable", "energy_above_hull <= 0.001", "proposed"),
    ],
)
def test_headline_numbers_and_intervals(reported, title, where, of):
    store, text, _ = reported
    total = one(store, "SELECT COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL")
    count = one(
        store,
        "SELECT COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL AND stage = 'scored' "
        f"AND energy_above_hull >= -0.1 AND {where}",
    )
    low, high = wilson_interval(count, total)
    tile = text[text.index(f"<h3>{title}</h3>") :]
    assert f"<b>{count} <small>of {total} {of}</small></b>" in tile[:200]
    assert f"{100 * count / total:.1f} % <span>({100 * low:.1f} % to {100 * high:.1f} %)</span>" in tile[:600]


def test_the_funnel_and_its_reasons(reported):
    store, text, _ = reported
    for row in store.rows(
        "SELECT reason, COUNT(*) AS n FROM candidates WHERE proposal_id IS NOT NULL AND reason IS NOT NULL "
        "GROUP BY reason"
    ):
        assert re.search(rf"{row['reason']} {row['n']}\b", text)
    scored = one(store, "SELECT COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL AND stage = 'scored'")
    assert f'<tr><td>scored</td><td class="n">{scored}</td>' in text


def test_what_each_operator_gave(reported):
    store, text, _ = reported
    rows = store.rows(
        "SELECT operator, COUNT(*) AS n, SUM(stage = 'scored') AS scored, SUM(stage = 'scored' AND "
        "energy_above_hull BETWEEN -0.1 AND 0.1) AS metastable, MIN(CASE WHEN stage = 'scored' AND "
        "energy_above_hull >= -0.1 THEN energy_above_hull END) AS best "
        "FROM candidates WHERE proposal_id IS NOT NULL AND operator IN ('mutate', 'crossover') GROUP BY operator"
    )
    assert len(rows) == 2
    for row in rows:
        (line,) = re.findall(rf"<tr><td>{row['operator']}</td>(.*?)</tr>", text)
        cells = re.findall(r'<td class="n">(.*?)</td>', line)
        assert cells[0] == str(row["n"])
        assert cells[2:4] == [str(row["scored"]), str(row["metastable"])]
        assert cells[5] == f"{row['best']:.3f}".replace("-", "−")


def test_sums_of_what_was_spent(reported):
    store, text, _ = reported
    for sql in ("SELECT COUNT(*) FROM replies", "SELECT SUM(prompt_tokens) FROM replies"):
        assert f'<td class="n">{one(store, sql):,}</td>' in text
    assert f'<td class="n">{one(store, "SELECT SUM(seconds) FROM relaxations"):,.1f}</td>' in text
    assert f'<td class="n">{one(store, "SELECT SUM(n_steps) FROM relaxations"):,}</td>' in text


def test_progress_ends_in_what_was_found(reported):
    store, _, data = reported
    progress = data["progress"]
    assert progress["n_metastable"][-1] == one(
        store,
        "SELECT COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL AND stage = 'scored' "
        "AND energy_above_hull BETWEEN -0.1 AND 0.1",
    )
    assert progress["best"][-1] == one(
        store, "SELECT MIN(energy_above_hull) FROM candidates WHERE stage = 'scored' AND proposal_id IS NOT NULL"
    )
    assert len(progress["id"]) == one(
        store,
        "SELECT COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL AND stage IN ('relax', 'score', 'scored')",
    )


def test_nothing_dominates_the_front_and_the_hypervolume_only_grows(reported):
    store, _, data = reported
    columns, found = data["columns"], data["front"]
    points = {
        row["id"]: (max(0.0, row["energy_above_hull"]), row["value"])
        for row in store.rows(
            "SELECT c.id, c.energy_above_hull, s.value FROM candidates c JOIN scores s ON s.candidate_id = c.id "
            "WHERE s.objective = 'bulk_modulus' AND c.stage = 'scored' AND c.proposal_id IS NOT NULL "
            "AND c.duplicate_of IS NULL"
        )
    }
    expected = {
        number
        for number, (energy, bulk) in points.items()
        if not any(e <= energy and b >= bulk and (e, b) != (energy, bulk) for e, b in points.values())
    }
    assert set(found["ids"]) == expected
    assert found["goals"] == ["energy_above_hull", "bulk_modulus"]
    metastable = [
        number for number, flags in zip(columns["id"], columns["flags"], strict=True) if "metastable" in flags
    ]
    assert found["curve_ids"] == metastable
    assert found["reference"]["energy_above_hull"] == 0.1
    bulks = dict(zip(columns["id"], columns["bulk_modulus"], strict=True))
    assert found["reference"]["bulk_modulus"] == min(bulks[number] for number in metastable)
    assert np.all(np.diff(found["curve"]) >= 0)
    first = metastable[0]
    energy = max(0.0, columns["energy_above_hull"][first])
    assert found["curve"][0] == pytest.approx((0.1 - energy) * (bulks[first] - found["reference"]["bulk_modulus"]))


def test_one_goal_has_no_front(run_dir):
    from matsearch.report.best import goals_of
    from matsearch.report.frame import candidates_frame

    with RunStore(run_dir, writable=False) as store:
        assert front(candidates_frame(store), goals_of(store)[:1]) is None
