import itertools
import time

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import neighbors
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.neighbors import PairMemory, search_one_by_one, search_pairs, search_together

CUTOFF = 5.0


def awkward_crystals():
    """Positions and cell by name."""
    rng = np.random.default_rng(7)

    def triclinic(n_atoms, edge=4.5):
        cell = edge * (np.eye(3) + 0.3 * rng.uniform(-1, 1, size=(3, 3)))
        return rng.random((n_atoms, 3)) @ cell, cell

    crystals = {f"triclinic {n}": triclinic(n) for n in (2, 5, 9)}
    positions, cell = triclinic(4)
    crystals["left-handed"] = positions, cell[[1, 0, 2]]
    crystals["one atom"] = np.array([[0.3, 0.1, 0.2]]), triclinic(1, 3.0)[1]
    crystals["flat"] = rng.random((3, 3)), np.diag([9.0, 8.0, 0.7])
    crystals["needle"] = rng.random((3, 3)), np.diag([0.9, 25.0, 0.8])
    crystals["small"] = np.zeros((1, 3)), np.array([[1.3, 0.2, 0.0], [0.0, 1.1, 0.3], [0.1, 0.0, 1.2]])
    positions, cell = triclinic(4)
    crystals["atoms far outside"] = positions + rng.integers(-40, 41, (4, 3)) @ cell, cell
    crystals["isolated"] = np.full((1, 3), 4.0), 30 * np.eye(3)
    crystals["cluster in a box"] = 20 + rng.normal(size=(25, 3)), 40 * np.eye(3)
    return crystals


def as_batch(crystals):
    positions, cells = zip(*crystals, strict=True)
    return CrystalBatch.from_arrays(positions, cells, [[6] * len(one) for one in positions])


def as_set(pairs):
    """The pairs as (i, j, shift), whichever of the two atoms came first; each must be there once."""
    rows = set()
    shifts = pairs.shifts.round().int().tolist()
    for i, j, shift in zip(pairs.first.tolist(), pairs.second.tolist(), shifts, strict=True):
        forward, backward = (i, j, *shift), (j, i, *(-one for one in shift))
        rows.add(max(forward, backward))
    assert len(rows) == len(shifts)
    return rows


def fresh(batch, cutoff=CUTOFF):
    return as_set(PairMemory(cutoff).pairs(batch.positions, batch.cells, batch.sizes, batch.system_idx))


