"""Kinds of parents are weighted by what their children found."""

import random

from matsearch.search.fertility import BELIEVED, Fertility

GOOD, POOR, NEW = ("oxide", "cubic", 3), ("halide", "cubic", 3), ("nitride", "cubic", 3)


def mean_weights(fertility, kinds):
    rng = random.Random(0)
    drawn = [fertility.draw(kinds, rng) for _ in range(500)]
    return {kind: sum(one[kind] for one in drawn) / len(drawn) for kind in kinds}


def test_kinds_whose_children_find_more_than_expected_weigh_more():
    fertility = Fertility()
    for _ in range(40):
        fertility.learn([GOOD], finds=1.0, expected=0.5)
        fertility.learn([POOR], finds=0.0, expected=0.5)
    weights = mean_weights(fertility, [GOOD, POOR, NEW])
    assert weights[GOOD] > 2 * weights[NEW] > 4 * weights[POOR] > 0


def test_what_is_learned_of_one_kind_holds_for_others_with_the_same_traits():
    fertility = Fertility()
    for _ in range(40):
        fertility.learn([("oxide", "triclinic", 4)], finds=1.0, expected=0.5)
    weights = mean_weights(fertility, [("halide", "triclinic", 4), NEW])
    assert weights["halide", "triclinic", 4] > 10 * weights[NEW]


def test_before_anything_is_known_traits_count_as_believed():
    weights = mean_weights(Fertility(), [("oxide", "triclinic", 4), ("oxide", "cubic", 2)])
    assert weights["oxide", "triclinic", 4] > weights["oxide", "cubic", 2]
    assert BELIEVED["triclinic"] > 1 > BELIEVED["cubic"]


def test_the_same_seed_draws_the_same_weights():
    fertility = Fertility()
    fertility.learn([GOOD, POOR], finds=1.0, expected=2.0)
    assert fertility.draw([GOOD, NEW, GOOD], random.Random(3)) == fertility.draw([GOOD, NEW, GOOD], random.Random(3))
