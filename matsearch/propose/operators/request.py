"""What operators without an LLM are asked, as the text of a prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matsearch.crystal.text import to_json
from matsearch.propose.space import Space

if TYPE_CHECKING:
    from pymatgen.core import Structure


def request_text(operator: str, parents: Sequence[tuple[int, Structure]], space: Space) -> str:
    """The prompt.

    Args:
        operator: Its name.
        parents: Candidate ids and crystals.
        space: Which crystals are wanted.
    """
    shown = [{"id": number, "structure": json.loads(to_json(structure))} for number, structure in parents]
    wanted = {
        "elements": sorted(space.elements) if space.elements else None,
        "max_atoms": space.max_atoms,
        "composition": space.composition,
    }
    request = {"operator": operator, "parents": shown, "space": wanted}
    return json.dumps(request, separators=(",", ":"))
