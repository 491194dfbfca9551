"""What a step costs beside its work: on this machine, on SLURM job by job, and on SLURM with each chain as one job.

By hand, where SLURM takes jobs: `make bench-scheduling`. The study is one of seconds, so that what is measured is
waiting: starts of Snakemake, the queue, and the pauses between two looks at it. Writes metrics/bench/scheduling.json.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.planning import PROJECT
from stages import command
from stages.errors import InputError
from stages.files import write_json

STEPS = 4
SMALL = {
    "data": {"image_size": 16, "limit_per_class": 40},
    "model": {"name": "resnet8"},
    "train": {"epochs": 1, "threads": 1},
    "prune": {"criteria": ["lrp", "weight"], "steps": STEPS, "per_step": 0.1, "min_channels": 2, "recalibrate": 100},
}
GROUPS = ["relevance=chain", "prune=chain"]
CASES = {
    "this machine": ("profiles/local", []),
    "SLURM, a job for each of the two rules of a step": ("profiles/slurm", []),
    "SLURM, a job for each chain (groups)": ("profiles/slurm", GROUPS),
}


def prepared(folder: Path) -> None:
    """Make a small study up to its baseline."""
    for part in [*PROJECT, "data/embedded"]:
        (shutil.copytree if Path(part).is_dir() else shutil.copy)(part, folder / part)
    content = YAML().load(Path("params.yaml"))
    for section, values in SMALL.items():
        content[section] |= values
    YAML().dump(content, folder / "params.yaml")
    for stage in ("prepare", "train"):
        run(folder, stage, "profiles/local", "baseline")


def run(folder: Path, stage: str, profile: str, work: str) -> str:
    """Run a stage with a work folder of its own; return what it said."""
    environment = os.environ | {"SNAKEMAKE_PROFILE": profile, "STUDY_WORK": f".work-{work}", "STUDY_DEVICE": "cpu"}
    answer = subprocess.run(
        [sys.executable, "-m", "stages.run", stage], cwd=folder, env=environment, text=True, capture_output=True
    )
    if answer.returncode:
        raise InputError(f"benchmarks.scheduling: stage {stage} failed: {(answer.stderr or answer.stdout)[-500:]}")
    return answer.stdout + answer.stderr


def main() -> None:
    """Run the benchmark."""
    if not shutil.which("squeue") or subprocess.run(["squeue"], capture_output=True).returncode:
        raise InputError("benchmarks.scheduling: SLURM does not answer here (squeue)")
    rows = []
    with tempfile.TemporaryDirectory(prefix=".bench", dir=Path.cwd()) as name:  # where compute nodes see it, too
        folder = Path(name)
        prepared(folder)
        for number, (case, (profile, groups)) in enumerate(CASES.items()):
            path = folder / profile / "config.yaml"
            content = YAML().load(path)
            YAML().dump({**content, **({"groups": groups} if groups else {})}, path)
            begin = time.perf_counter()
            told = run(folder, "prune", profile, str(number))
            seconds = (time.perf_counter() - begin) / STEPS
            submitted = len(re.findall(r"submitted with SLURM jobid", told))
            rows.append({"case": case, "seconds_a_step": seconds, "submissions": submitted})
            print(f"{case}: {seconds:.1f} s a step, {submitted} submissions", flush=True)
    extra = {"chains": 2, "steps": STEPS, "cores": os.cpu_count()}
    write_json(Path("metrics/bench/scheduling.json"), [row | extra for row in rows])


if __name__ == "__main__":
    command.run(main)
