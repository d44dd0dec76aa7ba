"""What holds of every campaign, whatever becomes of its crystals, whoever is fast, and wherever it is stopped."""

import json
from collections import Counter
from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_up_campaign import PAIRS, TOKENS, MadeUpBackend, crystal, fate, make_parts, rows, run, with_budget

from matsearch.records import Completion, Usage
from matsearch.report.frame import candidates_frame
from matsearch.report.funnel import funnel
from matsearch.store import RunStore

ENDS = {
    "parse": ("parse", "unreadable"),
    "check": ("check", "too_close"),
    "unconverged": ("relax", "unconverged"),
    "no_value": ("score", "no_value"),
    "low": ("score", "quarantined"),
    "released": ("scored", None),
    "good": ("scored", None),
}
FINAL = {"parse", "check", "novelty", "relax", "score", "scored"}
CANDIDATES = "SELECT * FROM candidates ORDER BY id"

SEARCHES = st.fixed_dictionaries(
    {
        "lag": st.sampled_from([None, 1, 4]),
        "bandit": st.booleans(),
        "archive": st.booleans(),
        "reject_known": st.booleans(),
        "grouping": st.just("weighted"),
        "islands": st.sampled_from([1, 2]),
        "migration": st.just(3),
        "selection": st.sampled_from(["pareto", "weighted", "lexicographic"]),
        "operators": st.just({"mutate": 0.5, "crossover": 0.3, "repair": 0.2}),
    }
)
few = settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def folders(tmp_path_factory, n):
    base = tmp_path_factory.mktemp("campaign")
    return [base / str(number) for number in range(n)]


def table(run_dir):
    with RunStore(run_dir, writable=False) as store:
        return candidates_frame(store)


def assert_nothing_is_lost(run_dir, *, ended):
    """Each crystal of each reply that was read is one row, with one end and one reason, the one that it must have."""
    found = rows(run_dir, CANDIDATES)
    assert [row["id"] for row in found] == list(range(len(found)))
    replies = {row["proposal_id"]: json.loads(row["text"]) for row in rows(run_dir, "SELECT * FROM replies")}
    proposals = rows(run_dir, "SELECT * FROM proposals")
    proposed = [row for row in found if row["operator"] != "seed"]
    entries = Counter(row["proposal_id"] for row in proposed)
    for proposal in proposals:
        if proposal["id"] in entries:
            assert entries[proposal["id"]] == max(proposal["n_children"], len(replies[proposal["id"]]))
    for row in proposed:
        if row["stage"] == "waiting":
            assert not ended
            continue
        assert row["stage"] in FINAL
        assert (row["reason"] is None) == (row["stage"] == "scored")
    for number, crystals in replies.items():
        for row, one in zip((row for row in proposed if row["proposal_id"] == number), crystals, strict=False):
            end = (row["stage"], row["reason"])
            assert end in (ENDS[fate(crystal(one))], ("novelty", "duplicate"), ("waiting", None))
    with RunStore(run_dir, writable=False) as store:
        assert sum(count for _, count, _ in funnel(store)) == len(proposed)
        assert all(sum(reasons.values()) in (0, count) for _, count, reasons in funnel(store))
    if ended:
        assert all(row["add_status"] for row in proposed)


@few
@given(SEARCHES, st.integers(0, 9), st.sampled_from([1, 3]), st.lists(st.integers(1, 60), max_size=4))
def test_a_campaign_killed_anywhere_ends_as_one_that_ran_through_and_loses_nothing(
    tmp_path_factory, search, seed, workers, kills
):
    through, killed = folders(tmp_path_factory, 2)
    assert run(through, make_parts(search, seed=seed, n_llms=2)) == "finished"
    assert_nothing_is_lost(through, ended=True)
    slow = {"concurrency": workers, "seconds": 0.002}
    hurried = [make_parts(search, seed=seed, n_llms=2, **slow) for _ in range(len(kills) + 1)]
    for commits, parts in zip(kills, hurried, strict=False):
        run(killed, parts, commits=commits)
        assert_nothing_is_lost(killed, ended=False)
    assert run(killed, hurried[-1]) == "finished"
    assert_nothing_is_lost(killed, ended=True)
    assert table(through).equals(table(killed))
    stored = rows(through, "SELECT key FROM replies ORDER BY key"), rows(killed, "SELECT key FROM replies ORDER BY key")
    assert stored[0] == stored[1]


