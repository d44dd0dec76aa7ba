import multiprocessing

import pytest
import torch

from matsearch.training.team import Team


def _join(rank, team, results):
    model = torch.nn.Linear(2, 1)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1.0 + 2.0 * rank)
    counts = team.meet(rank, model, [rank, 10.0])
    results.put((rank, [p.detach().ravel().tolist() for p in model.parameters()], counts.tolist()))


def test_all_leave_with_the_mean_of_the_weights_and_the_counts_of_each():
    context = multiprocessing.get_context("spawn")
    team, results = Team(context, 2, 3, 2), context.Queue()
    other = context.Process(target=_join, args=(1, team, results))
    other.start()
    _join(0, team, results)
    seen = sorted(results.get(timeout=60) for _ in range(2))
    other.join()
    for _, parameters, counts in seen:
        assert parameters == [[2.0, 2.0], [2.0]]
        assert counts == [[0.0, 10.0], [1.0, 10.0]]


def test_one_alone_keeps_its_weights():
    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    counts = Team(multiprocessing.get_context("spawn"), 1, 3, 1).meet(0, model, [5.0])
    assert torch.equal(model.weight, before)
    assert counts.item() == pytest.approx(5.0)
