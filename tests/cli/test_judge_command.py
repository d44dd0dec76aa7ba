"""`matsearch judge`: the verdicts as a table."""

from matsearch.evaluation import judged
from matsearch.evaluation.finalists import Finalists, Finals
from matsearch.evaluation.judged import Judged


def test_the_table_tells_what_each_judge_confirms(tmp_path, command, monkeypatch):
    asked = {}

    def hear(folder, judges, **options):
        asked.update(options, folder=folder, judges=judges)
        runs = [Finals("matsearch", 0, 40, ()), Finals("matsearch", 1, 50, ())]
        return Judged(Finalists(350, 300, "chgnet-0.3.0", None, runs, []), judges)

    monkeypatch.setattr(judged, "judge_finalists", hear)
    status, out, err = command("judge", tmp_path, "--judges", "a, b", "--sample", 5, "--presets", "matsearch")
    assert status == 0, err
    assert (asked["judges"], asked["sample"], asked["seed"], asked["presets"]) == (["a", "b"], 5, 0, ["matsearch"])
    assert "45 ± 64" in out and "all judges" in out and "348" not in out and "350 proposals or 300 relaxations" in out
    assert all(len(line) <= 400 for line in out.splitlines())


def test_mistakes_are_one_line(tmp_path, command):
    for arguments, said in [(("--judges", ","), "names of potentials"), ((), "no finished run in")]:
        status, _, err = command("judge", tmp_path, *arguments)
        assert status == 2 and said in err
