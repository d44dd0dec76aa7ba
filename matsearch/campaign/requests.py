"""Prompts on their way to the LLMs, and replies on their way to the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from matsearch.campaign.ledger import Ledger
from matsearch.campaign.parts import Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.rows import reply_row
from matsearch.campaign.threads import torch_threads
from matsearch.records import Completion, Parents, Prompt
from matsearch.store import RunStore


@dataclass
class Asked:
    """A proposal between ask and tell.

    Attributes:
        parents: What the engine asked for.
        llm: Index of the `[[llm]]` that answers.
        prompts: Its requests.
        replies: Those that have arrived, by position in `prompts`.
        candidates: Ids of what the replies hold, once they are read.
    """

    parents: Parents
    llm: int
    prompts: list[Prompt]
    replies: dict[int, Completion]
    candidates: list[int] | None = None

    @property
    def answered(self) -> bool:
        """Whether every request has its reply."""
        return len(self.replies) == len(self.prompts)


Chunk = list[tuple[Asked, int]]
"""The requests of one call: each an asked proposal and a position in its prompts."""


class Requests:
    """Sends prompts, each backend in threads of its own, and commits each reply when it arrives.

    Attributes:
        pending: Calls in flight.
        spent: The budget that stopped the sending, or None.
    """

    def __init__(self, store: RunStore, parts: Parts, ledger: Ledger, progress: Progress) -> None:
        self._store = store
        self._parts = parts
        self._ledger = ledger
        self._progress = progress
        self._queues: list[deque[Chunk]] = [deque() for _ in parts.backends]
        self._in_flight = [0] * len(parts.backends)
        self._pools = [torch_threads(one.concurrency, f"llm-{i}") for i, one in enumerate(parts.backends)]
        self.pending: dict[Future[list[Completion]], Chunk] = {}
        self.spent: str | None = None

    def queue(self, block: Sequence[Asked]) -> None:
        """Line up a block's prompts, in chunks that are always the same; stored replies are not asked for again."""
        for llm, backend in enumerate(self._parts.backends):
            wanted = [(asked, i) for asked in block if asked.llm == llm for i in range(len(asked.prompts))]
            for start in range(0, len(wanted), backend.chunk):
                # The replies of one call are committed together, so a chunk is stored as a whole or not at all,
                # unless a budget once ended the block within it: then it is asked whole again, since a reply may
                # depend on what is asked with it, and only what is missing is kept.
                chunk = wanted[start : start + backend.chunk]
                if any(i not in asked.replies for asked, i in chunk):
                    self._queues[llm].append(chunk)
        self.send()

    def send(self) -> None:
        """Send what is lined up, no more at a time than each backend takes, as long as the budgets allow."""
        for llm, (backend, queue) in enumerate(zip(self._parts.backends, self._queues, strict=True)):
            while queue and self._in_flight[llm] < backend.concurrency:
                if (spent := self._ledger.spent()) is not None:
                    self.spent = spent
                    return
                chunk = queue.popleft()
                future = self._pools[llm].submit(backend.complete, [asked.prompts[i] for asked, i in chunk])
                self._in_flight[llm] += 1
                self.pending[future] = chunk

    def take(self, future: Future[list[Completion]]) -> None:
        """Commit the replies of a finished call.

        Raises:
            BackendError: The call failed.
        """
        chunk = self.pending.pop(future)
        llm = chunk[0][0].llm
        self._in_flight[llm] -= 1
        completions = future.result()
        identity = self._parts.backends[llm].identity
        new = [
            (asked, i, completion)
            for (asked, i), completion in zip(chunk, completions, strict=True)
            if i not in asked.replies
        ]
        rows = [reply_row(asked.parents.proposal, asked.prompts[i], identity, one) for asked, i, one in new]
        with self._store.transaction():
            self._store.insert("replies", rows)
        for asked, i, completion in new:
            asked.replies[i] = completion
            self._ledger.add_reply(asked.prompts[i], completion, self._parts.config.llm[llm].prices)
        self._progress.count("replies", len(rows))

    def close(self, *, wait: bool) -> None:
        """Stop the threads, after the calls in flight or without them."""
        for pool in self._pools:
            pool.shutdown(wait=wait, cancel_futures=True)