def by_hand(positions, cell, cutoff):
    """Every image within reach, tried."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    fractional = positions @ np.linalg.inv(cell)
    reach = np.ceil(cutoff / heights + np.ptp(fractional, axis=0)).astype(int)
    shifts = np.array(list(itertools.product(*(range(-one, one + 1) for one in reach))))
    rows = set()
    for i, j in itertools.product(range(len(positions)), repeat=2):
        lengths = np.linalg.norm(positions[j] - positions[i] + shifts @ cell, axis=1)
        for shift in shifts[lengths < cutoff].tolist():
            if i != j or any(shift):
                rows.add(max((i, j, *shift), (j, i, *(-one for one in shift))))
    return rows


@pytest.mark.parametrize("name", sorted(set(awkward_crystals()) - {"atoms far outside"}))
def test_pairs_are_those_found_by_trying_every_image(name):
    positions, cell = awkward_crystals()[name]
    assert as_set(as_batch([(positions, cell)]).pairs(CUTOFF)) == by_hand(positions, cell, CUTOFF)


@pytest.mark.parametrize("name", sorted(set(awkward_crystals()) - {"left-handed"}))
def test_pairs_are_those_of_pymatgen(name):
    positions, cell = awkward_crystals()[name]
    structure = Structure(Lattice(cell), ["C"] * len(positions), positions, coords_are_cartesian=True)
    first, second, shifts, _ = structure.get_neighbor_list(CUTOFF)
    theirs = {(int(i), int(j), *map(int, shift)) for i, j, shift in zip(first, second, shifts, strict=True)}
    ours = as_set(as_batch([(positions, cell)]).pairs(CUTOFF))
    assert theirs == ours | {(j, i, -a, -b, -c) for i, j, a, b, c in ours}


def test_atoms_far_outside_the_cell_have_the_pairs_of_their_images_inside():
    positions, cell = awkward_crystals()["atoms far outside"]
    inside = as_batch([((positions @ np.linalg.inv(cell) % 1) @ cell, cell)]).pairs(CUTOFF)
    outside = as_batch([(positions, cell)]).pairs(CUTOFF)
    np.testing.assert_allclose(np.sort(outside.lengths), np.sort(inside.lengths), atol=1e-9)


def test_order_and_bits_of_pairs_do_not_depend_on_the_list_they_were_taken_from():
    batch = as_batch(list(awkward_crystals().values())[:5])
    moved = batch.moved(batch.positions + 0.1 * torch.sin(batch.positions), batch.cells)
    batch.pairs(CUTOFF)
    kept, fresh_ones = (
        moved.pairs(CUTOFF),
        PairMemory(CUTOFF).pairs(moved.positions, moved.cells, moved.sizes, moved.system_idx),
    )
    assert all(
        torch.equal(one, other) for one, other in zip(vars(kept).values(), vars(fresh_ones).values(), strict=True)
    )
    rows = torch.stack([kept.first, kept.second, *kept.shifts.long().T], dim=1).tolist()
    assert rows == sorted(rows)
    assert all(i < j or (i == j and shift > [0, 0, 0]) for i, j, *shift in rows)


def test_pairs_of_a_batch_are_those_of_its_crystals():
    crystals = list(awkward_crystals().values())
    pairs = as_batch(crystals).pairs(CUTOFF)
    starts = np.cumsum([0, *(len(positions) for positions, _ in crystals)])
    for system, crystal in enumerate(crystals):
        own = pairs.take(torch.nonzero(pairs.system_idx == system)[:, 0])
        alone = as_set(as_batch([crystal]).pairs(CUTOFF))
        assert as_set(own) == {(i + starts[system], j + starts[system], *shift) for i, j, *shift in alone}


def test_lengths_are_those_of_the_vectors():
    batch = as_batch(awkward_crystals().values())
    pairs = batch.pairs(CUTOFF)
    np.testing.assert_allclose(pairs.vectors(batch.positions, batch.cells).norm(dim=1), pairs.lengths, rtol=1e-14)
    assert pairs.lengths.max() < CUTOFF


def test_a_pair_at_the_cutoff_is_none_and_one_just_within_it_is():
    batch = as_batch([(np.zeros((1, 3)), 3.0 * np.eye(3))])
    assert len(batch.pairs(3.0).first) == 0
    assert len(batch.pairs(np.nextafter(3.0, 4.0)).first) == 3
    stretched = batch.moved(batch.positions, batch.cells * np.nextafter(1.0, 0.0))
    assert len(stretched.pairs(3.0).first) == 3


def test_an_isolated_atom_and_an_empty_batch_have_no_pairs():
    batch = as_batch([awkward_crystals()["isolated"]])
    for one in (batch, batch.moved(batch.positions + 1, batch.cells), batch.select([])):
        pairs = one.pairs(CUTOFF)
        assert pairs.shifts.shape == (0, 3) and pairs.first.dtype == torch.int64
        assert pairs.vectors(one.positions, one.cells).shape == (0, 3)


@pytest.mark.parametrize("step", [0.003, 0.03, 0.6])
def test_kept_list_gives_the_pairs_of_a_fresh_search_along_a_walk(step, monkeypatch):
    searches = []
    monkeypatch.setattr(neighbors, "search_pairs", lambda *given: searches.append(1) or search_pairs(*given))
    rng = np.random.default_rng(3)
    crystals = awkward_crystals()
    batch = as_batch([crystals[name] for name in ("triclinic 5", "left-handed", "one atom", "cluster in a box")])
    n_steps = 40
    for _ in range(n_steps):
        strain = torch.as_tensor(min(step / 5, 0.02) * rng.normal(size=(batch.n_systems, 3, 3)))
        deformation = torch.eye(3, dtype=torch.float64) + strain
        carried = torch.bmm(batch.positions[:, None, :], deformation[batch.system_idx])[:, 0]
        moves = torch.as_tensor(step * rng.normal(size=batch.positions.shape))
        batch = batch.moved(carried + moves, batch.cells @ deformation)
        kept = batch.pairs(CUTOFF)
        n_searches = len(searches)
        assert as_set(kept) == fresh(batch)
        del searches[n_searches:]  # those of the fresh one
    assert len(searches) < n_steps / 4 if step < 0.01 else len(searches) > 1


def test_pure_strain_and_rotation_keep_the_list_while_they_are_small(monkeypatch):
    batch = as_batch([awkward_crystals()["triclinic 5"]])
    batch.pairs(CUTOFF)
    monkeypatch.setattr(neighbors, "search_pairs", None)  # a search would raise TypeError
    angle = 0.7
    rotation = torch.tensor([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    for deformation in (
        rotation.double(),
        0.92 * torch.eye(3).double(),
        torch.diag(torch.tensor([1.0, 1.0, 0.93])).double(),
    ):
        moved = batch.moved(batch.positions @ deformation, batch.cells @ deformation)
        kept = as_set(moved.pairs(CUTOFF))
        with monkeypatch.context() as patch:
            patch.setattr(neighbors, "search_pairs", search_pairs)
            assert kept == fresh(moved)
    with pytest.raises(TypeError):
        batch.moved(batch.positions * 0.8, batch.cells * 0.8).pairs(CUTOFF)


def test_a_chain_pressed_along_its_axis_alone_closes_up():
    # 5.6 Å apart is beyond the list; the two other axes keep their length and must not make up for the third.
    batch = as_batch([(np.zeros((1, 3)), np.diag([20.0, 20.0, 5.6]))])
    assert len(batch.pairs(CUTOFF).first) == 0
    pressed = batch.moved(batch.positions, batch.cells * torch.tensor([1.0, 1.0, 0.88], dtype=torch.float64))
    assert len(pressed.pairs(CUTOFF).first) == 1


def test_several_batches_share_one_memory_in_any_order():
    batch = as_batch([awkward_crystals()["triclinic 9"]])
    near = batch.moved(batch.positions + 0.01, batch.cells)
    other = batch.moved(batch.positions * 0.7, batch.cells * 0.7)
    for one in (batch, other, near, other, batch, near, batch):
        assert as_set(one.pairs(CUTOFF)) == fresh(one)
        assert as_set(one.pairs(3.0)) == fresh(one, 3.0)


def test_atoms_moved_in_place_are_seen():
    batch = as_batch([awkward_crystals()["triclinic 9"]])
    batch.pairs(CUTOFF)
    batch.positions.add_(torch.as_tensor(np.random.default_rng(0).normal(size=batch.positions.shape)))
    assert as_set(batch.pairs(CUTOFF)) == fresh(batch)


@pytest.mark.parametrize("when", ["at first", "later"])
def test_coordinates_that_are_no_numbers_and_collapsed_cells_are_named(when):
    good = awkward_crystals()["triclinic 2"]
    batch = as_batch([good, good, good])
    bad_position, bad_cell, flat_cell = batch.positions.clone(), batch.cells.clone(), batch.cells.clone()
    bad_position[2] = torch.nan
    bad_cell[1] = torch.inf
    flat_cell[2, 2] = flat_cell[2, 1] + flat_cell[2, 0] + 1e-6
    if when == "later":
        batch.pairs(CUTOFF)
    with pytest.raises(PotentialError, match="crystal 1 of the batch has coordinates that are NaN or inf"):
        batch.moved(bad_position, batch.cells).pairs(CUTOFF)
    with pytest.raises(PotentialError, match="crystal 1 of the batch has coordinates that are NaN or inf"):
        batch.moved(batch.positions, bad_cell).pairs(CUTOFF)
    with pytest.raises(PotentialError, match="cell of crystal 2 of the batch has collapsed"):
        batch.moved(batch.positions, flat_cell).pairs(CUTOFF)
    with pytest.raises(PotentialError, match="cell of crystal 0 of the batch has collapsed"):
        batch.moved(batch.positions, torch.zeros_like(batch.cells)).pairs(CUTOFF)


def test_a_list_that_holds_costs_below_a_millisecond():
    rng = np.random.default_rng(0)
    cells = [np.diag(5.5 + rng.random(3)) for _ in range(8)]
    batch = as_batch([(rng.random((12, 3)) @ cell, cell) for cell in cells])
    batch.pairs(6.0)

    def seconds():
        start = time.perf_counter()
        batch.pairs(6.0)
        return time.perf_counter() - start

    # The least of many: what another process on the machine takes away does not count.
    assert min(seconds() for _ in range(50)) < 1e-3


@pytest.fixture
def toolkit():
    """The optional package; warp writes its banner and its search for a GPU to the process's own streams."""
    pytest.importorskip("nvalchemiops", reason="the optional package nvalchemi-toolkit-ops is not installed")


