"""Every number of a page is computed anew, by SQL and by other code than the page's; one that is not fails the test."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from itertools import pairwise
from math import isclose, sqrt

import numpy as np
import pytest
from hull_run import EXTRA, FAMILY, JUDGED, N_SEEDS, OBJECTIVES, PRICES, WORST, make_hull_run, phase_diagram
from pymatgen.core import Composition
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matsearch.crystal.text import from_json
from matsearch.report.packed import unpack
from matsearch.report.page import write_report
from matsearch.store import RunStore

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # of spglib, in pymatgen
QUARANTINED, WAITING = "reason = 'quarantined'", "stage = 'waiting'"


class Anew:
    """A page's numbers once more: each method by the place of the numbers that it gives, in the page's order."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.rows = store.rows(
            "SELECT c.*, COALESCE(r.structure, c.structure) AS crystal, r.n_steps, r.energy AS total, r.max_force "
            "FROM candidates c LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
        )
        self.crystals = [None if row["crystal"] is None else from_json(row["crystal"]) for row in self.rows]
        self.hull = phase_diagram()
        self.lowest = {element.symbol: entry.energy_per_atom for element, entry in self.hull.el_refs.items()}

    def one(self, sql, *values):
        return self.store.row(sql, *values)[0]

    def ids(self, where):
        return [row[0] for row in self.store.rows(f"SELECT id FROM candidates WHERE {where} ORDER BY id")]

    def table(self):
        """Column to its values, one a candidate."""
        names = {"id", "generation", "energy_above_hull", "n_steps", "duplicate_of", "max_force"}
        columns = {name: [row[name] for row in self.rows] for name in names}
        columns["energy"] = [row["total"] for row in self.rows]
        columns["proposal"] = [row["proposal_id"] for row in self.rows]
        columns["parents"] = [FAMILY.get(number, []) for number in columns["id"]]
        for name in ("bulk_modulus", "second_opinion"):
            scores = dict(self.store.rows("SELECT candidate_id, value FROM scores WHERE objective = ?", name))
            columns[name] = [scores.get(number) for number in columns["id"]]
        columns["energy_above_hull:other"] = [JUDGED.get(number) for number in columns["id"]]
        columns["found_again"] = [
            self.one("SELECT COUNT(*) FROM candidates WHERE duplicate_of = ?", number) for number in columns["id"]
        ]
        columns["n_atoms"] = [one and len(one) for one in self.crystals]
        columns["volume"] = [one and abs(np.linalg.det(one.lattice.matrix)) / len(one) for one in self.crystals]
        columns["space_group_number"] = [
            one and SpacegroupAnalyzer(one, symprec=0.1).get_space_group_number() for one in self.crystals
        ]
        best = self.best()
        columns["rank"] = [best.index(number) + 1 if number in best else None for number in columns["id"]]
        order = self.order(best)
        columns["place"] = [order.index(number) for number in columns["id"]]
        columns["block"] = [0] * len(self.rows)  # so few fit into one
        columns["decomposition"] = [self.decomposition(row) for row in self.rows]
        columns["formation_energy"] = [self.formation(row) for row in self.rows]
        return columns

    def best(self):
        """Of what is scored and new to the run: metastable before others, new before known, then goal by goal."""
        return [
            row[0]
            for row in self.store.rows(
                "SELECT c.id FROM candidates c JOIN scores b ON b.candidate_id = c.id AND b.objective = 'bulk_modulus' "
                "WHERE stage = 'scored' AND operator != 'seed' AND duplicate_of IS NULL "
                "ORDER BY c.energy_above_hull NOT BETWEEN -0.1 AND 0.1, matched_known IS NOT NULL, "
                "c.energy_above_hull, -b.value LIMIT 20"
            )
        ]

    def order(self, best):
        """The table's: the best, then by what they were found to be, then by energy."""
        rest = [
            row[0]
            for row in self.store.rows(
                "SELECT id FROM candidates ORDER BY stage != 'scored', operator = 'seed', "
                "2 * NOT (stage = 'scored' AND operator != 'seed' AND energy_above_hull BETWEEN -0.1 AND 0.1) "
                "+ NOT (stage = 'scored' AND operator != 'seed' AND energy_above_hull BETWEEN -0.1 AND 0.1 "
                "       AND duplicate_of IS NULL AND matched_known IS NULL), "
                "energy_above_hull IS NULL, energy_above_hull, id"
            )
        ]
        return [*best, *(number for number in rest if number not in best)]

    def decomposition(self, row):
        if row["energy_above_hull"] is None:
            return None
        shares = self.hull.get_decomposition(from_json(row["crystal"]).composition)
        found = {entry.composition.reduced_formula: share for entry, share in shares.items()}
        return dict(sorted(found.items(), key=lambda one: -one[1]))

    def formation(self, row):
        if row["energy_above_hull"] is None:
            return None
        composition = from_json(row["crystal"]).composition
        parts = sum(composition[symbol] * energy for symbol, energy in self.lowest.items())
        return (row["total"] - parts) / composition.num_atoms

    def phases(self):
        """Id to formation energy and energy above the hull of the phases to be drawn, by their chemical systems."""
        drawn = {
            frozenset(row)
            for row in [
                from_json(one["crystal"]).composition.chemical_system_set
                for one in self.rows
                if one["energy_above_hull"] is not None
            ]
            if len(row) in (2, 3)
        }
        found = defaultdict(dict)
        for entry in self.hull.all_entries:
            system = frozenset(entry.composition.chemical_system_set)
            above = self.hull.get_e_above_hull(entry)
            if above <= 0.1 + 1e-6 and any(system <= one for one in drawn):
                formation = self.hull.get_form_energy_per_atom(entry)
                found["-".join(sorted(system))][entry.name] = [formation, above]
        return found

    def progress(self):
        """Candidate by candidate that was relaxed: the lowest so far, and how many."""
        found = defaultdict(list)
        lowest, lowest_new, counts = None, None, {"msun": 0, "sun": 0, "metastable": 0}
        for row in self.rows:
            if row["operator"] == "seed" or row["stage"] not in ("relax", "score", "scored"):
                continue
            energy = row["energy_above_hull"]
            new = row["duplicate_of"] is None and row["matched_known"] is None
            if row["stage"] == "scored" and energy >= -0.1:
                lowest = energy if lowest is None else min(lowest, energy)
                if new:
                    lowest_new = energy if lowest_new is None else min(lowest_new, energy)
                counts["metastable"] += energy <= 0.1
                counts["msun"] += energy <= 0.1 and new
                counts["sun"] += energy <= 0.001 and new
            for name, value in {"id": row["id"], "best": lowest, "best_new": lowest_new}.items():
                found[name].append(value)
            for name, value in counts.items():
                found[f"n_{name}"].append(value)
        return found

    def front(self):
        """By comparing all with all, the hull as good as what is below it; areas by cutting them into strips."""
        points = {
            row["id"]: (max(0.0, row["energy_above_hull"]), row["value"], row["duplicate_of"])
            for row in self.store.rows(
                "SELECT id, energy_above_hull, value, duplicate_of FROM candidates JOIN scores ON candidate_id = id "
                "WHERE objective = 'bulk_modulus' AND stage = 'scored' AND operator != 'seed' "
                "AND energy_above_hull >= -0.1 ORDER BY id"
            )
        }
        first = {number: one for number, one in points.items() if one[2] is None}
        ids = [
            number
            for number, (energy, bulk, _) in first.items()
            if not any(e <= energy and b >= bulk and (e, b) != (energy, bulk) for e, b, _ in first.values())
        ]
        metastable = {number: one for number, one in points.items() if one[0] <= 0.1}
        worst = WORST["bulk_modulus"]
        curve = []
        for n in range(1, len(metastable) + 1):
            found = [(energy, bulk) for energy, bulk, _ in list(metastable.values())[:n]]
            edges = sorted({energy for energy, _ in found} | {0.1})
            strips = [(right - left, max(b for e, b in found if e <= left)) for left, right in pairwise(edges)]
            curve.append(sum(width * (bulk - worst) for width, bulk in strips))
        return {"ids": ids, "reference": WORST, "curve_ids": list(metastable), "curve": curve}

    def data(self):
        """What the page's data should be, where it holds numbers."""
        return {
            "thresholds": {"metastable": 0.1, "stable": 0.001, "quarantine": -0.1},
            "columns": self.table(),
            "progress": self.progress(),
            "front": self.front(),
        }

    def block(self):
        """Crystals in units of 1e-5, replies with what they cost, lengths of texts."""
        scale = 100_000
        kept = self.store.rows(
            "SELECT c.id, c.structure AS proposed, r.structure AS relaxed FROM candidates c "
            "LEFT JOIN relaxations r ON r.key = c.relaxation_key ORDER BY c.id"
        )
        crystals: dict = {}
        for row in kept:
            crystals[str(row["id"])] = {}
            for side in ("proposed", "relaxed"):
                crystals[str(row["id"])][side] = None
                if row[side] is None:
                    continue
                content, crystal = json.loads(row[side]), from_json(row[side])
                numbers = [crystal.lattice.matrix.ravel(), [], crystal.frac_coords.ravel()]
                runs = [int(n) for n in re.findall(r"\d+", _runs(content["species"]))]
                charges = [np.array(content["charges"]) * scale] if "charges" in content else []
                crystals[str(row["id"])][side] = [
                    [round(x * scale) for x in numbers[0]], runs, [round(x * scale) for x in numbers[2]],
                    *([round(x) for x in one] for one in charges),
                ]  # fmt: skip
        counted = "seed prompt_tokens completion_tokens cached_tokens reasoning_tokens seconds".split()
        replies = {
            f"{row['proposal_id']}/{row['sample']}": {
                "proposal_id": row["proposal_id"], "sample": row["sample"], "llm": row["proposal_id"],
                **{name: row[name] for name in counted}, "length": len(row["text"]),
            }
            for row in self.store.rows("SELECT * FROM replies")
        }  # fmt: skip
        prompts = {
            row["hash"]: [len(row["system"]) + len(row["user"])] for row in self.store.rows("SELECT * FROM prompts")
        }
        return {"candidates": crystals, "replies": replies, "prompts": prompts}


