"""What is drawn in each panel, held against the run and against other code than the page's."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from hull_run import CRYSTALS, FAMILY, N_CHARGED, N_SEEDS, WORST, make_hull_run, phase_diagram
from opened_page import SIZES, Opened
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition

from matsearch.crystal.text import from_cif, from_json
from matsearch.report.page import write_report
from matsearch.store import RunStore

CORNERS = {"Mg": (0.0, 0.0), "O": (1.0, 0.0), "Ti": (0.5, np.sqrt(3) / 2)}


@pytest.fixture(scope="module")
def hull_run(tmp_path_factory):
    run_dir = make_hull_run(tmp_path_factory.mktemp("panels") / "matsearch" / "seed-0")
    with RunStore(run_dir, writable=False) as store:
        write_report(store)
    return run_dir


@pytest.fixture(scope="module")
def one(browser, hull_run):
    """The page, opened once for all tests of this file that leave it as it was."""
    opened = Opened(browser, (hull_run / "report.html").as_uri(), in_3d=False)
    yield opened
    opened.close()


@pytest.fixture
def page(one):
    if one.page.locator("#crystal[open]").count():
        one.page.keyboard.press("Escape")
    for control in ("#find", "#elements"):
        one.page.fill(control, "")
    one.page.select_option("#view", "best")
    return one.page


def show(page, plot):
    """Bring a plot to the middle of the screen, and wait until it is drawn."""
    page.evaluate("id => document.getElementById(id).scrollIntoView({ block: 'center' })", plot)
    page.locator(f"#{plot} .main-svg").first.wait_for()


def traces(page, plot):
    """Name to what plotly was given, once it is drawn."""
    show(page, plot)
    drawn = page.evaluate(
        "id => document.getElementById(id).data.map(({ name, x, y, text, customdata }) =>"
        " ({ name, x: [...x], y: [...y], text, customdata }))",
        plot,
    )
    return {trace.get("name") or number: trace for number, trace in enumerate(drawn)}


def choose_system(page, name):
    show(page, "plot-hull")
    page.select_option("#system", name)
    page.wait_for_function(
        "label => document.getElementById('plot-hull').getAttribute('aria-label').includes(label)",
        arg=name.split("-")[-1],
    )
    return traces(page, "plot-hull")


def candidates_in(system):
    """Numbers of those with an energy above the hull whose crystals have these elements."""
    return {
        number
        for number, (cations, _, height, *_) in enumerate(CRYSTALS)
        if height is not None and "-".join(sorted({*cations.split(), "O"})) == system
    }


def test_the_hull_of_a_binary_has_known_phases_lines_and_candidates_where_they_belong(page):
    drawn = choose_system(page, "Mg-O")
    known = phase_diagram()
    binary = PhaseDiagram([one for one in known.all_entries if one.composition.chemical_system_set <= {"Mg", "O"}])
    expected = {
        one.composition.get_atomic_fraction("O"): binary.get_form_energy_per_atom(one) for one in binary.stable_entries
    }
    hull = drawn["hull"]
    assert all(a <= b for a, b in pairwise(hull["x"]))
    assert sorted(set(np.round(hull["x"], 6))) == sorted(np.round(list(expected), 6))
    assert np.interp(list(expected), hull["x"], hull["y"]) == pytest.approx(list(expected.values()), abs=2e-5)
    shown = {
        number: (x, y)
        for name, trace in drawn.items()
        if trace["customdata"]
        for number, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }
    assert set(shown) == candidates_in("Mg-O") == {0, 2}
    for number, (x, y) in shown.items():
        assert x == 0.5
        assert y - np.interp(x, hull["x"], hull["y"]) == pytest.approx(CRYSTALS[number][2], abs=2e-5)
    assert drawn["candidates, known"]["customdata"] == [2]
    assert drawn["seeds"]["customdata"] == [0]


def test_a_click_on_a_point_of_a_hull_opens_its_crystal(page):
    choose_system(page, "Li-O-Ti")
    place = page.evaluate(
        """() => { const box = document.getElementById("plot-hull");
          const point = box.data.find((one) => one.customdata?.includes(11));
          const i = point.customdata.indexOf(11);
          const { xaxis, yaxis } = box._fullLayout;
          const at = box.getBoundingClientRect();
          return [at.x + xaxis._offset + xaxis.c2p(point.x[i]), at.y + yaxis._offset + yaxis.c2p(point.y[i])]; }"""
    )
    page.mouse.move(*place)
    page.wait_for_selector("#plot-hull .hovertext")
    assert "(11)" in page.text_content("#plot-hull .hovertext")
    page.mouse.click(*place)
    page.wait_for_selector("#crystal[open]")
    assert "candidate 11" in page.inner_text("#crystal-subtitle")


def test_the_hull_of_a_ternary_has_its_facets_and_its_candidates_coloured_by_height(page):
    drawn = choose_system(page, "Mg-O-Ti")
    known = phase_diagram()
    ternary = PhaseDiagram([e for e in known.all_entries if e.composition.chemical_system_set <= set(CORNERS)])

    def place(composition):
        return np.round(sum(composition.get_atomic_fraction(one) * np.array(at) for one, at in CORNERS.items()), 4)

    stable = drawn["known, on the hull"]
    points = {tuple(np.round(one, 4)) for one in zip(stable["x"], stable["y"], strict=True)}
    assert points == {tuple(place(one.composition)) for one in ternary.stable_entries}
    lines = drawn[1]
    edges, start = set(), None
    for x, y in zip(lines["x"], lines["y"], strict=True):
        end = None if x is None else (round(x, 4), round(y, 4))
        if start and end:
            edges.add(frozenset((start, end)))
        start = end
    facets = [[tuple(place(ternary.qhull_entries[i].composition)) for i in facet] for facet in ternary.facets]
    assert edges == {frozenset(pair) for a, b, c in facets for pair in ((a, b), (b, c), (a, c))}
    found = {
        number: np.round((x, y), 4)
        for trace in drawn.values()
        if trace["customdata"]
        for number, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }
    assert set(found) == candidates_in("Mg-O-Ti")
    said = f"{len(ternary.stable_entries)} known phases on the hull, {len(found)} candidates"
    assert page.inner_text("#hull-note") == said
    for number, at in found.items():
        assert at == pytest.approx(
            place(Composition(" ".join(f"{one}1" for one in CRYSTALS[number][0].split()) + " O4"))
        )
    heights = page.evaluate(
        "() => Object.fromEntries(document.getElementById('plot-hull').data.filter((one) => one.customdata)"
        ".flatMap((one) => one.customdata.map((id, i) => [id, one.marker.color[i]])))"
    )
    assert heights == {str(number): CRYSTALS[number][2] for number in found}
    floors = page.evaluate(
        "() => document.getElementById('plot-hull').data.filter((one) => one.customdata).map((one) => one.marker.cmin)"
    )
    assert set(floors) == {min(heights.values())} == {CRYSTALS[5][2]}  # what lies below the hull has colours too
    for corner in CORNERS:
        assert corner in page.locator("#plot-hull .annotation-text").all_text_contents()


def test_every_system_with_candidates_can_be_chosen(page):
    systems = {one.split(" ")[0] for one in page.locator("#system option").all_inner_texts()}
    assert systems == {"Mg–O", "Li–Mg–O", "Mg–O–Ti", "Li–O–Ti"}


def test_views_say_how_many_candidates_they_hold(page, hull_run):
    views = {
        "best": "stage = 'scored' AND operator != 'seed'",
        "new": "stage = 'scored' AND operator != 'seed' AND energy_above_hull BETWEEN -0.1 AND 0.1 "
        "AND duplicate_of IS NULL AND matched_known IS NULL",
        "front": "id IN (5, 9)", "rejected": "stage != 'scored'", "seeds": "operator = 'seed'", "all": "1",
    }  # fmt: skip
    with RunStore(hull_run, writable=False) as store:
        counts = {name: store.row(f"SELECT COUNT(*) FROM candidates WHERE {where}")[0] for name, where in views.items()}
    options = page.locator("#view option").evaluate_all("all => all.map((one) => [one.value, one.textContent])")
    assert {name: int(re.search(r"\((\d+)\)$", text)[1]) for name, text in options} == counts
    for name, count in counts.items():
        page.select_option("#view", name)
        assert page.inner_text("#shown").startswith(f"{count} of {counts['all']} candidates.")
        assert len(page.locator("#candidates tbody tr").all()) == count


def test_histograms_count_the_crystals_that_are_chosen(page, hull_run):
    with RunStore(hull_run, writable=False) as store:
        scored, everything = (
            [row[0] for row in store.rows(f"SELECT formula FROM candidates WHERE {where}")]
            for where in ("stage = 'scored' AND operator != 'seed'", "1")
        )
    for population, formulas in (("best", scored), ("all", everything)):
        page.select_option("#population", population)
        sizes, symmetry = traces(page, "plot-size"), traces(page, "plot-symmetry")
        n_crystals = len([one for one in formulas if one])
        (bars,) = sizes.values()
        assert dict(zip(bars["x"], bars["y"], strict=True)) == {8: n_crystals}
        assert sum(sum(one["y"]) for one in symmetry.values()) == n_crystals
        assert set(symmetry) == set("triclinic monoclinic orthorhombic tetragonal trigonal hexagonal cubic".split())
        elements = Counter(symbol for one in formulas if one for symbol in Composition(one).get_el_amt_dict())
        shown = page.locator("#periodic button:enabled").evaluate_all("all => all.map((one) => one.ariaLabel)")
        assert {one.split(": ")[0]: int(one.split(": ")[1]) for one in shown} == elements
    page.click("#periodic button[aria-label^='Li:']")
    assert all("Li" in one for one in page.locator("#candidates tbody button.link").all_inner_texts())


def test_progress_front_and_hypervolume_are_drawn(page):
    energies = traces(page, "plot-energy")
    shown = {number for name in ("new", "known or found before") for number in energies[name]["customdata"]}
    assert shown == {2, 3, 4, 5, 6, 7, 8, 9, 11}  # 10 is in quarantine, 12 has no energy
    assert traces(page, "plot-found")["metastable, unique and novel"]["y"][-1] == 5
    front = traces(page, "plot-front")
    assert front["front"]["customdata"] == [5, 9]
    page.select_option("#front-x", "bulk_modulus")
    page.wait_for_function("document.getElementById('plot-front').data[2].x[0] > 100")
    assert traces(page, "plot-front")["front"]["x"] == [170.0, 181.25]
    volume = traces(page, "plot-volume")["hypervolume"]
    assert volume["y"][-1] == pytest.approx(0.1 * (170 - WORST["bulk_modulus"]) + 0.023 * (181.25 - 170))


def test_the_lineage_shows_prompt_reply_and_what_changed(one, page):
    one.open(8)
    assert page.inner_text("#change") == (
        "Ti for Mg, made from MgO (0), mp-1265; the lowest of 4, as it stands −0.018 eV/atom above the hull"
    )
    assert "Write some. 1" in page.locator("#prompt-text").text_content()
    assert page.locator("#reply-text").text_content().startswith("Ti for Mg; from 0, mp-1265; the lowest of 4")
    rows = {
        row[0]: row[1:]
        for row in page.locator("#changes tr").evaluate_all(
            "all => all.map((row) => [...row.cells].map((one) => one.innerText.trim().replace(/\\s+/g, ' ')))"
        )
    }
    assert FAMILY[8] == [1, 5]
    assert [one.split(" ")[1:] for one in rows["Formula"]] == [["+", "Ti"], ["+", "Li"], []]
    assert rows["Atoms"] == ["8 the same", "8 the same", "8"]
    (energies,) = [cells for name, cells in rows.items() if name.startswith("Ehull by chgnet")]
    assert energies == ["0.061 child +0.090", "−0.021 child +0.172", "0.151"]
    page.click("#change button.link")
    page.locator("#crystal-subtitle", has_text="candidate 0").wait_for()
    page.get_by_role("button", name="Show the family tree").click()
    nodes = set(page.locator("#tree .node").evaluate_all("all => all.map((one) => Number(one.dataset.id))"))
    children = {number for number, parents in FAMILY.items() if 0 in parents}
    assert nodes == {0} | children


def test_charges_stand_beside_the_sites_and_on_the_atoms(browser, hull_run):
    one = Opened(browser, (hull_run / "report.html").as_uri(), size="narrow")
    page = one.page
    one.open(3)
    with RunStore(hull_run, writable=False) as store:
        (text,) = store.row("SELECT structure FROM relaxations WHERE key = 'k3'")
    charges = json.loads(text)["charges"]
    assert abs(sum(charges)) < 1e-6 and max(charges) > 0.3
    written = [f"{charge:+.2f}".replace("-", "−") for charge in charges]
    assert page.locator("#sites tbody tr td:last-child").all_text_contents() == written
    assert page.inner_text("#charge-sum").startswith("Charges in e, by the potential: Li ")
    plain = page.locator("#view-relaxed").screenshot()
    page.click("#charges")
    assert page.get_attribute("#charges", "aria-pressed") == "true"
    if not page.locator("#view-relaxed .none").count():
        assert page.locator("#view-relaxed").screenshot() != plain
    page.click("#charges")
    page.keyboard.press("Escape")
    one.open(N_CHARGED)
    assert page.is_hidden("#charges")
    assert page.locator("#sites thead th").all_text_contents() == ["Site", "x", "y", "z"]
    one.close()


def test_a_saved_selection_holds_the_crystals_of_the_store(page, hull_run):
    page.select_option("#view", "all")
    chosen = [3, 5, 12]
    for number in chosen:
        page.check(f"#candidates tr[data-id='{number}'] input")
    saved = {}
    for kind in ("cif", "csv", "json"):
        with page.expect_download() as download:
            page.click(f"#save-{kind}")
        saved[kind] = download.value.path().read_text(encoding="utf-8")
    for number in chosen:
        page.uncheck(f"#candidates tr[data-id='{number}'] input")
    page.select_option("#view", "best")
    blocks = re.split(r"(?m)^(?=data_)", saved["cif"])[1:]
    rows = list(csv.DictReader(io.StringIO(saved["csv"])))
    content = json.loads(saved["json"])
    assert content["units"]["bulk_modulus"] == "GPa"
    with RunStore(hull_run, writable=False) as store:
        for number, block, row, other in zip(chosen, blocks, rows, content["candidates"], strict=True):
            (text,) = store.row("SELECT structure FROM relaxations WHERE key = ?", f"k{number}")
            crystal = from_json(text)
            read = from_cif(block)
            assert read.lattice.parameters == pytest.approx(crystal.lattice.parameters, abs=1e-4)
            assert [site.specie for site in read] == [site.specie for site in crystal]
            assert int(row["id"]) == other["id"] == number
            assert row["formation_energy"] == ("" if number == 12 else repr(other["formation_energy"]))
            assert other["structure"]["frac_coords"] == pytest.approx(crystal.frac_coords, abs=1e-5)
            assert other["structure"].get("charges", []) == pytest.approx(json.loads(text).get("charges", []), abs=1e-5)
            assert other["decomposition"] == (json.loads(row["decomposition"]) if row["decomposition"] else None)


@pytest.mark.parametrize("size", SIZES)
def test_all_panels_fit_the_screen(browser, hull_run, size):
    opened = Opened(browser, (hull_run / "report.html").as_uri(), size=size, in_3d=False)
    page = opened.page
    for plot in ("plot-energy", "plot-volume", "plot-hull", "plot-size"):
        show(page, plot)
    width = SIZES[size][0]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for panel in ("cost", "provenance"):
        assert page.evaluate("id => document.getElementById(id).scrollWidth", panel) <= width
    assert "SHA-256" in page.inner_text("#provenance")
    assert page.locator("#cost tr").count() == 14
    opened.open(3)
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    assert len({page.locator(button).bounding_box()["y"] for button in ("#before", "#after", "#close")}) == 1
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    check = "axe.run('#crystal', { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'] }).then((one) => one.violations)"
    assert page.evaluate(check) == []
    opened.close()


def test_the_command_serves_the_page_until_it_is_stopped(browser, hull_run):
    command = [sys.executable, "-m", "matsearch", "report", str(hull_run), "--live"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    # What was started in a shell's background ignores interrupts, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as served:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", served.stdout.readline())[0]
            opened = Opened(browser, address, offline=False)
            assert len(opened.formulas()) == len([one for one in CRYSTALS[N_SEEDS:] if one[4] == "scored"])
            opened.close()
            served.send_signal(signal.SIGINT)
            assert served.wait(30) == 0
        finally:
            served.kill()  # of no effect on what has ended
