"""How long does Snakemake plan a study of 10,000 jobs? Measured in a copy of the project.

Planning is what comes before the first job: building the graph of all jobs, timed as a drawing of its rules
(`--rulegraph`). A dry run (`-n`) plans in the same way and then formats each job to print it.

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

CRITERIA = ["lrp", "weight", "gradient", "taylor", "random"]
SEEDS = 10
STEPS = [6, 65]  # each of 150 jobs: scores, a cut, and files published, of five criteria and ten seeds
RUNS = 3
PROJECT = ["Snakefile", "dvc.yaml", "params.yaml", "profiles", "stages"]


def planned(folder: Path, *options: str) -> tuple[float, str]:
    """Return the seconds that Snakemake takes with these options, and what it prints."""
    begin = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "--", "all"], cwd=folder, text=True, capture_output=True
    )
    seconds = time.perf_counter() - begin
    if answer.returncode:
        raise InputError(f"Snakefile: does not plan: {(answer.stderr or answer.stdout)[-300:]}")
    return seconds, answer.stdout + answer.stderr


def _median(runs: list[tuple[float, str]]) -> float:
    return statistics.median(seconds for seconds, _ in runs)


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
            content["prune"] |= {"criteria": CRITERIA, "steps": steps, "per_step": 0.9 / steps}
            YAML().dump(content, folder / "params.yaml")
            graphs, dry = zip(
                *(
                    (planned(folder, "--rulegraph", "dot"), planned(folder, "--dry-run", "--quiet", "rules"))
                    for _ in range(RUNS)
                ),
                strict=True,
            )
            jobs = int(re.search(r"^total +(\d+)", dry[0][1], re.M)[1])
            row = {"jobs": jobs, "planned_s": _median(graphs), "dry_run_s": _median(dry)}
            print(
                f"{jobs} jobs: planned in {row['planned_s']:.1f} s, a dry run takes {row['dry_run_s']:.1f} s",
                flush=True,
            )
            rows.append(row | {"runs": RUNS, "snakemake": version("snakemake")})
    write_json(
        Path("metrics/bench/planning.json"),
        [row | {"cores": os.cpu_count(), "machine": platform.machine()} for row in rows],
    )


if __name__ == "__main__":
    command.run(main)
