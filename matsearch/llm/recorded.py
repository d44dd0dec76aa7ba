"""The replies of an earlier run, given again to the same prompts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

from matsearch.errors import BackendRequestError, ConfigError
from matsearch.records import Completion, Prompt, Usage, content_hash

DATABASE = "run.sqlite"
"""What makes a folder that of a run (see `matsearch.store`, which stands above this room)."""

_QUERY = (
    "SELECT prompt_hash, seed, sample, text, finish_reason, model, "
    "prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens FROM replies"
)


class RecordedReplies:
    """Replies by text of the prompt, seed and sample.

    Attributes:
        source: Tells one run from another, however far it got.
    """

    def __init__(self, run_dir: Path, source: str, replies: dict[tuple[str, int, int], Completion]) -> None:
        self.source = source
        self._run_dir = run_dir
        self._replies = replies

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """Those in a run folder.

        Raises:
            ConfigError: Its database cannot be read, or holds no reply.
        """
        try:
            connection = sqlite3.connect(f"{(run_dir / DATABASE).resolve().as_uri()}?mode=ro", uri=True)
            try:
                meta = connection.execute("SELECT key, value FROM meta WHERE key IN ('created', 'config') ORDER BY key")
                source = content_hash(meta.fetchall())
                rows = connection.execute(_QUERY).fetchall()
            finally:
                connection.close()
        except sqlite3.Error as err:
            raise ConfigError(f"cannot read the replies of the run {run_dir}: {err}") from err
        if not rows:
            raise ConfigError(f"the run {run_dir} holds no replies to give again")
        return cls(run_dir, source, {tuple(row[:3]): _completion(row[3:]) for row in rows})

    def __len__(self) -> int:
        return len(self._replies)

    def find(self, prompt: Prompt) -> Completion:
        """The reply to this prompt.

        Raises:
            BackendRequestError: The run never asked for it.
        """
        found = self._replies.get((prompt.text_hash, prompt.seed, prompt.sample))
        if found is None:
            raise BackendRequestError(
                f"request {prompt.index} is none of the {len(self)} that {self._run_dir} holds a reply to: they can be "
                "given again while a campaign asks the same, which takes the same seed, space, search, prompts and "
                'results by which parents are chosen, and style = "compact" where the model was a compact one'
            )
        return found


def _completion(row: tuple[str, str, str, int | None, int | None, int | None, int | None]) -> Completion:
    text, finish_reason, model, *counts = row
    return Completion(text, Usage(*counts), finish_reason, model)
