import math

import pytest
import torch

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.capacity import Capacity, expected_pairs, is_out_of_memory
from matsearch.testing.potential import example_crystals


def test_a_cpu_batch_is_limited_in_atoms_and_pairs():
    capacity = Capacity(100)
    assert capacity.fits(100, 4000)
    assert not capacity.fits(101, 4000)
    assert not capacity.fits(50, 30_000)  # a compressed cell


def test_what_ran_out_of_memory_is_halved_for_all_later_batches():
    capacity = Capacity(100)
    assert capacity.parts([30, 30, 30], [900, 900, 900]) == [[0, 1, 2]]
    capacity.overrun(90, 2700)
    assert capacity.parts([30, 30, 30], [900, 900, 900]) == [[0], [1], [2]]
    assert capacity.parts([20, 20, 20, 99], [400, 400, 400, 9000]) == [[0, 1], [2], [3]]
    assert not capacity.fits(60, 500) and not capacity.fits(30, 2000)


def test_a_gpu_batch_grows_to_what_was_learnt_and_no_further():
    capacity = Capacity(100, "cuda")
    first = capacity.max_pairs
    assert capacity.max_atoms == math.inf
    capacity.learn(first, first * 1000, available=1e12)
    assert capacity.max_pairs == 2 * first
    capacity.learn(2 * first, 2 * first * 2000, available=4e8 * 1.25)
    assert capacity.max_pairs == pytest.approx(2e5)
    capacity.learn(first, first * 500, available=4e8 * 1.25)  # the worst that was seen counts
    assert capacity.max_pairs == pytest.approx(2e5)


def test_expected_pairs_are_about_those_there_are():
    batch = CrystalBatch.from_structures(example_crystals())
    counts = torch.bincount(batch.pairs(6.0).system_idx).tolist()
    for size, volume, count in zip(batch.sizes, batch.volumes.tolist(), counts, strict=True):
        assert expected_pairs(size, volume) == pytest.approx(count, rel=0.5)


def test_only_errors_of_memory_count_as_such():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))
