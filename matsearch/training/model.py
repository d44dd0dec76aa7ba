"""The embedded model before training, its tokenizer, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from matsearch.llm.embedded.words import END, PAD, UNKNOWN, model_words
from matsearch.training.embeddings import initial_embeddings

HIDDEN, LAYERS, HEADS, INTERMEDIATE, MAX_TOKENS = 192, 4, 4, 512, 512


def make_model() -> Any:
    """An untrained model over `model_words()`, input and output embeddings tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = model_words()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=words.index(PAD),
        bos_token_id=None,
        eos_token_id=words.index(END),
        # Lines are short: on a CPU, attention written out is half as fast again as the fused one.
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    vectors = initial_embeddings(words, HIDDEN, torch.initial_seed())
    model.get_input_embeddings().weight.data.copy_(torch.from_numpy(vectors))
    return model


def make_tokenizer() -> Any:
    """One id for each whitespace-separated word of `model_words()`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(model_words())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Without a decoder the words are joined with spaces, which is the text of a compact crystal.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD, eos_token=END, padding_side="left"
    )


def export(model: Any, folder: Path) -> None:
    """Write weights (half precision), configuration and tokenizer into a folder."""
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    twin.half().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