def test_batch_search_finds_the_pairs_of_the_search_one_by_one(toolkit):
    batch = as_batch(awkward_crystals().values())
    given = batch.positions, batch.cells, batch.sizes
    for cutoff in (2.0, CUTOFF, 6.5):
        together, alone = search_together(*given, cutoff), search_one_by_one(*given, cutoff)
        assert as_set(together) == as_set(alone)
        np.testing.assert_allclose(np.sort(together.lengths), np.sort(alone.lengths), atol=1e-9)
        assert torch.equal(together.system_idx, batch.system_idx[together.first])
        assert [one.dtype for one in vars(together).values()] == [one.dtype for one in vars(alone).values()]


def test_batch_search_agrees_on_random_crystals(toolkit):
    rng = np.random.default_rng(11)
    for _ in range(10):
        crystals = []
        for n_atoms in rng.integers(1, 15, size=6):
            cell = rng.normal(size=(3, 3)) * 2 + 3 * np.eye(3)
            cell *= (rng.uniform(2, 25) * n_atoms / abs(np.linalg.det(cell))) ** (1 / 3)
            crystals.append((rng.normal(size=(n_atoms, 3)) * 4, cell))
        batch = as_batch(crystals)
        given = batch.positions, batch.cells, batch.sizes, 4.0
        assert as_set(search_together(*given)) == as_set(search_one_by_one(*given))


