"""The report of a campaign: one plain HTML file that needs nothing else, and the CIFs of the best crystals."""

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
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.metrics.discovery import METASTABLE, QUARANTINE, summarise
from matsearch.records import Stage
from matsearch.report.best import Ranking, rank
from matsearch.report.chart import HEIGHT, WIDTH, progress_panels
from matsearch.report.frame import candidates_frame
from matsearch.report.funnel import funnel, passed
from matsearch.report.spending import spending
from matsearch.report.wording import number, percent, plain
from matsearch.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 2000
"""Candidates in the page's full table; a few hundred kB."""

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


@contextmanager
def _one_moment(store: RunStore) -> Iterator[None]:
    """All queries inside see the database at one moment, while a campaign goes on writing."""
    store.rows("BEGIN")
    try:
        yield
    finally:
        store.rows("ROLLBACK")


def _content(store: RunStore, frame: pd.DataFrame, ranking: Ranking) -> dict[str, Any]:
    meta, summary, found = store.meta, summarise(frame), funnel(store)
    names = list(frame.attrs["units"])
    return {
        "name": store.config["name"],
        "status": meta.get("status", "new"),
        "created": meta.get("created", ""),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "matsearch_version": importlib.metadata.version("matsearch"),
        "folder": store.run_dir.name,
        "config": store.config,
        "objectives": json.loads(meta.get("objectives", "[]")),
        "counts": summary["counts"],
        "rates": {f"{rate['name']}/{rate['of']}": rate for rate in summary["rates"]},
        "quarantine": QUARANTINE,
        "metastable": METASTABLE,
        "passed": passed(found),
        "stopped": {stage: (count, reasons) for stage, count, reasons in found},
        "n_seeds": int((frame["operator"] == "seed").sum()),
        "n_seeds_scored": int(((frame["operator"] == "seed") & (frame["stage"] == Stage.SCORED)).sum()),
        "ranking": ranking,
        "columns": names,
        "units": frame.attrs["units"],
        "panels": progress_panels(frame),
        "chart_size": (WIDTH, HEIGHT),
        "n_candidates": len(frame),
        "candidates": _table_rows(frame),
        "spent": spending(store),
        "versions": json.loads(meta.get("versions", "{}")),
        "attribution": meta.get("attribution", ATTRIBUTION),
        "config_text": json.dumps(store.config, indent=2, ensure_ascii=False),
    }


def _table_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the full table: where there are too many, the scored ones first, then the latest; in order of id."""
    if len(frame) > MAX_ROWS:
        order = frame.assign(_scored=frame["stage"] == Stage.SCORED).sort_values(["_scored", "id"], ascending=False)
        frame = frame.loc[order.index[:MAX_ROWS]].sort_values("id")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def _render(content: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = resources.files("matsearch.report").joinpath("assets")
    template, style, script = (
        assets.joinpath(name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "number": number, "percent": percent, "data_uri": data_uri}
    # The page may load nothing and run nothing but its own few lines: what an LLM wrote is in it.
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.from_string(template)
    return page.render(**content, style=Markup(style), script=Markup(script), script_hash=script_hash)


def data_uri(cif: str) -> str:
    """A CIF as a link's target, so that the page needs no file beside it."""
    return f"data:chemical/x-cif;base64,{base64.b64encode(cif.encode()).decode()}"


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
