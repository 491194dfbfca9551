"""A study of seconds in a temporary git repository, run by the real DVC and Snakemake."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.files import sha256
from tests import forkserver
from tests.pipeline.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
A_DAY = 24 * 60 * 60
JOB = re.compile(
    r"^\S+ (prepare(?=:)|(?:train|relevance|prune|evaluate):? (?:\w+ )?seed \d+(?: step \d+)?"
    r"|few_shot \w+ seed \d+ with \d+)",
    re.M,
)
SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: .*?/rule_(\w+)/(?:(\S+)/)?\d+\.log\)")


class Study:
    """A copy of the project with a small params.yaml."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            **forkserver.environment(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STUDY_DEVICE": "cpu",
            "DVC_SITE_CACHE_DIR": str(folder / ".site"),
            **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def run(self, *command, status=0, **environment):
        """Run a command in the study and return all it printed; fail if its exit status is not `status`."""
        answer = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert status is None or answer.returncode == status, f"{command} -> {answer.returncode}\n{answer.stdout}"
        return answer.stdout

    def repro(self, *stages, **environment):
        """Run `dvc repro` up to some stages, or all, and return which jobs ran, such as `prune lrp seed 0 step 1`."""
        return jobs(self.run("dvc", "repro", *stages, **environment))

    def start(self, *stages, **environment):
        """Start `dvc repro` in a process group of its own, its output in `repro.log`."""
        with (self.folder / "repro.log").open("w") as log:
            return subprocess.Popen(
                ["dvc", "repro", *stages], cwd=self.folder, env=self.environment | environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, text, seconds=120):
        """Wait until `repro.log` holds `text`."""
        end = time.monotonic() + seconds
        while text not in (self.folder / "repro.log").read_text():
            assert time.monotonic() < end, (self.folder / "repro.log").read_text()
            time.sleep(0.1)

    def processes(self):
        """Return the processes that work in the study's folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(entry / "cwd")) == self.folder and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill_all(self):
        """Kill every process of the study at once, as when the machine goes down."""
        for process in self.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        while self.processes():
            time.sleep(0.05)

    def kill_jobs(self):
        """Kill the processes that SLURM started in the study's folder."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                if b"SLURM_JOB_ID=" in Path(f"/proc/{process}/environ").read_bytes():
                    os.kill(process, signal.SIGKILL)

    def edit(self, **values):
        """Set dotted keys (with `__` for the dot) in params.yaml, keeping its comments."""
        yaml = YAML()
        yaml.width = 4096
        path = self.folder / "params.yaml"
        content = yaml.load(path.read_text())
        for key, value in values.items():
            *sections, name = key.split("__")
            section = content
            for part in sections:
                section = section[part]
            section[name] = value
        with path.open("w") as stream:
            yaml.dump(content, stream)

    def edit_profile(self, values, **of_rules):
        """Set keys of the SLURM profile, and resources of rules."""
        path = self.folder / "profiles/slurm/config.yaml"
        content = YAML().load(path.read_text())
        assert set(values) <= set(content)
        content |= values
        for rule, resources in of_rules.items():
            content["set-resources"][rule] = content["set-resources"].get(rule, {}) | resources
        with path.open("w") as stream:
            YAML().dump(content, stream)

    def commit(self, message):
        """Commit everything git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def read(self, path):
        """Return the text of a file of the study."""
        return (self.folder / path).read_text()

    def files(self, folder):
        """Return the contents of the files below a folder by name."""
        top = self.folder / folder
        return {file.relative_to(top).as_posix(): file.read_bytes() for file in top.rglob("*") if file.is_file()}

    def results(self):
        """Return everything versioned that two equal studies have equal: all but measured times."""
        found = {}
        for folder in ("data/prepared", "models", "metrics"):
            found |= {f"{folder}/{name}": content for name, content in self.files(folder).items()}
        return {
            name: content
            for name, content in found.items()
            if not name.endswith(("latency.csv", "time.svg", "time.pdf", ".gitignore", "report.html"))
            and not name.startswith("metrics/deployment/")
        }


def jobs(output):
    """Return the jobs that a run's output names."""
    found = {match.group(1).replace(":", "") for match in JOB.finditer(output)}
    return {re.sub(r"^(evaluate \S+ seed \d+).*", r"\1", job) for job in found}