def _runs(species):
    """`Ti2Mg2O4`: each element with how many of it follow one another."""
    return "".join(
        f"{m[1]}{len(m[0]) // len(m[1])}" for m in re.finditer(r"(?:([A-Z][a-z]?)(?:\1)*)", "".join(species))
    )


def numbers(content, place=()):
    """Place and value of every number in JSON-like content, lists by position."""
    if isinstance(content, dict):
        for name, one in content.items():
            yield from numbers(one, (*place, name))
    elif isinstance(content, (list, tuple)):
        for position, one in enumerate(content):
            yield from numbers(one, (*place, position))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield place, content


def assert_same_numbers(found, expected, tolerance=1e-9):
    found, expected = dict(numbers(found)), dict(numbers(expected))
    assert set(found) - set(expected) == set(), "in the page, and computed nowhere else"
    assert set(expected) - set(found) == set(), "to be in the page"
    for place, value in expected.items():
        assert isclose(found[place], value, rel_tol=1e-9, abs_tol=tolerance), place


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """What is computed anew, and the page's text."""
    run_dir = make_hull_run(tmp_path_factory.mktemp("anew") / "matsearch" / "seed-0")
    with RunStore(run_dir, writable=False) as store:
        yield Anew(store), write_report(store).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(reported):
    return unpack(re.search(r'id="data">(.*?)</script>', reported[1])[1])


