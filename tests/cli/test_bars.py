"""Progress on stderr: the numbers of its lines."""

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.cli.bars import Lines
from matsearch.records import Candidate, Individual


@pytest.mark.parametrize(("energy", "written"), [(-0.0002, "(0.000 eV/atom)"), (-0.0006, "(-0.001 eV/atom)")])
def test_an_energy_that_rounds_to_zero_has_no_sign(capsys, energy, written):
    crystal = Structure(Lattice.cubic(4), ["Na"], [[0, 0, 0]])
    lines = Lines()
    lines.told(1, 0, [], Individual(Candidate(0, crystal, 0, "seed"), crystal, energy, {}))
    lines.end()
    assert written in capsys.readouterr().err
