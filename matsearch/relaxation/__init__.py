"""Relaxation: structures in, relaxed structures or rejections out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matsearch.relaxation.relaxer import Scheduler, make_plan, protocol, relax, relax_iter

__all__ = ["Scheduler", "make_plan", "protocol", "relax", "relax_iter"]


def __getattr__(name: str) -> Any:
    # Late, so that the settings can be read without torch.
    if name in __all__:
        from matsearch.relaxation import relaxer

        return getattr(relaxer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