def test_every_number_that_the_page_draws(reported, data):
    anew, _ = reported
    # Decompositions come from a linear programme here, and from facets there.
    expected = anew.data()
    assert_same_numbers({name: one for name, one in data.items() if name != "phases"}, expected, tolerance=2e-6)


def test_formulas_of_decompositions_the_largest_first(reported, data):
    anew, _ = reported
    shares = [one for one in data["columns"]["decomposition"] if one is not None]
    assert len(shares) == len(anew.ids("energy_above_hull IS NOT NULL"))
    assert max(len(one) for one in shares) == 4
    assert all(sorted(one.values(), reverse=True) == list(one.values()) for one in shares)


def test_every_known_phase_of_the_hull_plots(reported, data):
    anew, _ = reported
    expected = anew.phases()
    assert {"Mg-O", "Li-O", "Mg-O-Ti", "Li-Mg-O"} <= set(expected) == set(data["phases"])
    for system, phases in data["phases"].items():
        found = {name: (formula, formation, above) for name, formula, formation, above in phases}
        assert len(found) == len(phases)
        border = {name for name, (_, above) in expected[system].items() if abs(above - 0.1) < 2e-6}
        assert set(found) - border == set(expected[system]) - border
        for name, (formula, formation, above) in found.items():
            assert "-".join(sorted(Composition(formula).chemical_system_set)) == system
            assert (formation, above) == pytest.approx(expected[system][name], abs=1.2e-5)
    assert [name for name, *_ in data["phases"]["O-Ti"] if name == EXTRA[0]]


