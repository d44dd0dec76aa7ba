"""The house itself: quick to answer, layered, and the same when installed."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fastest(*command: str, tries: int = 5) -> float:
    """Seconds of the fastest of some runs: the one that the machine disturbed least."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return min(once() for _ in range(tries))


def test_help_answers_within_0_3_s_of_the_bare_interpreter():
    assert fastest("-m", "matsearch", "--help") - fastest("-c", "pass") < 0.3


def test_help_and_config_import_no_heavy_library():
    heavy = "torch transformers pymatgen pandas vllm ase openai"
    code = (
        "import sys, matsearch.cli.main, matsearch.config; "
        f"sys.exit(', '.join(name for name in '{heavy}'.split() if name in sys.modules) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wheel_holds_all_that_a_campaign_needs(tmp_path, write_campaign):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    outside = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import matsearch; print(matsearch.__file__)"]
    found = subprocess.run(where, env=outside, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(site))
    for backend in ("scripted", "embedded"):
        path = write_campaign(name=backend)
        if backend == "embedded":
            text = path.read_text().replace('model = "script"\noptions = { replies = "replies.jsonl" }', "")
            path.write_text(text.replace('"scripted"', '"embedded"'))
        run = [sys.executable, "-m", "matsearch", "run", str(path), "--dry-run"]
        done = subprocess.run(run, env=outside, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "all parts work" in done.stdout
