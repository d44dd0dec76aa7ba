"""A real OpenAI-compatible server on loopback: `transformers serve` with a tiny model made on the spot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT = 120.0  # seconds; a few on an idle machine
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def rock_salts() -> list[str]:
    """A few crystals as fenced POSCARs, for `serve_local_model(..., phrases=rock_salts())`."""
    lattice_constants = {"Mg O": 4.21, "Ca O": 4.81, "Li F": 4.03, "Na Cl": 5.64, "K Br": 6.60, "Sr S": 6.02}  # Å
    poscar = "```\n{pair}\n{a}\n0 0.5 0.5\n0.5 0 0.5\n0.5 0.5 0\n{pair}\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n```\n"
    return [poscar.format(pair=pair, a=a) for pair, a in lattice_constants.items()]


def save_tiny_chat_model(folder: Path, phrases: Sequence[str] = (), head_size: int = 16) -> None:
    """A seeded random Llama of two layers that reads bytes: real in all but what it says.

    Args:
        folder: Where to save it.
        phrases: With these, each is a token, and the model says nothing else; about three of six make a reply.
        head_size: Of one of its two attention heads.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(special + letters)}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|end|>",
        pad_token="<|end|>",
        extra_special_tokens=special[1:],
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.add_tokens(list(phrases))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2 * head_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16384,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = True
    if phrases:
        # Random weights make every token left about as likely as another, so the number of end marks sets the length.
        n_ends = 3
        model.generation_config.suppress_tokens = list(range(n_ends, len(vocabulary)))
        model.generation_config.eos_token_id = list(range(n_ends))
        model.generation_config.min_new_tokens = 1
    model.save_pretrained(folder)


@contextmanager
def serve_local_model(folder: Path, phrases: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Make the model in `folder` and serve it.

    Args:
        folder: For the model and the server's log; it may be empty.
        phrases: As for `save_tiny_chat_model`.

    Yields:
        The base URL and the name of the model.
    """
    model = folder / "tiny-chat-model"
    save_tiny_chat_model(model, phrases)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env={**os.environ, **offline}, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    # Without the proxies of the environment, which know nothing of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"transformers serve ended with {server.returncode}:\n{log.read_text()}")
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve was not ready within {START_TIMEOUT:g} s:\n{log.read_text()}")
