"""The leaderboard as a person meets it, with the network off: the checked-in one, which is also held to its schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from matsearch.report.leaderboard import make_board
from matsearch.report.leaderboard_page import write_board
from matsearch.report.leaderboard_records import published_records, read_records

RECORDS = Path(__file__).resolve().parents[2] / "runs" / "leaderboard" / "records.json"
TABLE = "table.ranked >> nth=0"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    runs = read_records(RECORDS).runs
    assert runs
    out = tmp_path_factory.mktemp("board")
    write_board(make_board(runs, published_records()), out)
    return (out / "leaderboard.html").as_uri()


@pytest.mark.parametrize(("size", "scheme"), [((1280, 900), "light"), ((390, 844), "dark")])
def test_sorting_and_weights_work_offline(browser, address, size, scheme):
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page, said = context.new_page(), []
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda one: said.append(str(one)))
    page.goto(address)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]

    def column(key):
        at = page.locator(f"{TABLE} >> th").evaluate_all("(all, key) => all.findIndex(e => e.dataset.key === key)", key)
        cells = page.locator(f"{TABLE} >> tbody tr td:nth-child({at + 1})")
        return cells.evaluate_all("all => all.map(e => Number(e.dataset.value))")

    header = page.locator(f"{TABLE} >> th[data-key=msun] button")
    header.focus()
    page.keyboard.press("Enter")
    assert column("msun") == sorted(column("msun"), reverse=True)
    page.keyboard.press("Enter")
    assert column("msun") == sorted(column("msun"))
    page.locator("details.weights summary").click()
    for weight, value in (("msun", "0"), ("sun", "0"), ("prototypes", "2")):
        page.locator(f"input[name={weight}]").fill(value)
    assert column("prototypes") == sorted(column("prototypes"), reverse=True)
    assert column("score")[0] == 1.0
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert not found, [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found]
    context.close()
    assert said == []
