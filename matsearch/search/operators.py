"""The operators that are built in, as a search sees them: by name, with what each starts from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """What an operator starts from.

    Attributes:
        n_parents: Of the proposal's group; None: all of it.
        needs_parents: Whether there is nothing to do without one.
        known: Whether it draws known phases, so that no LLM can be asked for it.
    """

    n_parents: int | None = None
    needs_parents: bool = True
    known: bool = False


OPERATORS = {
    "analogue": Start(0, needs_parents=False, known=True),
    "crossover": Start(),
    "distort": Start(1),
    "explore": Start(0, needs_parents=False),
    "ion_exchange": Start(0, needs_parents=False, known=True),
    "mutate": Start(1),
    "optimise": Start(),
    "predict": Start(needs_parents=False),
    "prototype": Start(2),
    "random_prototype": Start(0, needs_parents=False, known=True),
    "repair": Start(0),
    "substitute": Start(1),
    "vacancy": Start(1),
    "wyckoff": Start(1),
}
"""By name, which is also that of the prompt template and of what `matsearch.propose.operators` makes without an LLM."""
KINDS_OF_KNOWN = frozenset({"analogue"})
"""Those that start from known phases of a kind, if one is named."""


def has_template(operator: str) -> bool:
    """Whether an LLM can be asked for it: not for one of somebody's own, which makes crystals itself."""
    return operator in OPERATORS and not OPERATORS[operator].known


def n_parents(operator: str, size: int) -> int:
    """How many parents of a group of some size an operator takes; one of somebody's own takes all."""
    start = OPERATORS.get(operator, Start())
    return size if start.n_parents is None else min(start.n_parents, size)
