"""A custom objective: crystals that are stable and light.

Run it from anywhere: python examples/light_and_stable.py
"""

from pathlib import Path

import matsearch as ms


@ms.objective(name="mass_density", unit="g/cm3", direction="min")
def mass_density(structure):
    """Mass density of the relaxed crystal; a number, or a `Rejection` with a reason."""
    return float(structure.density)


if __name__ == "__main__":
    campaign = ms.Campaign.from_toml(Path(__file__).with_suffix(".toml")).run()
    table = campaign.candidates().query("stage == 'scored'")
    print(table[["formula", "energy_above_hull", "mass_density"]].sort_values("mass_density").to_string(index=False))
