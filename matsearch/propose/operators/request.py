"""What operators without an LLM are asked, as the text of a prompt."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from matsearch.crystal.text import to_json
from matsearch.propose.space import Space
from matsearch.records import Kind

if TYPE_CHECKING:
    from pymatgen.core import Structure


def request_text(
    operator: str,
    parents: Sequence[tuple[int, Structure]],
    space: Space,
    kind: Kind | None = None,
    tried: Collection[str] = (),
    tried_crystals: Sequence[str] = (),
) -> str:
    """The prompt.

    Args:
        operator: Its name.
        parents: Candidate ids and crystals.
        space: Which crystals are wanted.
        kind: Of the known phases to start from; None for any.
        tried: Reduced formulas that need not be made again.
        tried_crystals: Crystals that need not either, one line each.
    """
    shown = [{"id": number, "structure": json.loads(to_json(structure))} for number, structure in parents]
    wanted: dict[str, Any] = {
        "elements": sorted(space.elements) if space.elements else None,
        "max_atoms": space.max_atoms,
        "composition": space.composition,
    }
    # Only what is asked for: most campaigns ask for none of these.
    wanted |= {"min_atoms": space.min_atoms} if space.min_atoms is not None else {}
    wanted |= {"whole_system": True} if space.whole_system else {}
    wanted |= {"ratio": space.ratio} if space.ratio is not None else {}
    wanted |= {"space_groups": sorted(space.space_groups)} if space.space_groups is not None else {}
    wanted |= {"hidden": sorted(space.hidden)} if space.hidden else {}
    request = {"operator": operator, "parents": shown, "space": wanted} | ({"kind": kind} if kind else {})
    request |= {"tried": sorted(tried)} if tried else {}
    request |= {"tried_crystals": list(tried_crystals)} if tried_crystals else {}
    return json.dumps(request, separators=(",", ":"))