def test_a_candidates_place_in_its_hull_plot_is_its_height_above_the_lines(reported, data):
    """What is drawn hangs together: on the plot of a binary, a candidate is as far above the hull as the table says."""
    columns = data["columns"]
    points = sorted(
        (Composition(formula).get_atomic_fraction("O"), formation)
        for system in ("Mg-O", "Mg", "O")
        for _, formula, formation, above in data["phases"][system]
        if above == 0
    )
    for formula, formation, height in zip(
        columns["formula"], columns["formation_energy"], columns["energy_above_hull"], strict=True
    ):
        if formation is not None and Composition(formula).chemical_system == "Mg-O":
            x = Composition(formula).get_atomic_fraction("O")
            assert formation - np.interp(x, *zip(*points, strict=True)) == pytest.approx(height, abs=2e-5)


def test_every_number_of_crystals_and_replies(reported):
    anew, text = reported
    (packed,) = re.findall(r'class="block">(.*?)</script>', text)
    block = unpack(packed)
    for candidate in block["candidates"].values():
        for side in ("proposed", "relaxed"):
            if candidate[side] is not None:
                candidate[side][1] = candidate[side][1][1::2]  # of element and count, the counts
    block["prompts"] = {name: one[2:] for name, one in block["prompts"].items()}
    assert_same_numbers(block, anew.block())


