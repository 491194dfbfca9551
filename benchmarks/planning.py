"""How long does Snakemake plan a study of 10,000 jobs? Measured as a dry run in a copy of the project.

By hand: `make bench-planning`. Writes metrics/bench/planning.json.
"""

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

from stages import command
from stages.errors import InputError
from stages.files import write_json

SEEDS = 10
STEPS = [6, 65]  # each of 150 jobs: scores, a cut, and files published, of five criteria and ten seeds
RUNS = 3
PROJECT = ["Snakefile", "dvc.yaml", "params.yaml", "profiles", "stages"]


def planned(folder: Path) -> tuple[int, float]:
    """Return how many jobs a study has and the seconds that a dry run takes."""
    begin = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all"], cwd=folder, text=True, capture_output=True
    )
    seconds = time.perf_counter() - begin
    total = re.search(r"^total +(\d+)", answer.stdout + answer.stderr, re.M)
    if answer.returncode or not total:
        raise InputError(f"Snakefile: does not plan: {(answer.stderr or answer.stdout)[-300:]}")
    return int(total[1]), seconds


def main() -> None:
    """Run the benchmark."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PROJECT:
            (shutil.copytree if Path(part).is_dir() else shutil.copy)(part, folder / part)
        for steps in STEPS:
            content = YAML().load(Path("params.yaml"))
            content["data"]["source"] = str(Path(content["data"]["source"]).resolve())
            content["seeds"] = list(range(SEEDS))
            content["prune"] |= {"steps": steps, "per_step": 0.9 / steps}
            YAML().dump(content, folder / "params.yaml")
            runs = [planned(folder) for _ in range(RUNS)]
            jobs, seconds = runs[0][0], statistics.median(seconds for _, seconds in runs)
            print(f"{jobs} jobs: planned in {seconds:.1f} s", flush=True)
            rows.append({"jobs": jobs, "seconds": seconds, "runs": RUNS, "snakemake": version("snakemake")})
    write_json(
        Path("metrics/bench/planning.json"),
        [row | {"cores": os.cpu_count(), "machine": platform.machine()} for row in rows],
    )


if __name__ == "__main__":
    command.run(main)
