"""What a real 8B model wrote: 19 whole replies, and 80 structures that another project's parser failed on.

The expectations were written by reading the texts: for each thing in a reply that is meant as a crystal its formula, or
the reason why it is none, which is the first fault from the top. Where a text has two faults that a reader may well
name in either order, both are allowed (`count_mismatch|bad_poscar`).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from matsearch.propose import parse_reply
from matsearch.records import Rejection

EXPECTED = json.loads((Path(__file__).parent / "expected_of_real_replies.json").read_text())
COLUMNS = {"llm_replies_llama31_8b": "response", "llm_parse_errors_llama31_8b": "structure_string"}


def texts(name: str) -> dict[str, str]:
    """Hash to text of each row."""
    path = Path(os.environ.get("MATSEARCH_SHARED", "")) / "data" / f"{name}.parquet"
    if "MATSEARCH_SHARED" not in os.environ or not path.is_file():
        pytest.skip(f"MATSEARCH_SHARED names no folder with data/{name}.parquet")
    import pandas as pd

    rows = pd.read_parquet(path)[COLUMNS[name]]
    return {hashlib.sha256(text.encode()).hexdigest()[:16]: text for text in rows}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_crystal_of_a_real_reply_is_found_and_every_other_has_its_reason(name):
    by_hash = texts(name)
    differences = []
    for row in EXPECTED[name]:
        entries = parse_reply(by_hash[row["sha256"]])
        found = [e.reason if isinstance(e, Rejection) else e.composition.formula for e in entries]
        allowed = [each.split("|") for each in row["found"]]
        if len(found) != len(allowed) or any(one not in each for one, each in zip(found, allowed, strict=True)):
            differences.append(f"row {row['row']}: expected {row['found']}, found {found}")
    assert not differences, "\n".join(differences)
