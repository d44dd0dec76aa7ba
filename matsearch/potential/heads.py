"""Numbers of atoms from their features: a linear layer and a small network for each element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ElementHeads(nn.Module):
    """One number of each atom, [n_atoms], from features: a constant, a linear part and a network, by element.

    All but the constants start from zero.
    """

    def __init__(self, constants: Sequence[float], n_features: int, width: int = 32) -> None:
        """Make heads.

        Args:
            constants: Of each element, what its atoms start from.
            n_features: Of each atom.
            width: Of the two hidden layers; 0 for a linear head.
        """
        super().__init__()
        self.constants = nn.Parameter(torch.tensor(list(constants), dtype=torch.float64))
        self.linear = nn.Parameter(torch.zeros(len(self.constants), n_features, dtype=torch.float64))
        self.networks = nn.ModuleList(_network(n_features, width) for _ in self.constants if width)

    def forward(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Numbers of atoms of these kinds (row of their element)."""
        values = self.constants.index_select(0, kinds)
        values = values + (self.linear.index_select(0, kinds) * features).sum(1)
        for kind in kinds.unique().tolist() if len(self.networks) else []:
            own = torch.nonzero(kinds == kind)[:, 0]
            values = values.index_add(0, own, self.networks[kind](features.index_select(0, own))[:, 0])
        return values


def _network(n_features: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(n_features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)]
    network = nn.Sequential(*layers).double()
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network
