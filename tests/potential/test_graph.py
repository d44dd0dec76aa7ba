from itertools import permutations

import numpy as np
import pytest
import torch
from generated_crystals import generated_crystals
from pymatgen.core import Lattice, Structure

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.graph import Incidence, crystal_graph

CUTOFF, SHORT = 6.0, 3.0
CRYSTALS = generated_crystals()
SMALL = [name for name, one in CRYSTALS.items() if len(one) < 15]


def isolated_atom():
    return Structure(Lattice.cubic(20), ["Al"], [[0, 0, 0]])


def directed_bonds(batch, graph):
    """Centre, neighbour and vector of each directed bond."""
    centers, neighbors, pairs = graph.bonds.entries.view(-1, 3).T
    neighbors, pairs = neighbors - batch.n_atoms, pairs - 2 * batch.n_atoms
    vectors = graph.pairs.vectors(batch.positions, batch.cells)
    signs = torch.ones(len(centers), 1).double()
    signs[len(centers) // 2 :] = -1
    return centers, neighbors, vectors[pairs] * signs


def numbers(*columns):
    """Rows of numbers in an order of their own."""
    return np.array(sorted(map(tuple, np.round(np.column_stack(columns), 6) + 0.0)))


@pytest.mark.parametrize("name", SMALL)
def test_directed_bonds_are_the_neighbours_that_pymatgen_finds(name):
    batch = CrystalBatch.from_structures([CRYSTALS[name]])
    centers, neighbors, vectors = directed_bonds(batch, crystal_graph(batch, CUTOFF, SHORT))
    first, second, image, _ = CRYSTALS[name].get_neighbor_list(CUTOFF)
    positions = batch.positions.numpy()
    expected = positions[second] - positions[first] + image @ batch.cells[0].numpy()
    np.testing.assert_allclose(
        numbers(centers, neighbors, vectors), numbers(first, second, expected), atol=2e-6, err_msg=name
    )


@pytest.mark.parametrize("name", SMALL)
def test_angles_are_all_ordered_pairs_of_short_bonds_at_an_atom(name):
    batch = CrystalBatch.from_structures([CRYSTALS[name]])
    graph = crystal_graph(batch, CUTOFF, SHORT)
    expected = []
    for atom, site in enumerate(CRYSTALS[name]):
        around = [one.coords - site.coords for one in CRYSTALS[name].get_neighbors(site, SHORT)]
        for one, other in permutations(around, 2):
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            expected.append((atom, np.linalg.norm(one), np.linalg.norm(other), cosine))
    vertices, firsts, seconds = graph.angles.entries.view(-1, 3).T
    firsts, seconds = firsts - batch.n_atoms, seconds - batch.n_atoms - graph.n_short
    vectors = graph.pairs.vectors(batch.positions, batch.cells)
    lengths = vectors.norm(dim=1)
    cosines = (vectors[firsts] * vectors[seconds]).sum(1) / lengths[firsts] / lengths[seconds]
    cosines = cosines * graph.angle_signs.repeat(2)
    found = numbers(vertices, lengths[firsts], lengths[seconds], cosines)
    assert len(found) == len(expected)
    if expected:
        np.testing.assert_allclose(found, numbers(*np.array(expected).T), atol=2e-6, err_msg=name)


def test_short_pairs_come_first_in_the_order_of_all_pairs():
    batch = CrystalBatch.from_structures([CRYSTALS[name] for name in SMALL])
    graph, pairs = crystal_graph(batch, CUTOFF, SHORT), batch.pairs(CUTOFF)
    short = torch.nonzero(pairs.lengths < SHORT)[:, 0]
    order = torch.cat([short, torch.nonzero(pairs.lengths >= SHORT)[:, 0]])
    assert graph.n_short == len(short) < len(pairs.lengths)
    assert torch.equal(graph.pairs.lengths, pairs.lengths[order])
    assert torch.equal(graph.pairs.shifts, pairs.shifts[order])
    assert torch.equal(graph.pairs.first, pairs.first[order]) and torch.equal(graph.pairs.second, pairs.second[order])


def test_the_two_halves_mirror_each_other():
    graph = crystal_graph(CrystalBatch.from_structures([CRYSTALS[name] for name in SMALL]), CUTOFF, SHORT)
    n_atoms = len(graph.to_center.row_bags)
    one, other = graph.bonds.entries.view(2, -1, 3)
    assert torch.equal(one[:, 0], other[:, 1] - n_atoms) and torch.equal(other[:, 0], one[:, 1] - n_atoms)
    assert torch.equal(one[:, 2], other[:, 2])
    one, other = graph.angles.entries.view(2, -1, 3)
    assert torch.equal(one[:, 0], other[:, 0])
    assert torch.equal(one[:, 1], other[:, 2] - graph.n_short) and torch.equal(other[:, 1], one[:, 2] - graph.n_short)
    # And what is known of a row, or of an unordered angle, is the same everywhere.
    assert torch.equal(graph.to_center.entries, graph.bonds.entries[::3])
    assert torch.equal(graph.to_first.entries, graph.angles.entries[1::3] - n_atoms)
    assert torch.equal(graph.angle_pairs[:, 0], one[:, 1] - n_atoms)
    assert torch.equal(graph.angle_pairs[:, 1], one[:, 2] - n_atoms - graph.n_short)


def test_an_atom_bonded_to_its_own_image_has_an_angle_of_180_degrees_there():
    chain = Structure(Lattice.orthorhombic(2.5, 9, 9), ["Al"], [[0, 0, 0]])
    graph = crystal_graph(CrystalBatch.from_structures([chain]), CUTOFF, SHORT)
    assert graph.n_short == 1
    assert graph.angle_pairs.tolist() == [[0, 0]]
    assert graph.angle_signs.tolist() == [-1]


def test_the_graph_of_a_batch_is_that_of_its_crystals():
    # An isolated atom in the middle, and crystals without angles, move the indices of all that follow.
    structures = [CRYSTALS["no angles, CsI"], CRYSTALS["copper"], isolated_atom(), CRYSTALS["heavy UO2"]]
    batch = CrystalBatch.from_structures(structures)
    graph = crystal_graph(batch, CUTOFF, SHORT)
    together = numbers(*directed_bonds(batch, graph))
    n_angles, starts, apart = 0, np.cumsum([0, *map(len, structures)]), []
    for start, structure in zip(starts, structures, strict=False):
        alone = CrystalBatch.from_structures([structure])
        alone_graph = crystal_graph(alone, CUTOFF, SHORT)
        centers, neighbors, vectors = directed_bonds(alone, alone_graph)
        apart.append(np.column_stack([centers + start, neighbors + start, vectors]))
        n_angles += len(alone_graph.angle_pairs)
    np.testing.assert_allclose(together, numbers(np.concatenate(apart)), atol=2e-6)
    assert len(graph.angle_pairs) == n_angles
    vertices = graph.angles.entries[::3]
    systems = batch.system_idx[vertices]
    for column in graph.angle_pairs.T:
        assert torch.equal(graph.pairs.system_idx[column], systems[: len(column)])


@pytest.mark.parametrize(
    ("structures", "n_short"),
    [([isolated_atom()], 0), ([isolated_atom()] * 2, 0), ([CRYSTALS["no angles, CsI"]], 0)],
    ids=["an atom", "two cells of an atom", "long bonds only"],
)
def test_graphs_without_bonds_or_angles_are_empty_tables_of_the_right_size(structures, n_short):
    batch = CrystalBatch.from_structures(structures)
    graph = crystal_graph(batch, CUTOFF, SHORT)
    assert graph.n_short == n_short
    assert graph.angle_pairs.shape == (0, 2) and graph.angle_signs.shape == (0,)
    atoms = torch.randn(batch.n_atoms, 5).double()
    n_bonds = len(graph.to_center.entries)
    assert graph.to_center.gather(atoms).shape == (n_bonds, 5)
    assert graph.to_center.scatter(torch.ones(n_bonds, 5).double()).shape == (batch.n_atoms, 5)
    assert torch.equal(graph.angles.scatter(torch.ones(0, 5).double()), torch.zeros(batch.n_atoms, 5).double())


def dense(incidence, n_entries, n_rows):
    """The matrix of a gather."""
    matrix = torch.zeros(n_rows, n_entries).double()
    width = len(incidence.entries) // max(n_rows, 1)
    for row in range(n_rows):
        for entry in incidence.entries[row * width : (row + 1) * width]:
            matrix[row, entry] += 1
    return matrix


@pytest.mark.parametrize(("sizes", "n_rows"), [([5], 11), ([4, 7], 9), ([3, 3, 6], 20), ([6, 2], 1), ([4, 5], 0)])
def test_gather_and_scatter_are_the_transpose_of_each_other(sizes, n_rows):
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(size, (n_rows,), generator=generator) for size in sizes]
    incidence = Incidence.of(columns, sizes)
    matrix = dense(incidence, sum(sizes), n_rows)
    table = torch.randn(sum(sizes), 3, generator=generator).double()
    rows = torch.randn(n_rows, 3, generator=generator).double()
    torch.testing.assert_close(incidence.gather(table), matrix @ table)
    torch.testing.assert_close(incidence.scatter(rows), matrix.T @ rows)
    expected = torch.zeros(n_rows, 3).double()
    for column, part in zip(columns, table.split(sizes), strict=True):
        expected += part[column]
    torch.testing.assert_close(incidence.gather(table), expected)


def test_entries_that_no_row_takes_get_nothing():
    incidence = Incidence.of([torch.tensor([2, 2])], [4])
    assert incidence.scatter(torch.ones(2, 1)).tolist() == [[0], [0], [2], [0]]
