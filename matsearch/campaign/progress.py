"""What a campaign tells whoever watches. The default says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from matsearch.records import Individual, Outcome


class Progress:
    """Hooks that the loop calls; a command line overrides them."""

    def start(self, what: str, total: int) -> None:
        """A phase begins: `seeds` or `proposals`, with how many there will be."""

    def count(self, what: str, n: int = 1) -> None:
        """Some `replies` arrived, or some `candidates` reached their final stage."""

    def told(self, n_told: int, generation: int, outcomes: Sequence[Outcome], best: Individual | None) -> None:
        """The outcomes of one more proposal are known.

        Args:
            n_told: Proposals told so far.
            generation: Of this one.
            outcomes: What became of its candidates.
            best: First of the population.
        """

    def say(self, line: str) -> None:
        """Something that the user should know of."""

    def stopping(self) -> None:
        """The user asked to stop; what is in flight is finished first."""
