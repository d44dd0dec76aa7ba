"""Which weights a potential computes with: its files, and what they hold, in short."""

from __future__ import annotations

import hashlib

from matsearch.potential.base import Potential


def weight_hashes(potential: Potential) -> dict[str, str]:
    """SHA-256 of each file of weights, by the file's name, as `sha256sum` prints it.

    Two files of one name are told apart by the potential's order, as in `model.json (2)`. Empty for a potential without
    such files: formulas, and plug-ins that name none.

    Raises:
        OSError: A file has gone since the potential was loaded.
    """
    hashes: dict[str, str] = {}
    for file in potential.weight_files:
        count = 1 + sum(name.partition(" (")[0] == file.name for name in hashes)
        hashes[file.name if count == 1 else f"{file.name} ({count})"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes
