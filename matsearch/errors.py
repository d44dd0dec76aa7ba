"""Errors that a person can mend: one clear line each, no traceback on the command line."""

from __future__ import annotations


class MatsearchError(Exception):
    """Base of every error that the command line prints as one line and answers with exit status 2.

    The message says what was expected, what came, where, and what to do.
    """


class ConfigError(MatsearchError):
    """A campaign file, a `--set` value or an option is wrong."""


class InputError(MatsearchError):
    """A file or structure given by the user cannot be used."""


class StoreError(MatsearchError):
    """The run folder or its database cannot be created, opened or written."""


class PotentialError(MatsearchError):
    """A potential cannot be loaded or refuses what it was given."""


class MissingReferenceError(MatsearchError):
    """No hull of known phases exists for this potential or these elements."""


class MixedHullError(MatsearchError):
    """An energy of one potential was to be held against the hull of another; names both."""


class BackendError(MatsearchError):
    """An LLM backend is broken (not: it wrote a bad crystal, which is a row)."""


class BackendUnavailableError(BackendError):
    """The endpoint cannot be reached, or kept failing after all retries."""


class BackendAuthError(BackendError):
    """The endpoint refused the key (HTTP 401 or 403), or no key was found."""


class BackendRequestError(BackendError):
    """The endpoint refused the request itself (unknown model, bad parameter)."""
