"""Leaderboards: like beside like, numbers that are those of the runs, hostile text shown as text."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from small_run import HOSTILE, fill, make_store

from matsearch.errors import ConfigError, InputError
from matsearch.metrics.comparison import interval
from matsearch.metrics.discovery import summarise
from matsearch.metrics.hypervolume import found_volume
from matsearch.report.best import goals_of
from matsearch.report.frame import candidates_frame
from matsearch.report.leaderboard import make_board
from matsearch.report.leaderboard_page import html, markdown, table_csv
from matsearch.report.leaderboard_records import (
    PublishedTable,
    RunRecord,
    published_records,
    read_records,
    write_records,
)
from matsearch.report.leaderboard_runs import collect, record_of, without_folder
from matsearch.store import RunStore

POINT = {"energy_above_hull": 0.1, "bulk_modulus": 50.0}


@pytest.fixture
def run_dir(tmp_path):
    """A run folder where `matsearch compare` would put it, with a reference point."""
    made = make_store(tmp_path / "matsearch" / "seed-0", reference_hash="a" * 32, reference_point=json.dumps(POINT))
    with RunStore(made, writable=True) as store:
        fill(store)
    return made


@pytest.fixture
def record(run_dir) -> RunRecord:
    with RunStore(run_dir, writable=False) as store:
        return record_of(store)


def changed(record: RunRecord, **changes) -> RunRecord:
    """The record with other values, by dotted path with `__`; checked like any."""
    content = record.model_dump()
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = content
        for one in parents:
            place = place[one]
        place[last] = value
    return RunRecord.model_validate(content)


def with_msun(record: RunRecord, n: int, **changes) -> RunRecord:
    at = tuple((2 * number + 1, number + 1) for number in range(n))
    counts = dict.fromkeys(record.counts.model_dump(), 0) | dict.fromkeys(
        ["proposed", "parsed", "valid", "new", "relaxed", "scored", "metastable"], 100
    )
    standing = {"msun_at": at, "prototypes_at": at[:1], "front": (), "cost__relaxations": 100}
    return changed(record, counts={**counts, "msun": n}, **standing, **changes)


def test_a_record_holds_the_numbers_of_its_run(run_dir, record):
    with RunStore(run_dir, writable=False) as store:
        frame, goals = candidates_frame(store), goals_of(store)
    counts = summarise(frame)["counts"]
    assert all(getattr(record.counts, name) == counts[name] for name in type(record.counts).model_fields)
    assert record.counts.msun == 3 == len(record.prototypes_at) + 2  # three rock salts
    assert record.msun_at == ((8, 3), (9, 4), (10, 5))  # of proposals 2 to 13; 7 to 12 were relaxed
    (table,) = make_board([record]).tables
    found = found_volume(frame, goals, POINT)
    assert found > 0
    assert table.lines[0].values["hypervolume"].mean == pytest.approx(found)
    low, high = next(
        (one["low"], one["high"])
        for one in summarise(frame)["rates"]
        if (one["name"], one["of"]) == ("msun", "proposed")
    )
    assert (table.lines[0].values["msun"].low, table.lines[0].values["msun"].high) == (low, high)


def test_records_come_back_from_their_file_as_they_were(tmp_path, record):
    write_records(tmp_path / "records.json", [record])
    assert read_records(tmp_path / "records.json").runs == (record,)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("counts__msun", 4),
        ("counts__parsed", 99),
        ("cost__hours", float("nan")),
        ("seed", -1),
        ("no_such_key", 1),
        ("judges", [{"judge": "x", "how": "", "heard": 2, "metastable": 3, "stable": 0, "refused": 0, "outside": 0}]),
    ],
)
def test_what_breaks_the_schema_is_refused(record, path, value):
    with pytest.raises(ValueError, match="validation error"):
        changed(record, **{path: value})


def test_a_broken_file_of_records_is_named(tmp_path):
    for text, what in [("{", "no JSON"), ("[" * 9999, "no JSON"), ('{"format": 2}', "format"), ("[]", "an object")]:
        (tmp_path / "records.json").write_text(text)
        with pytest.raises(InputError, match=what):
            collect([tmp_path])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("seed", "7", "runs.0.seed in records.json: Input should be a valid integer, got '7'"),
        ("cost__replies", True, "runs.0.cost.replies in records.json: Input should be a valid integer, got True"),
        (
            "cost__hours",
            -1.5,
            "runs.0.cost.hours in records.json: Input should be greater than or equal",
        ),
        ("counts__proposed", 10**400, "runs.0.counts.proposed in records.json: "),
        ("line\nbreak", [1], "runs.0.line break in records.json: Extra inputs are not permitted"),
    ],
)
def test_one_line_names_file_field_what_is_expected_and_what_came(record, tmp_path, monkeypatch, path, value, said):
    *parts, last = path.split("__")
    content = json.loads(record.model_dump_json())
    part = content
    for one in parts:
        part = part[one]
    part[last] = value
    monkeypatch.chdir(tmp_path)
    Path("records.json").write_text(json.dumps({"format": 1, "runs": [content]}))
    with pytest.raises(InputError) as told:
        read_records(Path("records.json"))
    assert str(told.value).startswith(said)
    assert len(str(told.value)) < 200 and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("protocol__judge", "another"),
        ("protocol__metastable", 0.05),
        ("protocol__stable", 0.0),
        ("protocol__matcher", "another"),
        ("protocol__relaxation", {"force_tol": 0.1, "max_steps": 500, "optimizer": "fire"}),
        ("protocol__reference", "b" * 32),
        ("protocol__space", {"max_atoms": 8}),
        ("protocol__hidden", 3),
    ],
)
def test_runs_whose_protocols_differ_stand_in_different_tables(record, path, value):
    other = changed(record, setup="other", **{path: value})
    board = make_board([record, other])
    assert len(board.tables) == 2
    assert len({table.hash for table in board.tables}) == len({table.protocol for table in board.tables}) == 2
    assert len(make_board([record, changed(record, setup="other")]).tables) == 1


def test_seeds_of_one_setup_are_one_line_with_the_interval_between_them(record):
    numbers = [20, 26, 23]
    runs = [with_msun(record, number, seed=seed) for seed, number in enumerate(numbers)]
    (table,) = make_board(runs).tables
    (line,) = table.lines
    mean, half = interval([number / 100 for number in numbers])
    value = line.values["msun"]
    assert (value.mean, value.high - value.mean) == pytest.approx((mean, half))
    assert line.seeds == [0, 1, 2]
    assert "23.0 ± 7.5 %" in markdown(make_board(runs))


def test_ranks_share_ties_and_weights_choose_the_first(record):
    runs = [
        with_msun(record, 30, setup="much", preset="much", cost__tokens=9000),
        with_msun(record, 20, setup="cheap", preset="cheap", cost__tokens=20),
        with_msun(record, 20, setup="none", preset="none", cost__tokens=None),
    ]
    (table,) = make_board(runs, weights={"msun": 1}).tables
    ranks = {line.title: line.ranks for line in table.lines}
    assert [ranks[one]["msun"] for one in ("much", "cheap", "none")] == [1, 2, 2]
    assert [ranks[one].get("tokens_per_msun") for one in ("much", "cheap", "none")] == [2, 1, None]
    assert [line.score for line in table.lines] == [1.0, 0.5, 0.5]
    (table,) = make_board(runs, weights={"msun": 0.5, "tokens_per_msun": 1}).tables
    assert [line.title for line in table.lines] == ["cheap", "much", "none"]
    assert [line.score for line in table.lines] == pytest.approx([(0.25 + 1) / 1.5, 1 / 1.5, 0.25 / 1.5])


@pytest.mark.parametrize("weights", [{"msum": 1.0}, {"msun": -1.0}, {"msun": 0.0}, {"msun": float("nan")}])
def test_weights_without_sense_are_refused(record, weights):
    with pytest.raises(ConfigError, match="weights"):
        make_board([record], weights=weights)


def test_equal_cost_is_that_of_the_run_that_ended_first(record):
    long = with_msun(record, 50, setup="long")
    short = changed(with_msun(record, 10, setup="short"), cost__relaxations=10)
    (table,) = make_board([long, short]).tables
    assert table.relaxations == 10
    assert [line.values["msun_at_equal_cost"].mean for line in table.lines] == [10, 10]


def test_hypervolumes_are_taken_at_equal_cost(run_dir, record):
    with RunStore(run_dir, writable=False) as store:
        frame, goals = candidates_frame(store), goals_of(store)
    early = changed(record, setup="early", cost__relaxations=3)
    (table,) = make_board([record, early]).tables
    expected = found_volume(frame[frame["id"] <= 9], goals, POINT)
    assert 0 < expected < found_volume(frame, goals, POINT)
    assert [line.values["hypervolume"].mean for line in table.lines] == pytest.approx([expected] * 2)


def test_what_judges_said_is_counted_where_it_fits_the_run(run_dir, tmp_path):
    finalists = [
        {"preset": "matsearch", "seed": 0, "id": 9, "formula": "TiO", "strict": 0.03, "mild": 0.0},
        {"preset": "matsearch", "seed": 0, "id": 10, "formula": "VO", "strict": 0.3, "mild": -0.2},
        {"preset": "matsearch", "seed": 0, "id": 11, "formula": "MnO", "strict": "untrained_element: Mn", "mild": 0.1},
        {"preset": "matsearch", "seed": 1, "id": 9, "formula": "TiO", "strict": 0.0, "mild": 0.0},
    ]
    path = tmp_path / "judges.json"
    path.write_text(json.dumps({"judges": {"strict": {"finalists": "relaxed"}, "mild": {}}, "finalists": finalists}))
    with RunStore(run_dir, writable=False) as store:
        said = {one.judge: (one.metastable, one.stable, one.heard, one.outside) for one in record_of(store).judges}
        assert said == {"strict": (1, 0, 2, 1), "mild": (2, 1, 3, 0), "all judges": (1, 0, 2, 1)}
        (table,) = make_board([record_of(store)], weights={"confirmed:strict": 1}).tables
        assert table.lines[0].values["confirmed:strict"].mean == pytest.approx(3 / 12 / 2)
        finalists[0]["formula"] = "FeO"
        path.write_text(json.dumps({"judges": {"strict": {}}, "finalists": finalists}))
        assert record_of(store).judges == ()


def test_unfinished_runs_are_left_out_and_a_later_run_replaces_an_earlier(run_dir, record, tmp_path):
    said: list[str] = []
    other = tmp_path / "matsearch" / "seed-1"
    shutil.copytree(run_dir, other)
    with RunStore(other, writable=True) as store:
        store.set_meta("status", "running")
    later = changed(record, created="2027-01-01T00:00:00+00:00")
    write_records(tmp_path / "more.json", [later])
    assert collect([tmp_path, tmp_path / "more.json"], said.append) == [later]
    assert any("seed-1" in line and "not finished" in line for line in said)
    assert any("later of two" in line for line in said)
    with pytest.raises(InputError, match="no finished run"):
        collect([other])


def test_no_record_holds_a_path_of_the_machine():
    assert without_folder("mace:/home/me/a.model") == "mace:a.model"
    assert without_folder("/home/me/b.py:Model+d3(pbe,bj)") == "b.py:Model+d3(pbe,bj)"
    assert without_folder("chgnet-0.3.0") == "chgnet-0.3.0"


def test_hostile_text_is_shown_as_text(record):
    evil = HOSTILE.replace("\x00", "") + "|`=1+1"
    run = changed(record, campaign=evil, preset=f"=cmd|{evil}", llms=[evil], protocol__judge=evil)
    table = {
        "title": evil,
        "judge": evil,
        "protocol": evil,
        "source": evil,
        "figures": [{"key": "a", "title": evil, "unit": evil}],
        "rows": [{"method": evil, "values": {"a": 1.0}}],
    }
    board = make_board([run], [PublishedTable.model_validate(table)])
    page = html(board)
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in page and "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    text = markdown(board)
    assert "<script" not in text and "<img" not in text and "\u202e" not in text
    assert {line.count(" | ") for line in text.splitlines() if line.startswith("|") and "seeds" not in line}
    rows = list(csv.DictReader(io.StringIO(table_csv(board))))
    assert [row["kind"] for row in rows] == ["search", "run", "published"]
    assert rows[0]["method"].startswith("'=cmd|")


def test_published_figures_name_judge_protocol_and_source():
    tables = published_records()
    assert len(tables) >= 5
    assert all(table.judge and table.protocol and table.source and table.rows for table in tables)
    figures = {table.title: {row.method: row.values for row in table.rows} for table in tables}
    assert figures["LeMat-GenBench"]["MatterGen"] == {"msun": 15.0}
    board = make_board([], tables)
    assert not board.tables
    (cspbench,) = [lines for table, lines in board.published if table.title == "CSPBench"]
    assert [(line.method, line.ranks["solved"]) for line in cspbench][:2] == [("CSPML", 1), ("TCSP", 2)]


def test_the_command_writes_a_board_and_goes_on_with_it(run_dir, tmp_path, command):
    out = tmp_path / "board"
    status, said, _ = command("leaderboard", run_dir, "--out", out, "--weights", "msun=1,sun=0.5")
    assert status == 0 and "score 1.00" in said
    assert sorted(one.name for one in out.iterdir()) == [
        "leaderboard.csv", "leaderboard.html", "leaderboard.md", "records.json",
    ]  # fmt: skip
    assert str(tmp_path) not in "".join(one.read_text(encoding="utf-8") for one in out.iterdir())
    before = (out / "records.json").read_text()
    status, _, _ = command("leaderboard", out, "--out", out, "--no-published")
    assert status == 0 and (out / "records.json").read_text() == before
    assert "LeMat-GenBench" not in (out / "leaderboard.html").read_text(encoding="utf-8")
    for wrong in ("msun", "msun=much", "nothing=1"):
        status, _, err = command("leaderboard", out, "--out", out, "--weights", wrong)
        assert status == 2 and "weights" in err
    assert command("leaderboard", tmp_path / "nowhere", "--out", out)[0] == 2
