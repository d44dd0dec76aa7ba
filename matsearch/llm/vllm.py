"""vLLM in this process: the fastest way to sample a large model on one's own GPUs.

vLLM wants an environment of its own (extra `vllm`, constraints-vllm.txt); it is imported when the model is loaded.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from matsearch.errors import BackendRequestError, ConfigError
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.llm.decoding import storable
from matsearch.llm.local_model import check_configuration, find_model, first_line, quiet
from matsearch.records import Completion, Prompt, Usage

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    # The engine in this process: it then plans every call in the same way, and Ctrl-C does not end it in mid-reply.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Standard output is for results.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Settings of vLLM, where the user's environment has no others."""

ENGINE = {
    # All prompts of a campaign begin alike.
    "enable_prefix_caching": True,
    # The potential wants a part of the GPU, too; vLLM would take nearly all of it.
    "gpu_memory_utilization": 0.6,
    # Models that are held to JSON may else write white space without end. Only named backends know the setting.
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}
"""Arguments of `vllm.LLM`, where `options.engine` has no others."""

# For models without a chat template: the two turns as they are, as the `transformers` backend joins them.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{{ '' if loop.last else '\n\n' }}{% endfor %}"


class VLLMOptions(SamplingOptions, frozen=True, extra="forbid"):
    """Options of a model that vLLM runs.

    Attributes:
        top_p: Sample from the smallest set of tokens that holds this share of the probability; 1 for all.
        batch_size: How many prompts are handed over together; vLLM decides itself how many it works on at a time.
        engine: Further arguments of `vllm.LLM`, such as `tensor_parallel_size`, `max_model_len`, `quantization` or
            `gpu_memory_utilization`.
    """

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: PositiveInt = 64
    engine: dict[str, Any] = Field(default_factory=dict)


class VLLMBackend(Backend):
    """A chat model by local path or hub id, loaded at the first call.

    Raises:
        ConfigError: vLLM is not installed, or an argument of the engine is not for the options.
        BackendRequestError: A path without a model.
    """

    Options: ClassVar[type[SamplingOptions]] = VLLMOptions
    name: ClassVar[str] = "vllm"

    def __init__(self, model: str, options: SamplingOptions) -> None:
        super().__init__(model, options)
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "backend 'vllm' needs the package vllm, in an environment of its own: "
                'pip install -c constraints-vllm.txt "matsearch[vllm]"; or serve the model and use backend "openai"'
            )
        self._options = VLLMOptions.model_validate(options.model_dump())
        if taken := self._options.engine.keys() & {"model", "hf_token"}:
            # What stands in the options is stored with every reply.
            raise ConfigError(
                f"[llm] options.engine of backend 'vllm' must not hold {', '.join(sorted(taken))}: the model stands in "
                "[llm] model, a token of the hub goes into the environment variable HF_TOKEN"
            )
        self._source = find_model(self.name, model)
        self._llm: LLM | None = None
        self._takes_schemas = True
        self.chunk = self._options.batch_size

    @property
    def identity(self) -> dict[str, Any]:
        """Beside what every backend names: the cut of the distribution, and how the model runs."""
        return {**super().identity, "top_p": self._options.top_p, "engine": self._options.engine}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Sample one reply for each prompt.

        Raises:
            BackendRequestError: The model cannot be used, or a prompt does not fit into its context.
            BackendUnavailableError: The model is not on this machine and cannot be fetched.
        """
        if not prompts:
            return []
        start = time.perf_counter()
        llm = self._load()
        outputs = self._chat(llm, prompts)
        seconds = (time.perf_counter() - start) / len(prompts)
        return [self._completion(output, seconds) for output in outputs]

    def check(self) -> None:
        """Make sure that the model's configuration can be read, without its weights.

        Raises:
            BackendRequestError: It cannot be used.
            BackendUnavailableError: The model is not on this machine and cannot be fetched.
        """
        check_configuration(self._source)

    def close(self) -> None:
        """Stop the engine and give back its memory."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()  # the engine is full of cycles

    def _load(self) -> LLM:
        if self._llm is None:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            check_configuration(self._source)
            from vllm import LLM

            try:
                with quiet():
                    self._llm = LLM(model=self._source, **{**ENGINE, **self._options.engine})
            # No GPU, too little memory, a model or an argument that it does not know, an install that does not fit.
            except (RuntimeError, ValueError, TypeError, OSError, AssertionError, ImportError) as err:
                raise BackendRequestError(
                    f"[llm] vLLM cannot run model {self.model!r}: {first_line(err)}; see [llm] options.engine"
                ) from err
        return self._llm

    def _chat(self, llm: LLM, prompts: Sequence[Prompt]) -> list[RequestOutput]:
        tokenizer = llm.get_tokenizer()
        template = PLAIN_TEMPLATE if getattr(tokenizer, "chat_template", None) is None else None
        messages = [_turns(prompt, tokenizer, plain=template is not None) for prompt in prompts]
        while True:
            parameters = [self._parameters(prompt) for prompt in prompts]
            try:
                outputs: list[RequestOutput] = llm.chat(
                    messages, sampling_params=parameters, use_tqdm=False, chat_template=template
                )
            except _refusals() as err:
                reason = first_line(err)
                if self._takes_schemas and any(prompt.schema is not None for prompt in prompts):
                    # Some schemas are too much for its grammars. If that was not the reason, it comes again.
                    logger.warning("%s cannot be held to the schema (%s); asked for text from here", self.model, reason)
                    self._takes_schemas = False
                    continue
                raise BackendRequestError(
                    f"[llm] vLLM refused a prompt for model {self.model!r}: {reason}; show fewer or smaller parents, "
                    "or raise max_model_len in [llm] options.engine"
                ) from err
            return outputs

    def _parameters(self, prompt: Prompt) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        held = None
        if prompt.schema is not None and self._takes_schemas:
            held = StructuredOutputsParams(json=prompt.schema, disable_any_whitespace=True)
        return SamplingParams(
            temperature=self.options.temperature,
            top_p=self._options.top_p,
            max_tokens=self.options.max_tokens,
            seed=prompt.seed,
            structured_outputs=held,
        )

    def _completion(self, output: RequestOutput, seconds: float) -> Completion:
        (reply,) = output.outputs
        return Completion(
            text=storable(reply.text),
            usage=Usage(
                prompt_tokens=len(output.prompt_token_ids or ()),
                completion_tokens=len(reply.token_ids),
                cached_tokens=output.num_cached_tokens,
            ),
            finish_reason=reply.finish_reason or "stop",
            model=self.model,
            seconds=seconds,
        )


def _turns(prompt: Prompt, tokenizer: Any, *, plain: bool) -> list[dict[str, str]]:
    from jinja2 import TemplateError

    user = {"role": "user", "content": prompt.user}
    if not prompt.system:
        return [user]
    turns = [{"role": "system", "content": prompt.system}, user]
    if plain:
        return turns
    with suppress(TemplateError):  # some models know no system turn
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return turns
    return [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises at a request that it cannot take: errors of its own since 0.2x, ValueError before."""
    try:
        from vllm.exceptions import VLLMError
    except ImportError:
        return (ValueError,)
    return (ValueError, VLLMError)
