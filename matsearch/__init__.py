"""matsearch: LLM-driven evolutionary crystal generation with an embedded machine-learning potential.

Everything here is imported when it is first used, so that `matsearch --help` answers at once.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name: the module it lives in.
_PUBLIC = {
    "Campaign": "matsearch.campaign",
    "Completion": "matsearch.records",
    "MatsearchError": "matsearch.errors",
    "Prediction": "matsearch.records",
    "Prompt": "matsearch.records",
    "Rejection": "matsearch.records",
    "Relaxed": "matsearch.records",
    "Stage": "matsearch.records",
    "evaluate": "matsearch.evaluation",
    "load_potential": "matsearch.potential",
    "objective": "matsearch.objectives",
    "parse_reply": "matsearch.propose",
    "relax": "matsearch.relaxation",
    "score": "matsearch.evaluation",
}

__all__ = [
    "Campaign",
    "Completion",
    "MatsearchError",
    "Prediction",
    "Prompt",
    "Rejection",
    "Relaxed",
    "Stage",
    "__version__",
    "evaluate",
    "load_potential",
    "objective",
    "parse_reply",
    "relax",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'matsearch' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")


def __dir__() -> list[str]:
    return __all__
