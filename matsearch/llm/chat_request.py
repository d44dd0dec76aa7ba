"""What is asked of a Chat Completions endpoint, and what it was found not to take."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from matsearch.llm.chat_reply import error_field, error_text, unsupported_parameter
from matsearch.llm.json_schema import fits, read_object
from matsearch.records import Completion

logger = logging.getLogger(__name__)

FORMS = ("json_schema", "json_object", "text")
"""How a reply can be held to JSON, the strictest first; `text` leaves it to the words of the prompt."""

# How endpoints speak of a form that they do not offer, or of a schema that they cannot hold a model to.
FORM_REFUSED = re.compile(
    r"response.?format|json.?schema|json.?object|json.?mode|structured.?output|guided|grammar", re.IGNORECASE
)
# Answers that are about something else, whatever they say: key, quota.
NOT_ABOUT_THE_REQUEST = (401, 403, 408, 429)


class Manners:
    """What one endpoint takes for one model, learnt from its refusals and from what it ignored.

    Attributes:
        model: Its name, for messages.
        form: The strictest of `FORMS` that is not known to be refused or ignored.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.form = FORMS[0]
        self._limit_name = "max_tokens"
        self._unsupported: set[str] = set()

    def parameters(self, wanted: Mapping[str, Any], max_tokens: int, schema: dict[str, Any] | None) -> dict[str, Any]:
        """What to send beside model and messages.

        Args:
            wanted: Parameters by name; None leaves one to the endpoint.
            max_tokens: Upper limit of the reply.
            schema: What the reply is to be held to, or None.
        """
        everything = {self._limit_name: max_tokens, **wanted, "response_format": self._response_format(schema)}
        return {name: one for name, one in everything.items() if one is not None and name not in self._unsupported}

    def _response_format(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is None or self.form == "text":
            return None
        if self.form == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}

    def learn_from_refusal(self, status: int, body: bytes, sent: Mapping[str, Any]) -> bool:
        """Whether the refused request may be sent again, with other parameters; remembers which."""
        if status < 400 or status in NOT_ABOUT_THE_REQUEST:
            return False
        of_request = status in (400, 422)
        unsupported = unsupported_parameter(body, sent) if of_request else None
        if "response_format" in sent:
            # Some endpoints refuse a form without a word on why: what blames no other parameter is held to mean it.
            named = unsupported or error_field(body, "param")
            unnamed = of_request and not (named or any(re.search(rf"\b{one}\b", error_text(body)) for one in sent))
            if unsupported == "response_format" or unnamed or FORM_REFUSED.search(f"{named} {error_text(body)}"):
                self._descend(sent["response_format"]["type"], "does not offer")
                return True
        return unsupported is not None and self._do_without(unsupported)

    def learn_from_reply(self, completion: Completion, schema: dict[str, Any] | None, sent: Mapping[str, Any]) -> None:
        """See whether the endpoint did what it was asked. The reply is kept either way: it was paid for."""
        if schema is None or "response_format" not in sent:
            return
        if completion.finish_reason != "stop" or not completion.text.strip():
            return  # cut short or refused: says nothing of the form
        found = read_object(completion.text)
        form = sent["response_format"]["type"]
        if found is None or (form == "json_schema" and not fits(found, schema)):
            self._descend(form, "ignores")

    def _descend(self, form: str, why: str) -> None:
        if form == self.form:  # else another request was faster to learn it
            self.form = FORMS[FORMS.index(form) + 1]
            logger.warning("%s %s response_format %s; asked for %s from here", self.model, why, form, self.form)

    def _do_without(self, parameter: str) -> bool:
        """Remember that the endpoint does not support a parameter; False where it cannot be left out."""
        if parameter in ("max_tokens", "max_completion_tokens"):
            # Not supported under either name: the reason is the endpoint's to say.
            if "max_tokens" in self._unsupported and parameter == self._limit_name:
                return False
            self._unsupported.add("max_tokens")
            self._limit_name = "max_completion_tokens"
            return True
        if parameter not in self._unsupported:
            logger.warning("%s does not support %s; sent without it", self.model, parameter)
        # What says how to stream means nothing alone.
        self._unsupported |= {parameter, "stream_options"} if parameter == "stream" else {parameter}
        return True