@few
@given(SEARCHES, st.integers(0, 9), st.integers(0, 12), st.integers(0, 12), st.sampled_from([1, 3]))
def test_a_budget_of_relaxations_or_proposals_is_kept_to_the_last_and_more_goes_on_from_there(
    tmp_path_factory, search, seed, relaxations, more, workers
):
    whole, parted = folders(tmp_path_factory, 2)
    parts = [make_parts(search, {"relaxations": relaxations + more}, seed=seed, concurrency=workers) for _ in range(2)]
    end = run(whole, parts[0])
    counted = [row for row in rows(whole, CANDIDATES) if row["relaxation_key"] and row["operator"] != "seed"]
    assert len(counted) <= relaxations + more
    assert end == "finished" or len(counted) == relaxations + more
    run(parted, with_budget(parts[1], relaxations=relaxations))
    counted = [row for row in rows(parted, CANDIDATES) if row["relaxation_key"] and row["operator"] != "seed"]
    assert len(counted) <= relaxations
    assert_nothing_is_lost(parted, ended=False)
    assert run(parted, make_parts(search, {"relaxations": relaxations + more}, seed=seed)) == end
    assert table(whole).equals(table(parted))


@few
@given(st.integers(1, 150), st.sampled_from([1, 2]), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.booleans())
def test_tokens_beyond_the_budget_are_those_that_were_in_flight(tmp_path_factory, tokens, n_llms, workers, chunk, lags):
    (folder,) = folders(tmp_path_factory, 1)
    search = {"lag": 2 if lags else None}
    run(folder, make_parts(search, {"tokens": tokens}, n_llms=n_llms, concurrency=workers, chunk=chunk, seconds=0.002))
    spent = TOKENS * len(rows(folder, "SELECT key FROM replies"))
    assert spent < tokens + TOKENS * n_llms * workers * chunk
    assert_nothing_is_lost(folder, ended=False)


class Neighbourly(MadeUpBackend):
    """A reply depends on what is asked for before it in the same call, as the choices of operators do."""

    def complete(self, prompts):
        before = [str([one.index for one in prompts[: i + 1]]) for i in range(len(prompts))]
        return [Completion(json.dumps([sum(map(ord, text)) % len(PAIRS)]), Usage(TOKENS - 1, 1)) for text in before]


def test_a_call_that_a_budget_cut_is_asked_whole_again_and_only_what_is_missing_is_kept(tmp_path):
    def parts(proposals):
        made = make_parts({"lag": 8, "children_per_prompt": 1}, {"proposals": proposals})
        return replace(made, backends=[Neighbourly(1, 4, 0.0)])

    run(tmp_path / "whole", parts(9))
    for proposals in (2, 5, 9):
        run(tmp_path / "parted", parts(proposals))
    texts = "SELECT proposal_id, text FROM replies ORDER BY proposal_id"
    whole, parted = (rows(tmp_path / name, texts) for name in ("whole", "parted"))
    assert whole == parted and len(whole) == 9


@few
@given(st.integers(0, 25), st.integers(1, 3))
def test_no_more_is_proposed_than_the_budget_says(tmp_path_factory, proposals, children):
    (folder,) = folders(tmp_path_factory, 1)
    run(folder, make_parts({"children_per_prompt": children}, {"proposals": proposals}))
    asked = sum(row["n_children"] for row in rows(folder, "SELECT n_children FROM proposals"))
    assert asked < proposals + children
    assert_nothing_is_lost(folder, ended=True)


def test_an_interrupted_campaign_goes_on_to_the_same_end(tmp_path):
    from matsearch.campaign.loop import Interrupted

    assert run(tmp_path / "through", make_parts({})) == "finished"
    for after in (1, 5, 12):
        try:
            run(tmp_path / "stopped", make_parts({}, concurrency=2, seconds=0.002), stop_after=after)
        except Interrupted:
            assert_nothing_is_lost(tmp_path / "stopped", ended=False)
    assert run(tmp_path / "stopped", make_parts({})) == "finished"
    assert table(tmp_path / "through").equals(table(tmp_path / "stopped"))
