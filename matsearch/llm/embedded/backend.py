"""The model inside the package: small, trained by the project itself, needs no key, no GPU and no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from matsearch.errors import BackendRequestError
from matsearch.llm.base import SamplingOptions
from matsearch.llm.embedded.grammar import grammar_for
from matsearch.llm.embedded.words import END, PAD, model_words, prompt_words
from matsearch.llm.transformers import Dtype, TransformersBackend, TransformersOptions
from matsearch.records import Prompt

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parent / "weights"


class EmbeddedOptions(TransformersOptions, frozen=True, extra="forbid"):
    """Options of the embedded model.

    Attributes:
        dtype: Double precision, where the shape of a batch does not flip a sampled token; the model is so small that
            it costs little.
        device: The CPU: the same reply on every machine.
    """

    max_tokens: PositiveInt = 256
    dtype: Dtype = "float64"
    device: str = "cpu"


class EmbeddedBackend(TransformersBackend):
    """A small Llama that writes compact crystals; `model` is "default" or a folder written by matsearch.training."""

    Options: ClassVar[type[SamplingOptions]] = EmbeddedOptions
    style: ClassVar[Literal["chat", "compact"]] = "compact"
    name: ClassVar[str] = "embedded"
    chunk: int = 16

    def __init__(self, model: str, options: SamplingOptions) -> None:
        super().__init__(model, EmbeddedOptions.model_validate(options.model_dump()))

    @property
    def identity(self) -> dict[str, Any]:
        """Beside what every backend names: which weights. Other weights write other replies."""
        return {**super().identity, "weights": _weights_hash(Path(self._source))}

    def _find(self, model: str) -> str:
        if model == "default":
            return str(WEIGHTS)
        if not (Path(model).expanduser() / "config.json").is_file():
            raise BackendRequestError(
                f'[llm] model {model!r} of backend {self.name!r}: expected "default" or a folder written by '
                "python -m matsearch.training.language_model"
            )
        return str(Path(model).expanduser())

    def _load_from(self, source: str) -> tuple[Any, Any]:
        model, tokenizer = super()._load_from(source)
        if tokenizer.convert_tokens_to_ids(model_words()) != list(range(len(model_words()))):
            raise BackendRequestError(f"[llm] model {source!r} was trained on other words; train it again")
        return model, tokenizer

    def _prompt_text(self, prompt: Prompt, tokenizer: Any) -> str:  # noqa: ARG002
        try:
            return " ".join(prompt_words(prompt.user))
        except ValueError as err:
            raise BackendRequestError(f"{err}; its prompts are the lines of prompts/compact") from err

    def _reply_text(self, tokenizer: Any, reply: list[int]) -> str:  # noqa: ARG002
        words = model_words()
        return " ".join(words[token] for token in reply if words[token] != PAD)

    def _masks(self, texts: Sequence[str], n_prompt: int) -> list[Any]:
        return [GrammarMask([text.split() for text in texts], n_prompt)]


class GrammarMask:
    """Logits processor that leaves every row the words its line can go on with."""

    def __init__(self, prompts: Sequence[Sequence[str]], n_prompt: int) -> None:
        self._grammars = [grammar_for(prompt) for prompt in prompts]
        self._n_prompt = n_prompt
        self._ids = {word: number for number, word in enumerate(model_words())}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [n, n_words] with what cannot follow at -inf."""
        import torch

        words = model_words()
        forbidden = np.ones(tuple(scores.shape), dtype=bool)
        for row, grammar in enumerate(self._grammars):
            if input_ids.shape[1] > self._n_prompt:
                word = words[int(input_ids[row, -1])]
                if word != PAD:  # rows that have ended are padded
                    grammar.accept(word)
            forbidden[row, [self._ids[word] for word in grammar.allowed or (END,)]] = False
        return scores.masked_fill(torch.from_numpy(forbidden).to(scores.device), -torch.inf)


@cache
def _weights_hash(folder: Path) -> str:
    import hashlib

    path = folder / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"
