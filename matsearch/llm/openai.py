"""Any endpoint that speaks OpenAI's Chat Completions, near or far."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from matsearch.errors import (
    BackendAuthError,
    BackendError,
    BackendRequestError,
    BackendUnavailableError,
)
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.llm.chat_reply import (
    declares_error,
    error_field,
    error_text,
    read_completion,
    shortened,
    undecodable_completion,
)
from matsearch.llm.chat_request import Manners
from matsearch.llm.chat_session import Answer, ChatSession
from matsearch.llm.endpoint import check_url, find_key, is_loopback
from matsearch.records import Completion, Prompt

logger = logging.getLogger(__name__)

# Seconds before the first retry, doubled at each further one. Rate limits are counted by the minute; where nothing
# ever answered the address is most likely wrong, which should not take long to say.
BACKOFF = {"failed": 1.0, "rate_limited": 4.0, "unreachable": 0.25}
MAX_BACKOFF = 30.0
# An endpoint that asks for a longer pause than this (a daily quota) is left alone: the run can be continued later.
MAX_RETRY_AFTER = 300.0
# A reply without a choice was perhaps paid for: ask again, but not as often as after a failure.
BAD_REPLY_RETRIES = 2
# So many of them in a row, each retried, and what answers is no longer the endpoint that once gave chat completions.
MAX_BAD_REPLIES = 3


class OpenAIOptions(SamplingOptions, frozen=True):
    """How to reach the endpoint and what to ask of it.

    Attributes:
        base_url: The endpoint, up to and including `/v1`.
        api_key_env: Environment variable that holds the key; an endpoint on this machine or network needs none.
        timeout: Seconds that one request may take.
        concurrency: How many requests may be under way at the same time.
        max_retries: How often a failed request is sent again.
        top_p: Nucleus sampling; unset leaves it to the endpoint.
        requests_per_minute: Upper limit of the rate at which requests are sent.
        stream: Have replies sent piece by piece. The time-out then counts from the latest piece, so that a slow model
            may take its time, and no proxy on the way cuts a connection for its silence.
    """

    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = Field(default="OPENAI_API_KEY", min_length=1)
    timeout: PositiveFloat = 120.0
    concurrency: PositiveInt = 8
    max_retries: NonNegativeInt = 4
    top_p: float | None = Field(default=None, gt=0, le=1)
    requests_per_minute: PositiveFloat | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that gave no completion.

    Attributes:
        reason: What was seen, in a few words; never holds the key.
        advice: What a person can do.
        error: What to raise in the end.
        retries: How often to try again.
        backoff: How long to wait in between, a key of `BACKOFF`.
        wait: Seconds that the endpoint asks to wait.
        completion: What to return in the end instead of raising.
    """

    reason: str
    advice: str
    error: type[BackendError] = BackendUnavailableError
    retries: int = 0
    backoff: str = "failed"
    wait: float | None = None
    completion: Completion | None = None


