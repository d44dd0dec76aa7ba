"""A model whose replies are written down beforehand: for tests and for trying a campaign without a model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveInt

from matsearch.errors import BackendRequestError, ConfigError, MatsearchError
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.llm.decoding import decode, storable
from matsearch.llm.recorded import DATABASE, RecordedReplies
from matsearch.plugins import import_path
from matsearch.records import Completion, Prompt, Usage, content_hash


class ScriptedOptions(SamplingOptions, frozen=True):
    """What the script says, and how.

    Attributes:
        replies: A list of replies; the path of a file (`.jsonl`: a string or an object with `text` on each line;
            anything else: one reply) or of a folder of such replies, a file each, in the order of their names;
            a run folder, whose replies are given to the same prompts again, by whatever model they were;
            or `"pkg.module:function"`, called with the `Prompt`.
        style: Which templates the prompts come from, as for any backend.
        log: A file that gets one line of JSON for each prompt, when it is asked.
        delay: Seconds that a reply takes.
        concurrency: How many calls of `complete` may run at the same time.
    """

    replies: list[str] | str
    style: Literal["chat", "compact"] = "chat"
    log: Path | None = None
    delay: NonNegativeFloat = 0.0
    concurrency: PositiveInt = 1


class ScriptedBackend(Backend):
    """Answers prompt number i with reply number i, starting over after the last; or as a run was answered.

    Raises:
        ConfigError: The replies cannot be read, or there are none.
    """

    Options = ScriptedOptions
    name = "scripted"
    connection_options = frozenset({"log", "delay", "concurrency"})
    path_options = frozenset({"replies", "log"})

    def __init__(self, model: str, options: ScriptedOptions) -> None:
        super().__init__(model, options)
        self.style = options.style  # type: ignore[misc]  # of all backends, only a script can be both
        self.concurrency = options.concurrency
        self._delay = options.delay
        self._log = options.log
        self._log_lock = threading.Lock()
        self._function: Callable[[Prompt], str] | None = None
        self._replies: list[tuple[str, str]] = []
        self._recorded: RecordedReplies | None = None
        replies = options.replies
        if isinstance(replies, str) and (Path(replies).expanduser() / DATABASE).is_file():
            self._recorded = RecordedReplies.read(Path(replies).expanduser())
            self._source = self._recorded.source
        elif isinstance(replies, str) and ":" in replies and not Path(replies).exists():
            self._function = import_path("scripted replies", replies)
            self._source = replies
        else:
            self._replies = read_replies(replies)
            self._source = content_hash([text for text, _ in self._replies])

    @property
    def identity(self) -> dict[str, Any]:
        """Other replies are another model."""
        return {**super().identity, "replies": self._source}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """The scripted replies, in order; tokens are words, or what a recorded reply took.

        Raises:
            BackendRequestError: A recorded run holds no reply to a prompt, or the function raised.
            ConfigError: The function returned something other than text, or the log cannot be written.
        """
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> Completion:
        started = time.perf_counter()
        self._record(prompt)
        if self._delay:
            time.sleep(self._delay)
        if self._recorded is not None:
            return replace(self._recorded.find(prompt), seconds=time.perf_counter() - started)
        text, finish_reason = self._reply(prompt)
        usage = Usage(
            prompt_tokens=len(prompt.system.split()) + len(prompt.user.split()),
            completion_tokens=len(text.split()),
        )
        seconds = time.perf_counter() - started
        return Completion(text, usage, finish_reason, model=self.model, seconds=seconds)

    def _reply(self, prompt: Prompt) -> tuple[str, str]:
        if self._function is None:
            return self._replies[prompt.index % len(self._replies)]
        try:
            text = self._function(prompt)
        except MatsearchError:
            raise
        except (Exception, SystemExit) as err:  # someone else's function may raise anything
            reason = f"{type(err).__name__}: {' '.join(str(err).split())}"
            raise BackendRequestError(
                f"scripted replies {self._source!r} raised {reason} for prompt {prompt.index}; mend the function"
            ) from err
        if not isinstance(text, str):
            raise ConfigError(f"scripted replies {self._source!r} must return text, got {type(text).__name__}")
        return storable(text), "stop"

    def _record(self, prompt: Prompt) -> None:
        if self._log is None:
            return
        line = json.dumps({"index": prompt.index, "sample": prompt.sample, "seed": prompt.seed}) + "\n"
        try:
            # One line, opened and closed each time, so that a killed process leaves whole lines behind.
            with self._log_lock, self._log.open("a", encoding="utf-8") as log:
                log.write(line)
        except OSError as err:
            raise ConfigError(f"cannot write the scripted backend's log {self._log}: {err.strerror}") from err


def read_replies(replies: list[str] | str) -> list[tuple[str, str]]:
    """Text and finish reason of each reply.

    Raises:
        ConfigError: No such file, not JSON lines, or nothing in it.
    """
    if isinstance(replies, list):
        found = [(storable(text), "stop") for text in replies]
    else:
        path = Path(replies).expanduser()
        try:
            found = _read_path(path)
        except OSError as err:
            raise ConfigError(f"cannot read the scripted replies {path}: {err.strerror}") from err
    if not found:
        raise ConfigError(f"the scripted backend needs at least one reply; found none in {replies!r}")
    return found


def _read_path(path: Path) -> list[tuple[str, str]]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return [_read_text(file) for file in files]
    if path.suffix == ".jsonl":
        return _read_lines(path)
    return [_read_text(path)]


def _read_text(path: Path) -> tuple[str, str]:
    text, is_utf8 = decode(path.read_bytes())
    return text, "stop" if is_utf8 else "not_utf8"


def _read_lines(path: Path) -> list[tuple[str, str]]:
    found = []
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        if not raw.strip():
            continue
        line, is_utf8 = decode(raw)
        try:
            reply = json.loads(line)
        except json.JSONDecodeError as err:
            raise ConfigError(f"line {number} of the scripted replies {path} is not JSON: {err.msg}") from err
        text = reply.get("text") if isinstance(reply, dict) else reply
        if not isinstance(text, str):
            raise ConfigError(
                f"line {number} of the scripted replies {path} must be a string or an object with 'text', "
                f"got {line[:80]}"
            )
        found.append((storable(text), "stop" if is_utf8 else "not_utf8"))
    return found