class Shown(HTMLParser):
    """What the page shows before any script runs: texts by section, tables as rows of cells, tiles."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.texts, self.tables, self.tiles = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("meta", "input", "br"):
            return
        kind = dict(attributes).get("class", "") if tag == "div" else ""
        self.stack.append((tag, kind))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif kind == "tile":
            self.tiles.append("")

    def handle_endtag(self, tag):
        while self.stack.pop()[0] != tag:
            pass

    def handle_data(self, text):
        tags = {tag for tag, _ in self.stack}
        if tags & {"script", "style", "pre"}:
            return
        if "table" in tags:
            if self.tables[-1] and self.tables[-1][-1]:
                self.tables[-1][-1][-1] += text
        elif ("div", "tile") in self.stack:
            self.tiles[-1] += text
        else:
            self.texts.append(text)


@pytest.fixture(scope="module")
def shown(reported):
    return Shown(reported[1])


def one_space(text):
    return " ".join(text.split())


def percent(share):
    return f"{100 * share:.1f} %"


def test_every_tile(reported, shown):
    anew, _ = reported
    proposed = len(anew.ids("proposal_id IS NOT NULL"))
    valid = len(anew.ids("proposal_id IS NOT NULL AND stage NOT IN ('parse', 'check')"))
    near = "stage = 'scored' AND proposal_id IS NOT NULL AND energy_above_hull BETWEEN -0.1 AND"
    new = "AND duplicate_of IS NULL AND matched_known IS NULL"
    # Turned away as known without a parent that is the phase, or relaxed to one.
    memorised = [
        number
        for number, phase in anew.store.rows(
            "SELECT id, CASE WHEN reason = 'known' THEN replace(detail, 'matches ', '') ELSE matched_known END "
            "FROM candidates WHERE proposal_id IS NOT NULL AND (reason = 'known' OR matched_known IS NOT NULL)"
        )
        if phase not in [anew.one("SELECT name FROM candidates WHERE id = ?", parent) for parent in FAMILY[number]]
    ]
    expected = [
        ("Metastable, unique and novel", len(anew.ids(f"{near} 0.1 {new}")), proposed, "proposed"),
        ("Stable, unique and novel", len(anew.ids(f"{near} 0.001 {new}")), proposed, "proposed"),
        ("Metastable", len(anew.ids(f"{near} 0.1")), proposed, "proposed"),
        ("Stable", len(anew.ids(f"{near} 0.001")), proposed, "proposed"),
        ("Metastable, unique and novel", len(anew.ids(f"{near} 0.1 {new}")), valid, "valid"),
        ("Memorised", len(memorised), valid, "valid"),
    ]
    assert [count for _, count, *_ in expected] == [5, 2, 7, 3, 5, 1]
    assert len(shown.tiles) == len(expected)
    for tile, (title, count, total, of) in zip(shown.tiles, expected, strict=True):
        z = 1.959963984540054  # Wilson's interval: the roots of (p - share)^2 = z^2 p (1 - p) / total
        a, b, c = 1 + z * z / total, -2 * count / total - z * z / total, (count / total) ** 2
        low, high = ((-b + sign * sqrt(b * b - 4 * a * c)) / (2 * a) for sign in (-1, 1))
        head = f"{title} {count} of {total} {of} {percent(count / total)} ({percent(low)} to {percent(high)})"
        assert one_space(tile).startswith(head)
        # What is left is the definition.
        left = set(re.findall(r"\d+(?:\.\d+)?", one_space(tile).removeprefix(head)))
        assert left <= {"0.1", "0.001"}


def test_every_number_of_the_funnel_and_of_what_operators_gave(reported, shown):
    anew, _ = reported
    funnel, yields = shown.tables[1:3]
    stages = ["proposed", "parsed", "valid", "new", "relaxed", "scored"]
    lost = [[], ["parse"], ["check"], ["novelty"], ["relax", "waiting"], ["score"]]
    left = total = len(anew.ids("proposal_id IS NOT NULL"))
    for row, name, stopped in zip(funnel[1:], stages, lost, strict=True):
        stage, count, share, _, why = map(one_space, row)
        for one in stopped:
            n = len(anew.ids(f"proposal_id IS NOT NULL AND stage = '{one}'"))
            left -= n
            assert re.search(rf"\b{n} [a-z]", why)
        reasons = anew.store.rows(
            "SELECT reason, COUNT(*) FROM candidates WHERE proposal_id IS NOT NULL AND reason IS NOT NULL AND stage IN "
            f"({', '.join(repr(one) for one in stopped) or 'NULL'}) GROUP BY reason"
        )
        for reason, n in reasons:
            assert f"{reason} {n}" in why
        assert len(re.findall(r"\d+", why)) == len(reasons) + len(stopped)
        assert (stage, count, share) == (name, str(left), percent(left / total))
    found = anew.store.rows(
        "SELECT operator, model, COUNT(*), SUM(stage NOT IN ('parse', 'check')), SUM(stage = 'scored'), "
        "SUM(stage = 'scored' AND energy_above_hull BETWEEN -0.1 AND 0.1) AS metastable, "
        "SUM(stage = 'scored' AND energy_above_hull BETWEEN -0.1 AND 0.1 AND duplicate_of IS NULL AND matched_known "
        "IS NULL) AS msun, MIN(CASE WHEN stage = 'scored' AND energy_above_hull >= -0.1 THEN energy_above_hull END) "
        "FROM candidates WHERE proposal_id IS NOT NULL GROUP BY 1, 2 ORDER BY msun DESC, metastable DESC"
    )
    expected = [[*map(str, tuple(row)[:-1]), f"{row[-1]:.3f}".replace("-", "−")] for row in found]
    assert [[one_space(cell) for cell in row] for row in yields[1:]] == expected


def test_every_line_of_the_cost(reported, shown):
    anew, _ = reported
    usd, n_msun = 0.0, 5
    for row in anew.store.rows(
        "SELECT r.*, p.system || p.user AS asked FROM replies r JOIN prompts p ON p.hash = prompt_hash "
        "WHERE proposal_id = 0"
    ):
        # Two letters a token where none were counted.
        read = row["prompt_tokens"] if row["prompt_tokens"] is not None else -(-len(row["asked"]) // 2)
        wrote = row["completion_tokens"] if row["completion_tokens"] is not None else -(-len(row["text"]) // 2)
        cached, thought = row["cached_tokens"] or 0, row["reasoning_tokens"] or 0
        usd += (read - cached) * PRICES["prompt"] + cached * PRICES["cached"]
        usd += (wrote - thought) * PRICES["completion"] + thought * PRICES["reasoning"]
    usd /= 1e6
    sums = {
        name: anew.one(f"SELECT SUM({name}) FROM replies")
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "seconds")
    }
    replies = [anew.one("SELECT COUNT(*) FROM replies WHERE proposal_id = ?", number) for number in (0, 1)]
    tokens = sums["prompt_tokens"] + sums["completion_tokens"]
    uncounted = anew.one("SELECT COUNT(*) FROM replies WHERE prompt_tokens IS NULL")
    seeds = N_SEEDS + 1  # and the phase of the user's
    relaxations = anew.one("SELECT COUNT(*) FROM relaxations")
    assert [[one_space(cell) for cell in row] for row in shown.tables[3]] == [
        ["Replies, those of operators included", f"{sum(replies)}"],
        [f"Prompt tokens ({sums['cached_tokens']} cached)", f"{sums['prompt_tokens']:,}"],
        [f"Completion tokens ({sums['reasoning_tokens']} reasoning)", f"{sums['completion_tokens']:,}"],
        ["Replies that reported no tokens", f"{uncounted}"],
        ["LLM money, USD (by the prices in the configuration; replies that reported no tokens are estimated)",
         f"{usd:.4f}"],
        [f"– of scripted (priced): {replies[0]} replies, {tokens:,} tokens", f"{usd:.4f} USD"],
        [f"– of operators (default): {replies[1]} replies, 0 tokens", "no LLM"],
        ["Time of LLMs and operators, s (they may overlap)", f"{sums['seconds']:.1f}"],
    ]  # fmt: skip
    each = f"{tokens / n_msun:,.0f} tokens, {usd / n_msun:.4f} USD, {(relaxations - seeds) / n_msun:.1f} relaxations"
    assert [[one_space(cell) for cell in row] for row in shown.tables[4]] == [
        [f"Relaxations ({seeds} of seeds)", f"{relaxations}"],
        ["Relaxation steps", f"{anew.one('SELECT SUM(n_steps) FROM relaxations')}"],
        ["Relaxation time, s", f"{anew.one('SELECT SUM(seconds) FROM relaxations'):.1f}"],
        ["Objectives' time, s", f"{anew.one('SELECT SUM(seconds) FROM scores'):.1f}"],
        ["Wall time, h (to the latest outcome)", "0.250"],
        ["Per unique, novel and metastable crystal", each],
    ]


def test_every_other_number_in_the_text_is_a_setting_or_is_counted(reported, shown):
    anew, text = reported
    config = anew.store.config
    seeds = anew.store.rows(
        "SELECT energy_above_hull AS height, value FROM candidates JOIN scores ON candidate_id = id "
        "WHERE operator = 'seed' AND objective = 'bulk_modulus' ORDER BY 1, 2"
    )
    (first,) = anew.best()[:1]
    lowest = anew.one("SELECT energy_above_hull FROM candidates WHERE id = ?", first)
    allowed = [
        # What is counted.
        f"{sum(row['height'] < lowest for row in seeds)} of {len(seeds)} scored seeds",
        f"{seeds[0]['height']:.3f} {seeds[0]['value']:.4g}", f"All {len(anew.rows)} candidates",
        f"({len(seeds)} of {len(seeds)} known phases", f"{len(anew.ids(QUARANTINED))} quarantined",
        f"counted as proposed: {len(anew.ids(WAITING))}",
        *(f"({n} replies) × {n}" for (n,) in anew.store.rows("SELECT COUNT(*) FROM replies GROUP BY proposal_id")),
        *("× 1" for _ in range(2)),
        # Settings, versions, dates, thresholds.
        json.dumps(config), " ".join(f"{name} {value}" for name, value in anew.store.meta.items()),
        "95 % -0.1 0.1 0.001 3D 2 × 2 × 2 SHA-256 MIT BSD-3-Clause CC-BY 4.0 1, 011002 (2013)",
        *(one["unit"] for one in OBJECTIVES), re.search(r"report written (.*?)\.", text)[1], "0.1.0", "mp-1265",
    ]  # fmt: skip
    number = re.compile(r"\d+(?:\.\d+)?")
    known = {one for part in allowed for one in number.findall(part)}
    for part in shown.texts:
        assert set(number.findall(part)) <= known, part


def test_a_number_that_is_new_to_the_page_is_noticed(data):
    """The tests above fail for a number that nothing computes: here is one."""
    with pytest.raises(AssertionError, match="computed nowhere else"):
        assert_same_numbers({"columns": data["columns"] | {"density": [1.0]}}, {"columns": data["columns"]})
