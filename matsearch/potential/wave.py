"""How what a network says of one atom answers to the displacement of another, by their distance in the crystal.

In a periodic cell an atom stands for all its images, so that a slope with its position adds up what every image does to
an atom, near ones and far ones alike. First moments of that (a dipole's slope) need them apart. A displacement that
varies in space as exp(λ·x) keeps them apart: to first order it multiplies by 1 + λ·d all that is carried over by d, and
the slope with λ is the moment. Values stay as they are; only slopes are changed, in a network that passes what it takes
from neighbours through `carried`. The moment is exact for any cell and any range of the network.
"""

from __future__ import annotations

from torch import Tensor


def carried(values: Tensor, distances: Tensor, wave: Tensor | None) -> Tensor:
    """What rows take from neighbours, its slopes multiplied by 1 + λ·d.

    Args:
        values: [n_rows, ...] of the neighbours.
        distances: [n_rows, 3] from where a row stands to its neighbour, in Å.
        wave: λ, [3] in 1/Å; None for zero.
    """
    if wave is None:
        return values
    factors = (distances.detach() @ wave.to(distances)).to(values.dtype)
    factors = factors.view(-1, *[1] * (values.dim() - 1))
    return values + (values - values.detach()) * factors
