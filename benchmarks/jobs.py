"""Two jobs of one thread at a time, or one job of two threads after another? Measured on the study's first step.

By hand, after `make run`: `make bench-jobs`. Writes metrics/bench/jobs.json.
"""

import os
import platform
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

CHAINS = ["lrp", "taylor"]
RUNS = 3


def start(criterion: str, params: Path, folder: Path) -> subprocess.Popen:
    """Start the first pruning step of a criterion, from the study's own baseline and scores."""
    scores = f"models/pruned/{criterion}/seed0/step1.scores.npz"
    outputs = {"plan": "json", "pruned": "p.safetensors", "finetuned": "safetensors", "history": "csv"}
    arguments = ["--criterion", criterion, "--seed", "0", "--step", "1", "--data", "data/prepared"]
    baseline = "models/baseline/seed0.safetensors"
    arguments += ["--unpruned", baseline, "--checkpoint", baseline, "--scores", scores, "--params", str(params)]
    for name, suffix in outputs.items():
        arguments += [f"--{name}", str(folder / f"{criterion}.{suffix}")]
    return subprocess.Popen([sys.executable, "-m", "stages.prune", *arguments], stdout=subprocess.DEVNULL)


def timed(jobs_at_a_time: int, params: Path, folder: Path) -> float:
    """Return the seconds that both steps take, so many at a time."""
    begin = time.perf_counter()
    for first in range(0, len(CHAINS), jobs_at_a_time):
        started = [start(criterion, params, folder) for criterion in CHAINS[first : first + jobs_at_a_time]]
        if any(process.wait() for process in started):
            raise InputError("benchmarks.jobs: a step failed; run the study first")
    return time.perf_counter() - begin


def main() -> None:
    """Run the benchmark."""
    if not Path("models/pruned").exists():
        raise InputError("models/pruned: does not exist yet; `make run` makes it")
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for threads in times:
            content = YAML().load(Path("params.yaml"))
            content["prune"]["finetune"]["threads"] = threads
            YAML().dump(content, folder / f"{threads}.yaml")
        for _ in range(RUNS):
            for threads, seconds in times.items():
                seconds.append(timed(2 // threads, folder / f"{threads}.yaml", folder))
                print(f"{2 // threads} job(s) of {threads} thread(s) at a time: {seconds[-1]:.1f} s", flush=True)
    ours, peer = statistics.median(times[1]), statistics.median(times[2])
    row = {"case": "two pruning steps with fine-tuning", "ours_s": ours, "peer": "one job of two threads at a time"}
    row |= {"peer_s": peer, "ratio": ours / peer, "runs": RUNS, "cores": os.cpu_count(), "torch": version("torch")}
    write_json(Path("metrics/bench/jobs.json"), [row | {"machine": platform.machine()}])
    print(f"two jobs of one thread take {ours / peer:.2f} times as long as one of two threads after another")


if __name__ == "__main__":
    command.run(main)