def rules(output):
    """Return the rules whose jobs were submitted."""
    return sorted(rule for _, rule, _ in SUBMITTED.findall(output))


def step(criterion, number, seed=0):
    """Return the two jobs of a step."""
    return {f"{stage} {criterion} seed {seed} step {number}" for stage in ("relevance", "prune")}


def evaluated(*criteria, seed=0):
    """Return the evaluation jobs of these chains."""
    return {f"evaluate {criterion} seed {seed}" for criterion in criteria}


def sources():
    """Return the files of a study of which nothing has run: what git tracks or would track, but results and docs."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = [name for name in names.split("\0") if name and not name.startswith(("metrics/", "docs/", "dvc.lock"))]
    return sorted(name for name in names if (ROOT / name).exists())


def clone_of_the_project(folder):
    """Copy the sources, and make them a repository.

    Stages that are like others but take their time are left out; `complete` has them.
    """
    folder.mkdir(parents=True)
    for name in sources():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / "metrics").mkdir(exist_ok=True)
    shutil.copy2(ROOT / "metrics" / ".gitignore", folder / "metrics")
    definition = YAML().load((folder / "dvc.yaml").read_text())
    for name in LIKE_OTHERS:
        del definition["stages"][name]
    with (folder / "dvc.yaml").open("w") as stream:
        YAML().dump(definition, stream)
    study = Study(folder)
    study.run("git", "init", "-q", "-b", "main")
    with (folder / ".git" / "info" / "exclude").open("a") as stream:
        stream.write("repro.log\n.site\n")
    return study


LIKE_OTHERS = ["sensitivity", "few_shot", "drift", "concepts", "prototypes", "report"]
SMALL = {
    "data__image_size": 16,
    "data__limit_per_class": 40,
    "model__name": "resnet8",
    "train__epochs": 2,
    "train__batch_size": 32,
    "train__threads": 1,
    "prune__criteria": ["lrp", "weight"],
    "prune__steps": 2,
    "prune__per_step": 0.2,
    "prune__min_channels": 2,
    "prune__recalibrate": 100,
    "prune__scores__coupled__gradient": "mean",
    "prune__scores__coupled__taylor": "max",
    "prune__finetune__batch_size": 32,
    "sensitivity__criteria": ["lrp", "random"],
    "sensitivity__rates": [0.25, 0.9],
    "few_shot__images_per_class": [1, 3],
    "few_shot__updates": 3,
    "drift__images_per_class": 2,
    "concepts__references": 2,
    "concepts__lost": 0.05,  # so small a network spreads some relevance evenly
    "concepts__pictured_layers": 2,
    "concepts__pictured_concepts": 2,
    "concepts__matched_images": 5,
    "prototypes__layer": "layer2",
    "prototypes__per_class": 2,
    "prototypes__dimension": 8,
    "prototypes__warm_up": 1,
    "prototypes__joint": 1,
    "prototypes__last_layer__epochs": 2,
    "prototypes__prune__neighbours": 3,
    "prototypes__prune__own": 2,
    "prototypes__backbone__epochs": 1,
    "prototypes__examples": 1,
    "prototypes__threads": 1,
    "evaluate__latency__batch_sizes": [1],
    "evaluate__latency__seconds": 0.01,
    "evaluate__onnx": "none",
}


def made_once(folder, make):
    """Return a study and the jobs that made it: made in `folder` by the first process that needs it."""
    study, ran = Study(folder / "a study"), folder / "ran.json"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ran.exists():
            shutil.rmtree(study.folder, ignore_errors=True)  # whoever made it was killed
            ran.write_text(json.dumps(sorted(make(study.folder))))
    return study, set(json.loads(ran.read_text()))


@pytest.fixture(scope="session")
def made(tmp_path_factory, worker_id):
    """Return a folder for studies of these sources, each made by one worker in one of several runs of pytest."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent).with_name("studies")
    for other in folder.glob("*"):
        if other.stat().st_mtime < time.time() - A_DAY:
            shutil.rmtree(other, ignore_errors=True)
    folder /= hashlib.sha256("".join(name + sha256(ROOT / name) for name in sources()).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    return folder


@pytest.fixture(scope="session")
def finished(made):
    """Return a finished study, committed; not to be changed."""

    def make(folder):
        study = clone_of_the_project(folder)
        study.edit(**SMALL)
        study.commit("small study")
        ran = study.repro()
        study.commit("results")
        return ran

    study, study.first_jobs = made_once(made / "finished", make)
    return study


@pytest.fixture(scope="session")
def complete(finished, made):
    """Return a finished study of every stage, committed; not to be changed."""

    def make(folder):
        complete = copied(finished, folder)
        shutil.copy(ROOT / "dvc.yaml", complete.folder)
        complete.edit(evaluate__onnx="first")
        complete.commit("every stage")
        ran = complete.repro()
        complete.commit("results")
        return ran

    study, study.added_jobs = made_once(made / "complete", make)
    return study


def copied(study, folder):
    """Return a copy of a study."""
    subprocess.run(["cp", "-a", study.folder, folder], check=True)
    return Study(folder)


@pytest.fixture
def study(finished, tmp_path):
    """Return a copy of the finished study that a test may change."""
    copy = copied(finished, tmp_path / "copy")
    yield copy
    copy.kill_all()


@pytest.fixture
def whole(complete, tmp_path):
    """Return a copy of the finished study of every stage that a test may change."""
    copy = copied(complete, tmp_path / "whole")
    yield copy
    copy.kill_all()


@pytest.fixture
def fresh(tmp_path):
    """Return a study of which nothing has run."""
    study = clone_of_the_project(tmp_path / "fresh")
    study.edit(**SMALL)
    study.commit("small study")
    yield study
    study.kill_all()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Return a running cluster."""
    if why := Cluster.missing():
        pytest.skip(why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"SLURM does not start here: {error}")
        yield cluster
    finally:
        cluster.stop()


@pytest.hookimpl(tryfirst=True)  # before `-m` is looked at
def pytest_collection_modifyitems(items):
    """Mark the tests that start a SLURM: a machine can have one at a time."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slurm)


def moved_to(cluster, study):
    """Have SLURM run a study's jobs, polled often; return the study."""
    study.edit_profile({"slurm-init-seconds-before-status-checks": 2, "latency-wait": 10})
    path = os.pathsep.join([study.environment["PATH"], "/usr/sbin"])
    study.environment |= cluster.environment | {"SNAKEMAKE_PROFILE": "profiles/slurm", "PATH": path}
    return study


@pytest.fixture
def on_slurm(study, cluster):
    """Return a copy of the finished study whose jobs SLURM runs."""
    return moved_to(cluster, study)


@pytest.fixture
def faults():
    """Return what writes a row of the table of faults, new or in place of its old one; FAULTS names the page."""

    def write(fault, what, lost, seconds):
        if not (page := os.environ.get("FAULTS")):
            return
        text = Path(page).read_text()
        head, _, rest = text.partition("<!-- faults -->\n")
        table, _, tail = rest.partition("<!-- end -->")
        title = ["| fault | what happens | lost | seconds |", "| --- | --- | --- | --- |"]
        rows = [row for row in table.splitlines()[2:] if not row.startswith(f"| {fault} |")]
        lines = [*title, *rows, f"| {fault} | {what} | {lost} | {seconds:.0f} |"]
        Path(page).write_text(f"{head}<!-- faults -->\n" + "\n".join(lines) + f"\n<!-- end -->{tail}")

    return write
