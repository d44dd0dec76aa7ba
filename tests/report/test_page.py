"""The page: complete, harmless, and there for every campaign."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from html.parser import HTMLParser

import pytest
from small_run import HOSTILE, add, fill, rock_salt

from matsearch.campaign.rows import relaxation_row
from matsearch.crystal.text import from_cif
from matsearch.records import Relaxed
from matsearch.report.details import MAX_TEXT, detail_blocks
from matsearch.report.packed import PLACES, unpack
from matsearch.report.page import write_report
from matsearch.report.wording import moment, number, percent, plain, plain_text
from matsearch.store import RunStore

VOID = {"meta", "input", "br", "img", "link", "path"}
OPTIONAL_END = {"td", "tr", "tbody", "thead", "th"}


class Page(HTMLParser):
    """Tags with their attributes, texts by tag, and whether all is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID | OPTIONAL_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in OPTIONAL_END | VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def report_of(run_dir) -> str:
    with RunStore(run_dir, writable=False) as store:
        path = write_report(store)
    assert path == run_dir / "report.html"
    text = path.read_text(encoding="utf-8")
    assert Page(text).open == []
    return text


def data_of(text: str):
    return unpack(re.search(r'<script type="application/octet-stream" id="data">(.*?)</script>', text)[1])


def blocks_of(text: str):
    return [
        unpack(one) for one in re.findall(r'<script type="application/octet-stream" class="block">(.*?)</script>', text)
    ]


