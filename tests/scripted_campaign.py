"""Small crystals and replies that hold them, for scripted models."""

import pandas as pd

# (prototype, lattice parameter in Å, elements): small cells, quick to relax, most of them not in nature.
CRYSTALS = [
    ("CsCl", 2.6, ("Mg", "O")),
    ("NaCl", 4.2, ("Ti", "O")),
    ("zincblende", 4.6, ("Mg", "O")),
    ("CsCl", 3.2, ("Li", "Mg")),
    ("NaCl", 4.1, ("Li", "O")),
    ("fluorite", 4.8, ("Ti", "O")),
    ("CsCl", 3.0, ("Li", "Ti")),
    ("NaCl", 4.3, ("Mg", "O")),
    ("fluorite", 4.7, ("Li", "O")),
]
SITES = {
    "CsCl": ("primitive", [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "NaCl": ("fcc", [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "zincblende": ("fcc", [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "fluorite": ("fcc", [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]),
}


def poscar(prototype: str, a: float, elements: tuple[str, str]) -> str:
    """A VASP 5 POSCAR of a binary prototype in its primitive cell."""
    centring, sites = SITES[prototype]
    half = a / 2
    cell = (
        [[a, 0, 0], [0, a, 0], [0, 0, a]]
        if centring == "primitive"
        else [[0, half, half], [half, 0, half], [half, half, 0]]
    )
    lines = [f"{elements[0]} {elements[1]} {prototype}", "1.0"]
    lines += [" ".join(f"{x:.6f}" for x in vector) for vector in cell]
    lines += [" ".join(elements), f"1 {len(sites) - 1}", "direct"]
    lines += [" ".join(f"{x:.6f}" for x in site) for site in sites]
    return "\n".join(lines)


def reply(*crystals: str) -> str:
    """A chat model's reply that holds POSCARs."""
    return "Here are the structures.\n" + "\n".join(f"```\n{text}\n```" for text in crystals)


def good_replies() -> list[str]:
    """Replies with two crystals each."""
    texts = [poscar(*crystal) for crystal in CRYSTALS]
    return [reply(texts[i], texts[(i + 1) % len(texts)]) for i in range(len(texts))]


def assert_same_candidates(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Two campaigns found the same to the last bit, in whatever company their crystals were relaxed."""
    pd.testing.assert_frame_equal(first, second, check_exact=True)
