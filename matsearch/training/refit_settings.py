"""How CHGNet is trained anew."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class RefitSettings(BaseModel, frozen=True, extra="forbid"):
    """How to train.

    Attributes:
        start: Where weights are from (`matsearch.training.targets.starting_point`).
        long_range: What is added to the network: `pqeq` (PQEq less PQEq screened at 2 Å), a head of `latent` charges,
            or `none`.
        dispersion: A D3 term that is added as well, such as `d3(pbe,bj)`; None for none.
        energy_scale: What the energies of the labels mean.
        referencing: Whether composition energies are refitted first.
        held_out: Fraction of the structures that is held out, by formula.
        epochs: How often each structure is shown at most.
        patience: Epochs without a smaller loss on what is held out after which training ends.
        batch_atoms: Atoms that are shown together.
        learning_rate: Of AdamW, at first; it falls to nothing along a cosine.
        weight_decay: Of AdamW.
        averaging: Share that the averages keep of themselves at a step, once there were many.
        energy_weight: Of energies in eV/atom in the loss.
        force_weight: Of forces in eV/Å.
        stress_weight: Of stresses in GPa.
        magmom_weight: Of magnetic moments in μB.
        huber: Where losses go over from square to linear.
        trained_share: Share of the trained weights in the result; the rest is the start's. Halfway, most of what was
            learnt is there and most of what the start knew besides (M. Wortsman et al., CVPR 2022, 7959).
        frozen: Beginnings of the names of weights that stay as they are, such as `atom_embedding`,
            `atom_conv_layers.0`.
        seed: Of the split, of the order, and of weights from scratch.
    """

    start: str = "chgnet-0.3.0"
    long_range: Literal["pqeq", "latent", "none"] = "none"
    dispersion: str | None = None
    energy_scale: str
    referencing: bool = True
    held_out: float = Field(default=0.1, gt=0, lt=1)
    epochs: PositiveInt = 50
    patience: PositiveInt = 10
    batch_atoms: PositiveInt = 200
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    averaging: float = Field(default=0.999, ge=0, lt=1)
    energy_weight: NonNegativeFloat = 3.0
    force_weight: NonNegativeFloat = 1.0
    stress_weight: NonNegativeFloat = 0.1
    magmom_weight: NonNegativeFloat = 0.1
    huber: PositiveFloat = 0.1
    trained_share: float = Field(default=1.0, gt=0, le=1)
    frozen: tuple[str, ...] = ()
    seed: NonNegativeInt = 0

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms that are taken out of the labels."""
        of_charges = ("pqeq-far",) if self.long_range == "pqeq" else ()
        return of_charges + (() if self.dispersion is None else (self.dispersion,))

    @property
    def of_training(self) -> dict[str, Any]:
        """What the steps of a training depend on."""
        return self.model_dump(mode="json", exclude={"trained_share", "energy_scale"})

    @property
    def loss_weights(self) -> tuple[float, float, float, float]:
        """Of energies, forces, stresses and moments."""
        # Latent charges come on CHGNet's features without its moments.
        of_moments = 0.0 if self.long_range == "latent" else self.magmom_weight
        return self.energy_weight, self.force_weight, self.stress_weight, of_moments