def test_page_loads_nothing_from_anywhere(run_dir):
    text = report_of(run_dir)
    parsed = Page(text)
    for tag, attributes in parsed.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "source"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    (policy,) = [a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy
    assert "unsafe-eval" not in policy


def test_every_script_that_runs_is_named_by_its_hash(run_dir):
    text = report_of(run_dir)
    (own,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    packed = re.findall(r'id="library-\w+">(.*?)</script>', text)
    assert len(packed) == 2
    for script in (own, *(gzip.decompress(base64.b64decode(one)).decode() for one in packed)):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in text[: text.index("<style>")]


def test_what_an_llm_wrote_is_text_and_nothing_else(run_dir):
    text = report_of(run_dir)
    assert HOSTILE.strip() not in text
    assert [tag for tag, attributes in Page(text).tags if tag == "script" and not attributes] == ["script"]
    assert "<b>bold" not in text
    assert "one&lt;b&gt;bold" in text
    assert not any(char in text for char in "\x00\u202e")
    data = data_of(text)
    row = data["columns"]["id"].index(2)
    detail = data["columns"]["detail"][row]
    assert detail.startswith('<script>alert("x")</script>')  # a string of the data, which the page shows as text
    assert "🧪" in detail
    assert len(detail) <= 300  # a huge detail is cut
    (block,) = blocks_of(text)
    assert block["replies"]["0/0"]["text"].startswith('<script>alert("x")</script>')
    for shown in (detail, block["replies"]["0/0"]["text"]):
        assert not any(char in shown for char in "\x00\u202e")


def test_a_huge_reply_is_cut_and_its_length_kept(run_dir):
    with RunStore(run_dir, writable=True) as store, store.transaction():
        store.connection.execute("UPDATE replies SET text = ?", ["</script>\u202e" * 100_000])
    text = report_of(run_dir)
    assert len(text) < 3_000_000
    (block,) = blocks_of(text)
    reply = block["replies"]["0/0"]
    assert len(reply["text"]) == MAX_TEXT
    assert reply["length"] == 1_000_000


def test_page_shows_the_counts_of_the_store(run_dir):
    text = report_of(run_dir)
    for step, count in [("proposed", 12), ("parsed", 10), ("valid", 9), ("new", 7), ("relaxed", 5), ("scored", 4)]:
        assert f'<tr><td>{step}</td><td class="n">{count}</td>' in text
    assert "<b>3 <small>of 12 proposed</small></b>" in text
    assert "1</b> not relaxed: unconverged 1; <b>1</b> wait" in text
    assert "1,000" in text  # prompt tokens


def test_cifs_of_the_best_read_back_as_the_relaxed_crystals(run_dir):
    (run_dir / "best").mkdir()
    (run_dir / "best" / "07_Old2_0.001.cif").write_text("of an earlier report")
    (run_dir / "best" / "mine.txt").write_text("a person's own")
    report_of(run_dir)
    names = sorted(path.name for path in (run_dir / "best").iterdir())
    assert names == ["01_TiO_0.020.cif", "02_VO_0.000.cif", "03_MnO_0.050.cif", "mine.txt"]
    read = from_cif((run_dir / "best" / names[0]).read_text(encoding="utf-8"))
    assert read.composition.reduced_formula == "TiO"
    assert read.volume == pytest.approx(rock_salt("Ti", "O").volume)


def test_negative_energies_and_bracketed_formulas_make_plain_file_names(make_run):
    run_dir = make_run()
    hydroxide = rock_salt("Mg", "O")
    hydroxide.append("O", [0.25, 0.25, 0.25])
    hydroxide.append("H", [0.25, 0.25, 0.4])
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", structure=hydroxide, energy=-0.0421)
    report_of(run_dir)
    (path,) = (run_dir / "best").iterdir()
    assert re.fullmatch(r"01_[A-Za-z0-9]+_-0\.042\.cif", path.name)
    report_of(run_dir)
    assert [one.name for one in (run_dir / "best").iterdir()] == [path.name]


@pytest.mark.parametrize("status", ["new", "running", "interrupted", "finished", "budget: relaxations (0 of 0)"])
@pytest.mark.parametrize("objectives", [None, "[]"])
def test_a_campaign_without_candidates_has_a_report(make_run, status, objectives):
    meta = {"status": status} | ({} if objectives is None else {"objectives": objectives})
    text = report_of(make_run(**meta))
    assert "Nothing has been proposed yet" in text
    assert "No candidate has been scored" in text


def test_a_store_without_versions_has_a_report(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        store.connection.execute(
            "DELETE FROM meta WHERE key IN ('versions', 'created', 'status', 'hours', 'objectives')"
        )
    assert "The store names no versions" in report_of(run_dir)


@pytest.mark.parametrize("seeds", [0, 2])
def test_a_campaign_where_nothing_was_scored_has_a_report(make_run, seeds):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        for number_ in range(seeds):
            add(store, number_, "scored", operator="seed", name="mp-1", structure=rock_salt("Mg", "O"), energy=0.0)
        add(store, seeds, "parse", "no_structure")
    text = report_of(run_dir)
    assert "see below where they stopped" in text
    assert ("rank above all candidates" in text) == (seeds > 0)
    assert list((run_dir / "best").iterdir()) == []


def test_a_report_can_be_written_while_the_campaign_writes(make_run):
    run_dir = make_run(status="running")
    with RunStore(run_dir, writable=True) as writer:
        fill(writer)
        writer.connection.execute("BEGIN IMMEDIATE")
        writer.connection.execute("INSERT INTO meta VALUES ('uncommitted', '1')")
        text = report_of(run_dir)
        writer.connection.execute("COMMIT")
        assert "of 12 proposed" in text
        write_report(writer)  # the campaign's own store, at the end
        writer.set_meta("status", "finished")  # and it can go on writing


def test_a_failed_write_leaves_the_old_report(run_dir, monkeypatch):
    old = report_of(run_dir)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with RunStore(run_dir, writable=False) as store, pytest.raises(OSError, match="No space"):
        write_report(store)
    assert (run_dir / "report.html").read_text(encoding="utf-8") == old
    assert not list(run_dir.rglob("*partial*"))


def test_what_does_not_fit_into_the_page_is_the_least_interesting(run_dir):
    with RunStore(run_dir, writable=False) as store:
        blocks, place = detail_blocks(store, [1, 0, 9, 10])
        assert len(blocks) == 1
        assert place == {1: 0, 0: 0, 9: 0, 10: 0}
        assert detail_blocks(store, [1, 0, 9, 10], budget=len(blocks[0]) - 1) == ([], {})


def test_charges_of_the_sites_are_in_the_page_where_the_potential_gave_them(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store, store.transaction():
        add(store, 0, "scored", structure=rock_salt("Mg", "O"), energy=0.01)
        add(store, 1, "scored", structure=rock_salt("Ca", "O", 4.8), energy=0.02)
        relaxed = Relaxed(rock_salt("Mg", "O"), -10.0, True, 3, 0.01, charges=(1.25,) * 4 + (-1.25,) * 4)
        row = relaxation_row("key0", relaxed, 1.0)
        store.connection.execute("UPDATE relaxations SET structure = ? WHERE key = 'key0'", [row["structure"]])
    (block,) = blocks_of(report_of(run_dir))
    lattice, runs, coords, charges = block["candidates"]["0"]["relaxed"]
    assert (len(lattice), runs, len(coords)) == (9, ["Mg", 4, "O", 4], 24)
    assert [one / 10**PLACES for one in charges] == [1.25] * 4 + [-1.25] * 4
    assert len(block["candidates"]["0"]["proposed"]) == len(block["candidates"]["1"]["relaxed"]) == 3


def test_configuration_and_attribution_are_on_the_page(make_run):
    text = report_of(make_run(attribution="Phases of a library, CC0"))
    assert "Phases of a library, CC0" in text
    assert "chgnet 0.4.2" in text
    shown = re.search(r"<pre tabindex=.0.>(.*?)</pre>", text, re.DOTALL)[1]
    assert "one&lt;b&gt;bold" in shown


def test_no_direction_of_writing_is_taken_from_a_name_or_the_configuration(make_run):
    run_dir = make_run()
    with RunStore(run_dir, writable=True) as store:
        config = store.config | {"name": "a\u202eb", "preset": "\u2066p"}
        config["llm"][0]["model"] = "m\u200f"
        store.set_meta("config", json.dumps(config))
    text = report_of(run_dir)
    assert "<title>a\ufffdb" in text and "preset \ufffdp" in text
    assert not set("\u202e\u2066\u200f") & set(text)


def test_hashes_of_the_weights_are_on_the_page(make_run):
    hash_ = "0123456789abcdef" * 4
    text = report_of(make_run(weights=json.dumps({"chgnet-0.3.0": {"<i>.tar": hash_}})))
    assert f"&lt;i&gt;.tar of chgnet-0.3.0: SHA-256 {hash_}" in text


def test_the_materials_project_is_named_where_the_store_names_no_source(run_dir):
    assert "Materials Project (materialsproject.org), CC-BY 4.0" in report_of(run_dir)


def test_numbers_are_written_for_people():
    assert number(None, "energy_above_hull") == ""
    assert number(-0.0001, "energy_above_hull") == "0.000"
    assert number(-0.0421, "energy_above_hull") == "−0.042"
    assert number(123.456, "bulk_modulus") == "123.5"
    assert percent(None) == "–"
    assert percent(0.0) == "0.0 %"
    assert moment("2026-01-01T10:20:30+00:00") == "2026-01-01 10:20 UTC"
    assert moment("") == ""
    assert plain_text("a\r\nb\tc\x07\u202e", 6) == "a\nb\tc"
    assert plain_text("é\u202e\x07", 9) == "é��"
    assert plain("a\nb\tc\u202e\x07") == "a b c��"
    assert plain("x" * 300) == "x" * 199 + "…"
