"""A long campaign: does it keep its memory, and is it the potential that takes the time?

    python benchmarks/long_campaign.py [--candidates 2000] [--run-dir DIR]

An optimise campaign with three objectives (energy above hull, density, strain energy) and a scripted model that writes
two small crystals a reply: prototypes of 2 to 5 atoms with random elements, stretched and shaken a little, so that most
of them are new. Prints the memory of the process over the run, and the share of the wall time in which at least one
thread was inside the potential. A run that was stopped goes on with the same command; what is printed then is of the
part since.
"""

import argparse
import os
import random
import tempfile
import threading
import time
import warnings
from pathlib import Path

PROTOTYPES = {
    "CsCl": ([[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1), "cubic"),
    "NaCl": ([[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1), "fcc"),
    "zincblende": ([[0, 0, 0], [0.25, 0.25, 0.25]], (1, 1), "fcc"),
    "fluorite": ([[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]], (1, 2), "fcc"),
    "Cu3Au": ([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], (1, 3), "cubic"),
    "Heusler": ([[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75], [0.5, 0.5, 0.5]], (1, 2, 1), "fcc"),
    "perovskite": ([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], (1, 1, 3), "cubic"),
}
CELLS = {"cubic": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "fcc": [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]}
VOLUMES = {"cubic": 1.0, "fcc": 0.25}
ELEMENTS = ["Li", "Na", "Mg", "Ca", "Al", "Si", "Ti", "Fe", "Cu", "Zn", "Zr", "N", "O", "F", "S", "Cl"]


def poscar(rng):
    """A crystal of about 15 Å^3 an atom, in its primitive cell."""
    name = rng.choice(sorted(PROTOTYPES))
    sites, counts, kind = PROTOTYPES[name]
    elements = rng.sample(ELEMENTS, len(counts))
    edge = (len(sites) * rng.uniform(12, 18) / VOLUMES[kind]) ** (1 / 3)
    lines = [f"{name}", "1.0"]
    lines += [" ".join(f"{edge * x * rng.uniform(0.97, 1.03):.5f}" for x in vector) for vector in CELLS[kind]]
    lines += [" ".join(elements), " ".join(map(str, counts)), "direct"]
    lines += [" ".join(f"{(x + rng.uniform(-0.02, 0.02)) % 1:.5f}" for x in site) for site in sites]
    return "\n".join(lines)


def reply(prompt):
    """What the scripted model says."""
    rng = random.Random(prompt.index)
    return "\n".join(f"```\n{poscar(rng)}\n```" for _ in range(prompt.n_crystals))


CAMPAIGN = """
name = "long"
task = "optimise"
[space]
elements = {elements}
max_atoms = 8
[llm]
backend = "scripted"
model = "random-prototypes"
options = {{ replies = "{script}:reply" }}
[search]
generations = {generations}
population = {population}
children_per_prompt = 2
[relax]
optimizer = "lbfgs"
max_steps = 200
[[objectives]]
name = "energy_above_hull"
direction = "min"
[[objectives]]
name = "density"
direction = "min"
[[objectives]]
name = "strain_energy"
direction = "max"
"""


class Busy:
    """Wall time in which some thread is inside."""

    def __init__(self):
        self._lock, self._inside, self._since = threading.Lock(), 0, 0.0
        self.seconds = 0.0

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.perf_counter() - self._since


def count_time_inside(busy, *methods):
    """Replace methods of `BatchedPotential` by the same with their time taken."""
    from matsearch.potential.batched import BatchedPotential

    for name in methods:
        original = getattr(BatchedPotential, name)

        def timed(self, *arguments, _original=original):
            with busy:
                return _original(self, *arguments)

        setattr(BatchedPotential, name, timed)


def memory_mib():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit("needs /proc/self/status, as Linux has it")


def watch(samples, ended, every=2.0):
    start = time.perf_counter()
    while True:
        samples.append((time.perf_counter() - start, memory_mib()))
        if ended.wait(every):
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--run-dir", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    import matsearch as ms

    folder = Path(tempfile.mkdtemp())
    population = min(100, given.candidates)
    (folder / "long.toml").write_text(
        CAMPAIGN.format(
            elements=str(ELEMENTS).replace("'", '"'),
            script=Path(__file__).resolve(),
            generations=given.candidates // population,
            population=population,
        )
    )
    busy, samples, ended = Busy(), [], threading.Event()
    count_time_inside(busy, "evaluate", "predict", "energies")
    run_dir = given.run_dir or folder / "run"
    campaign = (
        ms.Campaign.open(run_dir) if run_dir.exists() else ms.Campaign.from_toml(folder / "long.toml", run_dir=run_dir)
    )
    watcher = threading.Thread(target=watch, args=(samples, ended), daemon=True)
    wall, processor = time.perf_counter(), time.process_time()
    watcher.start()
    campaign.run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    ended.set()
    table = campaign.candidates()
    print(f"{len(table)} candidates in {wall:.0f} s ({processor:.0f} s of the processor, {os.cpu_count()} cores)")
    print(table.groupby(["stage", "reason"], dropna=False).size().to_string())
    print("memory in MiB at shares of the time:")
    for share in (0.05, 0.25, 0.5, 0.75, 1.0):
        until = [memory for at, memory in samples if at <= share * wall]
        print(f"  {share:4.0%}  now {until[-1]:.0f}, most so far {max(until):.0f}")
    quarter = max(memory for at, memory in samples if at <= 0.25 * wall)
    growth = max(memory for _, memory in samples) / quarter - 1
    inside = busy.seconds / wall
    print(f"  {'PASS ' if growth < 0.1 else 'SHORT'}  peak after the first quarter of the time: {growth:+.1%}")
    print(f"  {'PASS ' if inside > 0.8 else 'SHORT'}  share of the wall time in the potential: {inside:.1%}")


if __name__ == "__main__":
    main()