class OpenAIBackend(Backend):
    """Chat Completions over HTTP: many requests at a time, each retried on its own.

    Raises:
        BackendAuthError: No key in the environment for an endpoint that needs one.
        ConfigError: `base_url` is no usable URL.
    """

    Options = OpenAIOptions
    name = "openai"
    connection_options = frozenset(
        {"base_url", "api_key_env", "timeout", "concurrency", "max_retries", "requests_per_minute", "stream"}
    )
    options: OpenAIOptions

    def __init__(self, model: str, options: OpenAIOptions) -> None:
        super().__init__(model, options)
        self.concurrency = options.concurrency
        host = check_url(options.base_url)
        self._key = find_key(options.api_key_env, host)
        # A proxy for the wide world knows nothing of this machine's own servers.
        self._session = ChatSession(
            self._key or "none", options.base_url, timeout=options.timeout, direct=is_loopback(host)
        )
        # The rest belongs to the session's thread.
        self._slots = asyncio.Semaphore(options.concurrency)
        self._next_turn = 0.0
        self._manners = Manners(model)
        self._answered = False
        self._gave_completions = False
        self._bad_replies = 0  # since the last completion

    @property
    def identity(self) -> dict[str, Any]:
        """The model and how it samples; not where it runs, nor how patiently it is asked."""
        return {**super().identity, "top_p": self.options.top_p}

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """One completion for each prompt, in order; may be called from several threads.

        Raises:
            BackendAuthError: The endpoint refused the key.
            BackendRequestError: The endpoint refused the request.
            BackendUnavailableError: The endpoint could not be reached, kept failing, or gives no chat completions.
        """
        return self._session.run([self._ask(prompt, self.options.max_tokens) for prompt in prompts])

    def check(self) -> None:
        """Ask for a few tokens: address, key and model are right when they come.

        Raises:
            BackendError: As `complete`.
        """
        try:
            self._session.run([self._ask(Prompt("Say OK."), max_tokens=16)])
        except BackendRequestError as err:
            # A reasoning model that spent the few tokens on thinking is a model that answers.
            if "output limit was reached" in str(err):
                return
            raise

    def close(self) -> None:
        """Close the connections and stop the thread; may be called twice."""
        self._session.close()

    async def _ask(self, prompt: Prompt, max_tokens: int) -> Completion:
        async with self._slots:
            attempt = 0
            while True:
                started = perf_counter()
                outcome = await self._try(prompt, max_tokens)
                if isinstance(outcome, Failure):
                    if attempt < outcome.retries and (outcome.wait or 0.0) <= MAX_RETRY_AFTER:
                        await self._back_off(outcome, attempt)
                        attempt += 1
                        continue
                    outcome = self._give_up(outcome, attempt + 1)
                return replace(outcome, seconds=perf_counter() - started)

    def _give_up(self, failure: Failure, tries: int) -> Completion:
        if failure.completion is not None:
            self._bad_replies += 1
            # One odd body among good ones is a row. Before any good one, or again and again, it is the machinery: a
            # wrong port, a login page, a proxy. As rows a whole campaign would be lost to it.
            if self._gave_completions and self._bad_replies < MAX_BAD_REPLIES:
                return failure.completion
        reason = f"{failure.reason} (tried {tries} times)" if tries > 1 else failure.reason
        raise failure.error(f"{self.options.base_url}, model {self.model!r}: {reason}; {failure.advice}")

    async def _back_off(self, failure: Failure, attempt: int) -> None:
        # Jitter keeps requests that failed together from coming back together.
        delay = min(BACKOFF[failure.backoff] * 2**attempt, MAX_BACKOFF) * random.uniform(0.5, 1.0)
        delay = max(delay, failure.wait or 0.0)
        logger.info("%s: %s; trying again in %.1f s", self.options.base_url, failure.reason, delay)
        if failure.backoff == "rate_limited":
            # The limit is for all requests: the ones not yet sent wait as well.
            self._next_turn = max(self._next_turn, asyncio.get_running_loop().time() + delay)
        else:
            await asyncio.sleep(delay)

    async def _wait_for_turn(self) -> None:
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next_turn)
        rate = self.options.requests_per_minute
        if rate is not None:
            self._next_turn = turn + 60.0 / rate
        await asyncio.sleep(turn - now)

    async def _try(self, prompt: Prompt, max_tokens: int) -> Completion | Failure:
        """Send the request; again at once where the endpoint does not take one of its parameters."""
        messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
        messages.append({"role": "user", "content": prompt.user})
        wanted = {
            "temperature": self.options.temperature,
            "top_p": self.options.top_p,
            "seed": prompt.seed,
            "stream": self.options.stream or None,
            "stream_options": {"include_usage": True} if self.options.stream else None,
        }
        while True:
            await self._wait_for_turn()
            sent = self._manners.parameters(wanted, max_tokens, prompt.schema)
            answer = await self._session.post(model=self.model, messages=messages, **sent)
            if answer.status is None or not self._manners.learn_from_refusal(answer.status, answer.body, sent):
                break
        outcome = self._judge(answer)
        if isinstance(outcome, Completion):
            self._manners.learn_from_reply(outcome, prompt.schema, sent)
        return outcome

    def _judge(self, answer: Answer) -> Completion | Failure:
        """What to make of an answer."""
        if answer.status is None:
            return self._no_answer(answer)
        self._answered = True
        if answer.status < 300:
            return self._read_reply(answer)
        reason = f"HTTP {answer.status}: {self._reason(answer) or 'no reason given'}"
        if answer.status in (401, 403):
            variable = self.options.api_key_env
            advice = f"check the key in {variable}" if self._key else f"put a valid key into {variable}"
            return Failure(reason, advice, BackendAuthError)
        if answer.status in (402, 429):
            return self._limited(answer, reason)
        if answer.status >= 500 or answer.status in (408, 409, 425):
            advice = "run again when the endpoint works"
            return Failure(reason, advice, retries=self.options.max_retries, wait=answer.retry_after)
        return Failure(reason, "check [llm] model, options and options.base_url", BackendRequestError)

    def _no_answer(self, answer: Answer) -> Failure:
        retries = self.options.max_retries
        if answer.timed_out and not answer.unreachable:
            advice = "raise [llm] options.timeout, or run again when the endpoint is faster"
            what = "nothing new" if self.options.stream else "no reply"
            reason = f"{what} within {self.options.timeout:g} s"
            return Failure(reason, advice, retries=retries, completion=self._first_part(answer))
        advice = "check [llm] options.base_url and that the server runs"
        reason = self._without_key(answer.trouble)
        if self._answered or not answer.unreachable:
            return Failure(reason, advice, retries=retries, completion=self._first_part(answer))
        # A time-out while connecting took its time already.
        retries = min(retries, 1) if answer.timed_out else retries
        return Failure(reason, advice, retries=retries, backoff="unreachable")

    def _first_part(self, answer: Answer) -> Completion | None:
        """What came of a reply that broke off: in the end it is kept, since it was paid for."""
        completion = read_completion(answer.body)
        if completion is None or not completion.text:
            return None
        return self._keyless(replace(completion, finish_reason="cut"))

    def _read_reply(self, answer: Answer) -> Completion | Failure:
        completion = read_completion(answer.body)
        if completion is not None:
            self._gave_completions, self._bad_replies = True, 0
            return self._keyless(completion)
        if declares_error(answer.body):
            reason = f"HTTP {answer.status} with an error inside: {self._reason(answer)}"
            advice = "check [llm] model and options"
            return Failure(reason, advice, retries=self.options.max_retries)
        reason = f"expected a chat completion, got {self._reason(answer) or 'an empty body'!r}"
        advice = "check [llm] options.base_url"
        retries = min(self.options.max_retries, BAD_REPLY_RETRIES)
        return Failure(reason, advice, retries=retries, completion=self._keyless(undecodable_completion(answer.body)))

    def _limited(self, answer: Answer, reason: str) -> Failure:
        retries = self.options.max_retries
        advice = "run again later, or slow it down with [llm] options.requests_per_minute or .concurrency"
        if answer.status == 402 or error_field(answer.body, "code") == "insufficient_quota":  # waiting does not help
            retries, advice = 0, "top up the account"
        elif answer.retry_after is not None and answer.retry_after > MAX_RETRY_AFTER:
            advice = f"it asks to wait {answer.retry_after:.0f} s: run again then"
        return Failure(reason, advice, retries=retries, backoff="rate_limited", wait=answer.retry_after)

    def _reason(self, answer: Answer) -> str:
        """What the body of an answer says. Shortened last: no part of a key may be left at the cut."""
        return shortened(self._without_key(error_text(answer.body)))

    def _keyless(self, completion: Completion) -> Completion:
        return replace(
            completion,
            text=self._without_key(completion.text),
            finish_reason=self._without_key(completion.finish_reason),
            model=self._without_key(completion.model),
        )

    def _without_key(self, text: str) -> str:
        """Text of the endpoint, which may repeat the key it was sent. A made-up key like `x` is no secret."""
        return text.replace(self._key, "***") if self._key and len(self._key) >= 8 else text
