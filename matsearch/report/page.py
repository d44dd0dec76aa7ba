"""The report of a campaign: one HTML file that needs nothing else, and the CIFs of the best crystals."""

from __future__ import annotations

import base64
import datetime
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, STABLE, summarise
from matsearch.metrics.hypervolume import REFERENCE_POINT
from matsearch.records import Stage
from matsearch.report.best import SYMPREC, Ranking, goals_of, rank
from matsearch.report.details import detail_blocks
from matsearch.report.frame import candidates_frame
from matsearch.report.front import front
from matsearch.report.funnel import funnel, passed
from matsearch.report.hulls import hulls
from matsearch.report.judges import judged
from matsearch.report.packed import pack, pack_text
from matsearch.report.progress import progress
from matsearch.report.spending import spending
from matsearch.report.table import columns, order_of_interest, provenance, yields
from matsearch.report.wording import moment, number, percent, plain, plain_text
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

LIBRARIES = {"plotly": "plotly-basic.min.js", "3dmol": "3Dmol-min.js"}
LICENCES = ("plotly-basic.LICENSE.txt", "3Dmol.LICENSE.txt")
SCRIPTS = tuple(f"{name}.js" for name in "elements data files plots hulls viewer lineage table main".split())

MAX_CONFIG = 200_000
"""Characters of the configuration."""
ATTRIBUTION = (
    "Known phases: the Materials Project (materialsproject.org), CC-BY 4.0, "
    "A. Jain et al., APL Materials 1, 011002 (2013)."
)
"""For a store that names no source of its known phases."""


def write_report(store: RunStore) -> Path:
    """Write `report.html` and `best/*.cif` into the run folder.

    Args:
        store: Of a campaign at any point of its life, open for reading at least; another process may be writing to it.

    Returns:
        The page's path.

    Raises:
        OSError: The folder cannot be written.
        StoreError: The database cannot be read.
    """
    with _one_moment(store):
        frame = candidates_frame(store)
        ranking = rank(store, frame)
        content = _content(store, frame, ranking)
    _write_cifs(store.run_dir / "best", ranking)
    page = store.run_dir / "report.html"
    _write(page, _render(content))
    return page


@dataclass(frozen=True)
class LivePage:
    """What a served page needs to ask for news.

    Attributes:
        seconds: Between two questions.
        version: What the run held when the page was made.
    """

    seconds: float
    version: str


def live_page(store: RunStore, live: LivePage) -> str:
    """The page as it is now; nothing is written."""
    with _one_moment(store):
        frame = candidates_frame(store)
        content = _content(store, frame, rank(store, frame))
    return _render(content, live)


@contextmanager
def _one_moment(store: RunStore) -> Iterator[None]:
    """All queries inside see the database at one moment, while a campaign goes on writing."""
    store.rows("BEGIN")
    try:
        yield
    finally:
        store.rows("ROLLBACK")


def _content(store: RunStore, frame: pd.DataFrame, ranking: Ranking) -> dict[str, Any]:
    meta, config, summary, found = store.meta, store.config, summarise(frame), funnel(store)
    units = frame.attrs["units"]
    known = hulls(store)
    table = columns(store, frame, ranking, known)
    shown = dict(units)
    for judge, heights in judged(store).items():
        table[name := f"energy_above_hull:{plain(judge, 60)}"] = [heights.get(one) for one in table["id"]]
        shown[name] = "eV/atom"
    order = order_of_interest(table)
    blocks, block_of = detail_blocks(store, order)
    place = {one: position for position, one in enumerate(order)}
    data = {
        "folder": store.run_dir.name,
        "name": plain(config["name"]),
        "potential": plain(config["potential"]["name"], 80),
        "objectives": [{"name": name, "unit": plain(unit, 40)} for name, unit in shown.items()],
        "thresholds": {"metastable": METASTABLE, "stable": STABLE, "quarantine": QUARANTINE},
        "columns": table
        | {"place": [place[one] for one in table["id"]], "block": [block_of.get(one) for one in table["id"]]},
        "progress": progress(frame),
        "front": front(frame, goals_of(store), json.loads(meta.get(REFERENCE_POINT, "{}"))),
        "phases": known.phases,
    }
    seeds = frame["operator"] == "seed"
    return {
        "name": plain(config["name"], 80),
        "status": meta.get("status", "new"),
        "created": meta.get("created", ""),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "matsearch_version": importlib.metadata.version("matsearch"),
        "config": config,
        "objectives": json.loads(meta.get("objectives", "[]")),
        "counts": summary["counts"],
        "rates": {f"{rate['name']}/{rate['of']}": rate for rate in summary["rates"]},
        "quarantine": QUARANTINE,
        "metastable": METASTABLE,
        "stable": STABLE,
        "symprec": SYMPREC,
        "passed": passed(found),
        "stopped": {stage: (count, reasons) for stage, count, reasons in found},
        "n_seeds": int(seeds.sum()),
        "n_seeds_scored": int((seeds & (frame["stage"] == Stage.SCORED)).sum()),
        "n_best": len(ranking.crystals),
        "best_seed": ranking.best_seed,
        "seeds_ahead": ranking.seeds_ahead,
        "columns": list(units),
        "units": units,
        "n_candidates": len(frame),
        "yields": yields(frame),
        "hulls_why_not": known.why_not,
        "spent": spending(store),
        "versions": json.loads(meta.get("versions", "{}")),
        "weights": json.loads(meta.get("weights", "{}")),
        "reference_hash": meta.get("reference_hash", ""),
        "sources": provenance(store),
        "attribution": meta.get("attribution", ATTRIBUTION),
        "config_text": plain_text(json.dumps(config, indent=2, ensure_ascii=False), MAX_CONFIG),
        "data": pack(data),
        "blocks": blocks,
    }


def _render(content: dict[str, Any], live: LivePage | None = None) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    own = "\n".join(_asset("js", name) for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{own}}})();\n'
    # The page may load nothing and run nothing but these scripts: what an LLM wrote is in it.
    runs = [script, *(_asset("vendor", name) for name in LIBRARIES.values())]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in runs)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}"
    if live is not None:
        policy += "; connect-src 'self'"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "number": number, "percent": percent, "moment": moment}
    return environment.from_string(_asset("report.html.j2")).render(
        **content,
        live=live,
        policy=Markup(policy),
        style=Markup(_asset("report.css")),
        script=Markup(script),
        libraries={name: _packed_asset("vendor", file) for name, file in LIBRARIES.items()},
        licences="\n\n".join(_asset("vendor", name) for name in LICENCES),
    )


@cache
def _asset(*place: str) -> str:
    return resources.files("matsearch.report").joinpath("assets", *place).read_text(encoding="utf-8")


@cache
def _packed_asset(*place: str) -> str:
    return pack_text(_asset(*place))


def _write_cifs(folder: Path, ranking: Ranking) -> None:
    """Write the CIFs, then take away those of an earlier report; other files in the folder are left alone."""
    folder.mkdir(exist_ok=True)
    for crystal in ranking.crystals:
        _write(folder / crystal.file_name, crystal.cif)
    current = {crystal.file_name for crystal in ranking.crystals}
    for path in folder.iterdir():
        if re.fullmatch(r"\d\d_\w+?(_-?[\d.]+)?\.cif", path.name) and path.name not in current:
            path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a file in one step: whoever reads it sees the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
