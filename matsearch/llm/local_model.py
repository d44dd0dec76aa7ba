"""Models in this process: where they lie, and what is wrong when they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from matsearch.errors import BackendRequestError, BackendUnavailableError


def find_model(backend: str, model: str) -> str:
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
            f"[llm] model {model!r} of backend {backend!r}: expected a folder saved by transformers, found "
            f"{found}; give the folder that holds config.json and the weights, or a hub id"
        )
    return str(path)


def check_configuration(source: str) -> None:
    """Make sure that the configuration of a model can be read, without its weights.

    Raises:
        BackendRequestError: It is none that transformers knows.
        BackendUnavailableError: It is not on this machine and cannot be fetched.
    """
    from transformers import AutoConfig

    with loading(source):
        AutoConfig.from_pretrained(source, local_files_only=Path(source).is_dir())


@contextmanager
def loading(source: str) -> Iterator[None]:
    """Say what is wrong with a model that cannot be read, in one line.

    Raises:
        BackendRequestError: Its files are no causal language model, or some are missing.
        BackendUnavailableError: It is not on this machine and cannot be fetched.
    """
    try:
        with quiet():
            yield
    except OSError as err:  # transformers' word for missing files, unknown ids and an unreachable hub alike
        is_local = Path(source).is_dir()
        where = "is incomplete" if is_local else "is not on this machine and could not be fetched from the hub"
        kind = BackendRequestError if is_local else BackendUnavailableError
        raise kind(f"[llm] model {source!r} {where}: {first_line(err)}; check the name or give a folder") from err
    except (ValueError, KeyError, TypeError) as err:
        raise BackendRequestError(f"[llm] model {source!r} is no causal language model: {first_line(err)}") from err


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers, nor from the hub, while a model loads and generates."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(err: BaseException) -> str:
    """What an error says, in one line."""
    text = err.errors()[0]["msg"] if isinstance(err, ValidationError) else str(err)
    return (text.strip().splitlines() or [type(err).__name__])[0][:300]
