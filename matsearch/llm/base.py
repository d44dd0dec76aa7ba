"""What an LLM backend is: a prompt in, a completion out, errors typed, tokens counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from inspect import isabstract
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, NonNegativeFloat, PositiveInt, ValidationError

from matsearch.errors import ConfigError
from matsearch.plugins import resolve
from matsearch.records import Completion, Prompt

BACKENDS = {
    "embedded": "matsearch.llm.embedded.backend:EmbeddedBackend",
    "openai": "matsearch.llm.openai:OpenAIBackend",
    "operators": "matsearch.propose.operators.backend:OperatorsBackend",
    "scripted": "matsearch.llm.scripted:ScriptedBackend",
    "transformers": "matsearch.llm.transformers:TransformersBackend",
    "vllm": "matsearch.llm.vllm:VLLMBackend",
}


class SamplingOptions(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Options every backend knows: what, with the model and the prompt, determines a reply. No number is inf or NaN."""

    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 4096


class Backend(ABC):
    """One LLM.

    Attributes:
        Options: Its options; unknown ones are refused by name.
        connection_options: Options that change no reply, such as a time-out; they may change while a campaign runs.
        path_options: Options that name a file; a relative one starts from the campaign file's folder.
        style: `chat` reads `prompts/*`, `compact` reads `prompts/compact/*` and writes one crystal a reply.
        chunk: How many prompts belong into one call of `complete`. The replies of a call are stored together,
            and a call is always made with the same prompts, so that batched sampling is repeatable.
        concurrency: How many calls of `complete` may run at the same time, from as many threads.
    """

    Options: ClassVar[type[SamplingOptions]] = SamplingOptions
    style: ClassVar[Literal["chat", "compact", "operators"]] = "chat"
    name: ClassVar[str] = "backend"
    connection_options: ClassVar[frozenset[str]] = frozenset()
    path_options: ClassVar[frozenset[str]] = frozenset()
    chunk: int = 1
    concurrency: int = 1

    def __init__(self, model: str, options: SamplingOptions) -> None:
        self.model = model
        self.options = options

    @property
    def identity(self) -> dict[str, Any]:
        """What determines a reply beside the prompt and its seed; part of the key a reply is stored under."""
        sampling = self.options.model_dump(mode="json", include=set(SamplingOptions.model_fields))
        return {"backend": self.name, "model": self.model, **sampling}

    @abstractmethod
    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """One completion for each prompt, in order.

        A reply that is no crystal, a refusal or a truncated text is a completion all the same.

        Raises:
            BackendError: The machinery is broken: no network, wrong key, unknown model.
        """

    def check(self) -> None:  # noqa: B027 (most backends have nothing to check)
        """Make sure, as cheaply as can be, that the backend can answer: asked before a campaign starts.

        Raises:
            BackendError: It cannot; says why.
        """

    def close(self) -> None:  # noqa: B027 (nor anything to close)
        """Give back connections and threads."""


def find_backend(name: str) -> type[Backend]:
    """The class of a backend: a built-in name, an entry point or `"pkg.module:Attr"`.

    Raises:
        ConfigError: No backend goes by that name.
    """
    found = resolve("backend", name, BACKENDS)
    if not (isinstance(found, type) and issubclass(found, Backend)) or isabstract(found):
        raise ConfigError(f"backend {name!r} is {found!r}; expected a class derived from matsearch.llm.base.Backend")
    return found


def load_backend(name: str, model: str, options: dict[str, Any]) -> Backend:
    """The backend that goes by a name, an entry point or `"pkg.module:Attr"`.

    Raises:
        ConfigError: Unknown backend, or an option it does not know.
    """
    backend_class = find_backend(name)
    return backend_class(model, parse_options(backend_class, name, options))


def parse_options(backend_class: type[Backend], name: str, options: dict[str, Any]) -> SamplingOptions:
    """Check `[llm] options` against what the backend declares.

    Raises:
        ConfigError: Names the option at fault and the known ones.
    """
    known = backend_class.Options.model_fields
    for key in options:
        if key not in known:
            raise ConfigError(
                f"unknown option {key!r} in [llm] options of backend {name!r}; "
                f"known options: {', '.join(sorted(known))}"
            )
    try:
        return backend_class.Options(**options)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        raise ConfigError(f"[llm] options.{where} of backend {name!r}: {first['msg']}, got {first['input']!r}") from err
