"""Any causal language model that `transformers` can load, in this process.

Every sample has a random generator of its own, seeded by its prompt: what is sampled does not depend on what else is
in the batch, up to the rounding of batched arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from matsearch.errors import BackendRequestError, BackendUnavailableError
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.records import Completion, Prompt, Usage

if TYPE_CHECKING:
    import torch

# Decoding one token takes a GPU about as long for 64 prompts as for one.
GPU_BATCH = 64

Dtype = Literal["auto", "float16", "bfloat16", "float32", "float64"]


class TransformersOptions(SamplingOptions, frozen=True, extra="forbid"):
    """Options of a model in this process.

    Attributes:
        top_p: Sample from the smallest set of tokens that holds this share of the probability; 1 for all.
        dtype: Arithmetic; `auto` takes what the model was saved in.
        device: `auto` takes a GPU if there is one.
        batch_size: How many prompts are sampled together; None for 64 on a GPU and 16 on the CPU. What does not fit
            into a GPU's memory is halved until it does, which changes no reply but by rounding.
    """

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    dtype: Dtype = "auto"
    device: str = "auto"
    batch_size: PositiveInt | None = None


class TransformersBackend(Backend):
    """A causal language model by local path or hub id, loaded at the first call."""

    Options: ClassVar[type[SamplingOptions]] = TransformersOptions
    style: ClassVar[Literal["chat", "compact"]] = "chat"
    name: ClassVar[str] = "transformers"
    chunk: int = 16

    def __init__(self, model: str, options: SamplingOptions) -> None:
        super().__init__(model, options)
        self._options = TransformersOptions.model_validate(options.model_dump())
        self._source = self._find(model)
        self._loaded: tuple[Any, Any] | None = None
        if self._options.batch_size is not None:
            self.chunk = self._options.batch_size
        elif not self._device().startswith("cpu"):
            self.chunk = GPU_BATCH
        self._fitting: int | None = None  # as many prompts as fit into the memory, once that was found out

    @property
    def identity(self) -> dict[str, Any]:
        """Beside what every backend names: the cut of the distribution and the arithmetic."""
        return {**super().identity, "top_p": self._options.top_p, "dtype": self._options.dtype}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Sample one reply for each prompt, all in one batch if that fits into the memory.

        Raises:
            BackendRequestError: A prompt does not fit into the model's context or the memory, or the model cannot be
                used.
            BackendUnavailableError: The model is not on this machine and cannot be fetched.
        """
        import torch

        completions: list[Completion] = []
        while rest := prompts[len(completions) :]:
            n_tried = min(len(rest), self._fitting or len(rest))
            try:
                completions += self._complete_batch(rest[:n_tried])
            except torch.OutOfMemoryError as err:
                if n_tried == 1:
                    raise BackendRequestError(
                        f"[llm] model {self.model!r} does not fit into the memory of {self._device()} with even one "
                        f"prompt: {_first_line(err)}; take a smaller model, dtype or options.max_tokens"
                    ) from err
                self._fitting = n_tried // 2
            else:
                continue
            # Out here, where the error and all that its traceback held are gone.
            torch.cuda.empty_cache()
        return completions

    def _complete_batch(self, prompts: Sequence[Prompt]) -> list[Completion]:
        import torch

        start = time.perf_counter()
        model, tokenizer = self._load()
        texts = [self._prompt_text(prompt, tokenizer) for prompt in prompts]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=self._adds_special(tokenizer))
        n_prompt = int(batch["input_ids"].shape[1])
        room = self._room(model, n_prompt)
        with torch.inference_mode(), _quiet():
            output = model.generate(
                input_ids=batch["input_ids"].to(model.device),
                attention_mask=batch["attention_mask"].to(model.device),
                generation_config=self._generation_config(model, tokenizer, min(self._options.max_tokens, room)),
                logits_processor=[*self._masks(texts, n_prompt), self._sampler(prompts)],
            )
        seconds = time.perf_counter() - start
        ends = _end_ids(model, tokenizer)
        completions = []
        for row, attention in zip(output[:, n_prompt:].tolist(), batch["attention_mask"], strict=True):
            stop = next((i for i, token in enumerate(row) if token in ends), None)
            reply = row if stop is None else row[: stop + 1]
            completions.append(
                Completion(
                    text=self._reply_text(tokenizer, reply),
                    usage=Usage(prompt_tokens=int(attention.sum()), completion_tokens=len(reply)),
                    finish_reason="length" if stop is None else "stop",
                    model=self.model,
                    seconds=seconds / len(prompts),
                )
            )
        return completions

    def check(self) -> None:
        """Make sure that the model's configuration can be read and that the device is there, without the weights.

        Raises:
            BackendRequestError: Either cannot be used.
            BackendUnavailableError: The model is not on this machine and cannot be fetched.
        """
        import torch
        from transformers import AutoConfig

        with self._loading(self._source):
            AutoConfig.from_pretrained(self._source, local_files_only=Path(self._source).is_dir())
        with self._using_device():
            torch.empty(1, device=self._device())

    def close(self) -> None:
        """Let the model go."""
        self._loaded = None

    def _find(self, model: str) -> str:
        """What to load: a folder that holds a model, or a hub id.

        Raises:
            BackendRequestError: It looks like a folder, but there is no model in it.
        """
        path = Path(model).expanduser()
        if not (path.exists() or path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1):
            return model
        if not (path / "config.json").is_file():
            found = "a folder without config.json" if path.is_dir() else "a file" if path.exists() else "nothing"
            raise BackendRequestError(
                f"[llm] model {model!r} of backend {self.name!r}: expected a folder saved by transformers, found "
                f"{found}; give the folder that holds config.json and the weights, or a hub id"
            )
        return str(path)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = self._load_from(self._source)
        return self._loaded

    def _load_from(self, source: str) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        is_local = Path(source).is_dir()
        dtype = "auto" if self._options.dtype == "auto" else getattr(torch, self._options.dtype)
        with self._loading(source):
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=is_local, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(source, local_files_only=is_local, dtype=dtype)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        with self._using_device():
            return model.to(self._device()).eval(), tokenizer

    def _device(self) -> str:
        import torch

        if self._options.device != "auto":
            return self._options.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @contextmanager
    def _loading(self, source: str) -> Iterator[None]:
        """Say what is wrong with a model that cannot be read.

        Raises:
            BackendRequestError: Its files are no causal language model, or some are missing.
            BackendUnavailableError: It is not on this machine and cannot be fetched.
        """
        try:
            with _quiet():
                yield
        except OSError as err:  # transformers' word for missing files, unknown ids and an unreachable hub alike
            is_local = Path(source).is_dir()
            where = "is incomplete" if is_local else "is not on this machine and could not be fetched from the hub"
            kind = BackendRequestError if is_local else BackendUnavailableError
            raise kind(f"[llm] model {source!r} {where}: {_first_line(err)}; check the name or give a folder") from err
        except (ValueError, KeyError, TypeError) as err:
            raise BackendRequestError(
                f"[llm] model {source!r} is no causal language model: {_first_line(err)}"
            ) from err

    @contextmanager
    def _using_device(self) -> Iterator[None]:
        """Say that a device is not there.

        Raises:
            BackendRequestError: It is not.
        """
        try:
            yield
        except (RuntimeError, AssertionError) as err:  # torch raises either
            device = self._device()
            raise BackendRequestError(f"[llm] options.device {device!r} cannot be used: {_first_line(err)}") from err

    def _room(self, model: Any, n_prompt: int) -> int:
        """Tokens left in the model's context after the prompt."""
        context = getattr(model.config, "max_position_embeddings", None) or n_prompt + self._options.max_tokens
        if n_prompt >= context:
            raise BackendRequestError(
                f"the prompt has {n_prompt} tokens, the context of model {self.model!r} is {context}; show fewer or "
                "smaller parents, or take a model with a longer context"
            )
        return int(context - n_prompt)

    def _generation_config(self, model: Any, tokenizer: Any, max_new_tokens: int) -> Any:
        """Plain decoding: penalties and cuts that a model's own settings may hold are switched off."""
        from transformers import GenerationConfig

        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted(_end_ids(model, tokenizer)),
        )

    def _adds_special(self, tokenizer: Any) -> bool:
        return tokenizer.chat_template is None  # a chat template writes the special tokens itself

    def _prompt_text(self, prompt: Prompt, tokenizer: Any) -> str:
        if tokenizer.chat_template is None:
            return f"{prompt.system}\n\n{prompt.user}" if prompt.system else prompt.user
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
        messages.append({"role": "user", "content": prompt.user})
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:  # some models know no system turn
            joined = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
            return str(tokenizer.apply_chat_template(joined, tokenize=False, add_generation_prompt=True))

    def _reply_text(self, tokenizer: Any, reply: list[int]) -> str:
        # As it was written: some tokenizers would take out spaces for the looks of it.
        return str(tokenizer.decode(reply, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _masks(self, texts: Sequence[str], n_prompt: int) -> list[Any]:  # noqa: ARG002 - for subclasses
        """Logits processors that run before the sampler."""
        return []

    def _sampler(self, prompts: Sequence[Prompt]) -> Sampler:
        return Sampler([prompt.seed for prompt in prompts], self._options.temperature, self._options.top_p)


class Sampler:
    """Logits processor that samples: it leaves one token a row, which greedy decoding then takes.

    One uniform number a token, drawn on the CPU from the row's own generator, so that neither the other rows nor the
    device change it.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - their signature
        """Scores [n, n_words] to the same with the chosen token at 0 and all others at -inf."""
        import torch

        if self._temperature == 0:
            return scores
        probabilities = torch.softmax(scores.double() / self._temperature, dim=-1)
        if self._top_p < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
            ordered[ordered.cumsum(dim=-1) - ordered >= self._top_p] = 0.0
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
        cumulative = probabilities.cumsum(dim=-1)
        draws = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in self._generators])
        levels = draws.to(scores.device)[:, None] * cumulative[:, -1:]
        # The first token whose cumulative probability exceeds the level: never one of probability zero.
        chosen = torch.searchsorted(cumulative, levels, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a reply: the tokenizer's, and those that a chat model declares beside it."""
    declared = model.generation_config.eos_token_id
    ids = set(declared) if isinstance(declared, list) else {declared}
    return {int(token) for token in ids | {tokenizer.eos_token_id} if token is not None}


def _first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers while it loads and generates."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