def test_batch_search_takes_tensors_that_do_not_lie_in_one_piece(toolkit):
    batch = as_batch(list(awkward_crystals().values())[:4])
    positions, cells = batch.positions.T.contiguous().T, batch.cells.mT.contiguous().mT
    assert not positions.is_contiguous() and not cells.is_contiguous()
    expected = as_set(search_one_by_one(batch.positions, batch.cells, batch.sizes, CUTOFF))
    assert as_set(search_together(positions, cells, batch.sizes, CUTOFF)) == expected


def test_batch_search_widens_its_rows_until_all_neighbours_fit(toolkit, monkeypatch):
    widths = []
    search = neighbors._batch_search()
    assert search is not None

    def seen(*args, **options):
        widths.append(options["max_neighbors"])
        return search(*args, **options)

    monkeypatch.setattr(neighbors, "_batch_search", lambda: seen)
    # Sixty atoms in one corner of a large box: sixty times denser than the box says.
    positions = np.random.default_rng(5).random((60, 3))
    batch = as_batch([(positions, 40 * np.eye(3))])
    pairs = search_together(batch.positions, batch.cells, batch.sizes, CUTOFF)
    assert len(pairs.first) == 60 * 59 // 2
    assert len(widths) == 2 and widths[0] < 59


def test_batch_search_of_an_isolated_atom_finds_none(toolkit):
    batch = as_batch([awkward_crystals()["isolated"]])
    assert search_together(batch.positions, batch.cells, batch.sizes, CUTOFF).shifts.shape == (0, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_pairs_on_a_gpu_are_those_of_the_cpu():
    batch = as_batch(awkward_crystals().values())
    there = CrystalBatch(*(one.cuda() if isinstance(one, torch.Tensor) else one for one in (
        batch.positions, batch.cells, batch.numbers, batch.sizes, batch.system_idx)))  # fmt: skip
    assert as_set(there.pairs(CUTOFF)) == as_set(batch.pairs(CUTOFF))
