"""`make clean` removes what can be made again, and that alone."""

import shutil
import subprocess
from pathlib import Path

import yaml

KEPT = ["metrics/assistant.json", "metrics/.gitignore", "data/embedded/fashion-mnist.npz"]


def outputs() -> list[str]:
    found = []
    for stage in yaml.safe_load(Path("dvc.yaml").read_text())["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            found += [each if isinstance(each, str) else next(iter(each)) for each in stage.get(kind, [])]
    return found


def test_clean_removes_every_output_of_the_graph_and_no_source(tmp_path):
    shutil.copy("Makefile", tmp_path)
    made = [*outputs(), "metrics/curves", "metrics/toy", "metrics/bench", "logs", ".work"]
    for path in [*made, *KEPT]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert len(made) > 20
    assert [path for path in made if (tmp_path / path).exists()] == []
    assert [path for path in KEPT if not (tmp_path / path).exists()] == []
