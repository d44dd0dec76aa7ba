import numpy as np
import pytest

from matsearch.llm.embedded.words import model_words
from matsearch.training.embeddings import SCALE, initial_embeddings


@pytest.fixture(scope="module")
def likeness():
    words = model_words()
    vectors = initial_embeddings(words, 256, seed=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return lambda first, second: float(unit[words.index(first)] @ unit[words.index(second)])


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [
        ("5.65", "5.71", "14.99"),
        ("90deg", "91deg", "120deg"),
        ("0", "119/120", "1/2"),
        ("Na", "K", "Cl"),
        ("La", "Ce", "Os"),
        ("stable", "nearly", "unstable"),
        ("Na", "F", "5.65"),
    ],
)
def test_neighbours_start_more_alike_than_strangers(likeness, word, near, far):
    assert likeness(word, near) > likeness(word, far) + 0.05


def test_all_words_start_at_the_same_scale():
    vectors = initial_embeddings(model_words(), 256, seed=0)
    assert np.sqrt((vectors**2).mean(axis=1)) == pytest.approx(np.full(len(vectors), SCALE), rel=0.35)
