from matsearch.crystal.wyckoff import from_compact
from matsearch.llm.embedded.words import CONDITIONS, STABILITIES, model_words
from matsearch.training.corpus import parse_entry
from matsearch.training.examples import Examples


def test_examples_are_made_of_words_of_the_model_and_end_in_the_child(entries):
    examples = Examples(entries, seed=0)
    seen = set()
    for entry in entries:
        prompt, reply = examples.draw_for(entry)
        seen.add(prompt[0])
        assert prompt[-1] == "child"
        assert set(prompt) | set(reply) <= set(model_words())
        assert from_compact(" ".join(reply)).composition.as_dict() == entry.counts
        parents = " ".join(prompt).count("crystal")
        assert parents == {"explore": 0, "predict": 0, "mutate": 1, "crossover": 2}[prompt[0]]
        assert " ".join(reply) not in " ".join(prompt), "the child must not be among its parents"
    assert seen == {"explore", "predict", "mutate", "crossover"}


def test_crossover_parents_hold_the_elements_of_the_child(entries):
    examples = Examples(entries, seed=1)
    for entry in entries * 3:
        prompt, _ = examples.draw_for(entry)
        if prompt[0] == "crossover":
            assert entry.elements <= set(prompt)


def test_conditions_are_those_of_the_child_and_often_left_out():
    text = "crystal Mg 1 O 1 : sg225 4.23 : Mg a O b end"
    child = parse_entry(text, "MgO", energy_above_hull=0.0, density=3.6, bulk_modulus=150.0)
    examples = Examples([child], seed=0)
    stated = [tuple(word for word in examples.draw()[0] if word in CONDITIONS) for _ in range(200)]
    assert {word for words in stated for word in words} == {"stable", "density3", "bulk3"}
    assert () in stated
    assert ("stable",) in stated
    assert ("stable", "density3", "bulk3") in stated


def test_nothing_is_said_of_what_is_not_known():
    child = parse_entry("crystal Mg 1 O 1 : sg225 4.23 : Mg a O b end", "MgO")
    examples = Examples([child], seed=0)
    assert not any(set(examples.draw()[0]) & set(CONDITIONS) for _ in range(50))


def test_unstable_crystals_are_drawn_less_often_than_stable_ones(entries):
    examples = Examples(entries, seed=0)
    texts = [" ".join(examples.draw()[1]) for _ in range(1000)]
    unstable = {entry.text for entry in entries if entry.energy_above_hull > STABILITIES["metastable"]}
    assert 0.2 < sum(text in unstable for text in texts) / 1000 < 0.4


def test_a_parent_is_at_times_a_step_longer_and_the_child_never(entries):
    examples = Examples(entries, seed=0)
    texts = {entry.text for entry in entries}
    drawn = [examples.draw() for _ in range(600)]
    parents = [" ".join(prompt[1 : prompt.index("end") + 1]) for prompt, _ in drawn if prompt[0] == "mutate"]
    assert 0.02 < sum(parent not in texts for parent in parents) / len(parents) < 0.25
    assert all(" ".join(reply) in texts for _, reply in drawn)
