"""The bridge from a DVC stage to Snakemake: `python -m stages.run STAGE`, the command of every stage in dvc.yaml.

It also runs the targets beside the study: `python -m stages.run toy`.

DVC owns versions, Snakemake owns jobs. DVC deletes a stage's outputs before it runs, so finished steps are kept where
DVC never looks: `.work/STAGE/KEY/…`, from where Snakemake publishes them to the outputs. A KEY is a digest of the
contents of everything a chain of jobs depends on (the stage's deps, and its params less those that only add jobs).
So a killed run goes on where it was, one more step runs one step, and a changed input can never meet a stale step,
whatever file times or Snakemake's own records say.

STUDY_WORK names another work folder (to share steps between copies of a study); STUDY_KEEP how many runs of a stage
keep their steps there (3). SNAKEMAKE_PROFILE says how jobs run (profiles/local).
"""

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from stages import command, disk, slurm
from stages.errors import InputError
from stages.files import digest, is_whole, sha256, write_json
from stages.params import Params, load

PARAMS = Path("params.yaml")
PREPARED = Path("data/prepared/dataset.json")
RUN = Path(".snakemake/study")  # what the running stage leaves for its Snakefile
SLURM_USED = RUN / "slurm"  # there while jobs of this folder may be in the queue
LARGE = 64 * 2**20  # bytes from which a digest is remembered by size and modification time
KINDS = {".safetensors", ".npy", ".npz", ".parquet", ".json", ".csv"}  # of files whose end can be seen
RESTARTS = 3  # of Snakemake in a run, where it has lost its jobs
GRACE = 15  # seconds that Snakemake has to end after it was told to
BESIDE = {  # targets that are no stage; their rules
    "toy": ["toy", "toy_problem"],
    "curves": ["curves", "one_shot"],
    "index": ["index"],
}
TAG = "STUDY_FOLDER"  # in the environment of every job: which study it belongs to


def main() -> None:
    """Run the stage that the command line names."""
    if len(sys.argv) != 2:
        raise InputError("usage: python -m stages.run STAGE, a stage of dvc.yaml")
    name = sys.argv[1]
    load(PARAMS)
    refuse_folder(Path.cwd())
    if name in BESIDE:
        with sole_owner(name):
            end_orphans()
            sys.exit(snakemake(beside_command(name)))
    stage = read_stage(name)
    with sole_owner(name):
        end_orphans()
        frozen = freeze_params(RUN / name)
        params = load(frozen)
        if name == "train":  # the first stage that makes networks
            print(disk.in_words(params, PREPARED), flush=True)
        keys, later = chain_keys(stage, params), after_chains(stage)
        record_run(name, keys, finished=False)
        delete_outputs(stage)
        for key in keys.values():
            (work_folder() / name / key).mkdir(parents=True, exist_ok=True)
        delete_broken(*(work_folder() / name / key for key in set(keys.values())))
        # Missing files alone decide. Where a changed rule or list of inputs makes Snakemake rerun a job whose output is
        # there, it leaves out the jobs behind ancient() inputs, and the stage ends without its outputs.
        status = snakemake(stage_command(name, stage, keys, frozen, ["--rerun-triggers", "mtime"]))
        if chain_keys(stage, params) != keys:  # some jobs may have read the old files, some the new ones
            forget(name, keys)
            print(f"{name}: a dependency changed while the stage ran; run it again", file=sys.stderr)
            status = status or 1
        elif after_chains(stage) != later:
            print(f"{name}: its code changed while the stage ran; run it again", file=sys.stderr)
            status = status or 1
        elif status == 0 and used_values(stage, load(PARAMS)) != used_values(stage, params):
            print(f"{name}: params.yaml changed while the stage ran; run it again", file=sys.stderr)
            status = 1  # DVC would note the new values beside results of the old ones
        if status == 0:
            record_run(name, keys, finished=True)
    sys.exit(status)


def refuse_folder(folder: Path) -> None:
    """Refuse a folder whose name a shell would take for something else: Snakemake quotes it as Python does.

    Raises
    ------
    InputError
        The name has a backslash, both kinds of quotes, or a single quote with a dollar sign or backtick.
    """
    quoted = repr(str(folder))
    try:
        safe = shlex.split(quoted) == [str(folder)] and not (quoted.startswith('"') and set("$`").intersection(quoted))
    except ValueError:
        safe = False
    if not safe:
        raise InputError(
            f"{folder}: Snakemake cannot run in a folder with these quotes, $ or \\ in its name; rename it"
        )


def stages() -> dict[str, dict]:
    """Return the stages of dvc.yaml by name, as they are written there."""
    return yaml.safe_load(Path("dvc.yaml").read_text())["stages"]


def read_stage(name: str) -> dict:
    """Return a stage of dvc.yaml with `${…}` filled in from params.yaml.

    Raises
    ------
    InputError
        There is no such stage.
    """
    known = stages()
    if name not in known:
        raise InputError(f"dvc.yaml: has no stage {name}; its stages are {', '.join(known)}")
    source = load(PARAMS).data.source
    stage = known[name]
    return stage | {"deps": [dep.replace("${data.source}", source) for dep in stage.get("deps", [])]}


def work_folder() -> Path:
    """Return where finished steps are kept."""
    return Path(os.environ.get("STUDY_WORK", ".work"))


def used_values(stage: dict, params: Params) -> dict:
    """Return the values of a stage's params by dotted name."""
    values = params.model_dump()
    return {name: _value(values, name) for name in stage["params"]}


def chain_keys(stage: dict, params: Params) -> dict[str, str]:
    """Return the key of each chain of jobs, by `criterion/seed`.

    Parameters
    ----------
    stage : dict
        Of dvc.yaml: `deps`, `params`, and in `meta` perhaps `incremental`, `reads` and `after_chains`.
    """
    meta = stage.get("meta", {})
    used = _without(used_values(stage, params), meta.get("incremental", []))
    reads = meta.get("reads", [])
    shared = [dep for dep in stage["deps"] if dep not in meta.get("after_chains", [])]
    shared = [dep for dep in shared if not any(template.startswith(f"{dep}/") for template in reads)]
    digests = Digests()
    common = [used, {dep: digests.of(Path(dep)) for dep in shared}]
    keys = {}
    for seed in params.seeds:
        for criterion in ["baseline", *params.prune.criteria]:
            paths = [template.format(criterion=criterion, seed=seed) for template in reads]
            content = [*common, {path: digests.of(Path(path)) for path in paths}]
            key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
            keys[f"{criterion}/{seed}"] = key
    digests.save()
    return keys


def after_chains(stage: dict) -> list[str]:
    """Return the digests of a stage's deps that only jobs behind its chains use."""
    return [sha256(Path(dep)) for dep in stage.get("meta", {}).get("after_chains", [])]


class Digests:
    """Digests of files and folders; those of large files are remembered by size and modification time."""

    def __init__(self):
        self.file = RUN / "digests.json"
        with contextlib.suppress(OSError, ValueError):
            self.known = json.loads(self.file.read_text())
        self.known = getattr(self, "known", {})

    def of(self, path: Path) -> str:
        """Return the digest of a file, or of the names and digests below a folder; `absent` where there is none."""
        return digest(path, self._of_file) if path.exists() else "absent"

    def _of_file(self, path: Path) -> str:
        status = path.stat()
        if status.st_size < LARGE:
            return sha256(path)
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        remembered = self.known.get(str(path))
        if not remembered or remembered[0] != state:
            self.known[str(path)] = remembered = [state, sha256(path)]
        return remembered[1]

    def save(self) -> None:
        """Write what was remembered."""
        write_json(self.file, self.known)


@contextlib.contextmanager
def sole_owner(name: str) -> Iterator[None]:
    """Hold the folder for this run. The lock is the kernel's: however the holder ends, it is free.

    Raises
    ------
    InputError
        Another run holds it (and still does after ten seconds: one that was told to stop needs a moment), or it is
        another account's.
    """
    RUN.mkdir(parents=True, exist_ok=True)
    file = RUN / "owner"
    try:
        lock = file.open("a+")
    except PermissionError:
        lock = file.open()  # of another account; who holds it can be read
    with lock:
        for attempt in range(20):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                if attempt == 19:
                    raise InputError(f"{Path.cwd()}: held by another run: {lock.read().strip()}") from None
                time.sleep(0.5)
        if not lock.writable():
            raise InputError(
                f"{Path.cwd()}: the study of another account, which alone may run it; clone it to run it too"
            )
        lock.seek(0)
        lock.truncate()
        lock.write(f"stage {name}, process {os.getpid()} of {getpass.getuser()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def end_orphans() -> None:
    """End jobs that a killed run of this folder left behind; the caller holds the folder, so they have no owner."""
    mine = {TAG: str(Path.cwd()), "SLURM_JOB_ID": os.environ.get("SLURM_JOB_ID")}  # SLURM ends what is its own
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if all(environment.get(name) == value for name, value in mine.items()) and process.pid != os.getpid():
                process.kill()
                orphans.append(process)
    if orphans:
        print(f"ended {len(orphans)} processes that a killed run had left", flush=True)
        psutil.wait_procs(orphans, timeout=10)
    if SLURM_USED.exists():
        slurm.cancel_jobs(SLURM_USED)


def freeze_params(folder: Path) -> Path:
    """Copy params.yaml, so that an edit during a run reaches the next run, not half of this; return the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(PARAMS, folder / "params.yaml"))


def outputs(stage: dict) -> list[Path]:
    """Return the files and folders that a stage of dvc.yaml makes."""
    entries = [*stage["outs"], *stage.get("metrics", [])]
    return [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]


def delete_outputs(stage: dict) -> None:
    """Delete a stage's outputs, as DVC does before it runs one: a file that is there would be taken for up to date."""
    for path in outputs(stage):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def delete_broken(*places: Path) -> int:
    """Delete files that are not whole, so that they are made again; return how many there were.

    A step in the work folder goes with all its files: its jobs have several, and one stands for the rest. What is
    published of a step, and DVC's copy of that, may be the same file on the disk. DVC takes its copies for right, so
    those that are not go first.

    Parameters
    ----------
    places : Path
        Files, and folders that are searched; they need not exist.
    """
    found = sorted({path for place in places for path in (place, *place.rglob("*"))})
    broken = [path for path in found if path.suffix in KINDS and path.is_file() and not is_whole(path)]
    if broken:
        clean_cache()
    for path in broken:
        print(f"{path}: not whole, and made again", file=sys.stderr, flush=True)
        step = path.name.partition(".")[0]
        for part in path.parent.glob(f"{step}.*") if work_folder() in path.parents else [path]:
            part.unlink(missing_ok=True)
    return len(broken)


def clean_cache() -> None:
    """Delete what does not have the content that its name says from DVC's cache.

    Raises
    ------
    InputError
        DVC does not say where its cache is.
    """
    try:
        answer = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"dvc cache dir: {getattr(error, 'stderr', None) or error}") from None
    for path in Path(answer.stdout.strip()).glob("files/md5/??/*"):
        if re.fullmatch(r"[0-9a-f]{30}(\.dir)?", path.name):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "md5").hexdigest()
            if content != path.parent.name + path.name.removesuffix(".dir"):
                path.unlink()


def stage_command(name: str, stage: dict, keys: dict[str, str], frozen: Path, options: list[str]) -> list[str]:
    """Return the command that runs a stage's rules with frozen params and these further options."""
    configuration = frozen.with_name("run.json")
    content = {"work": str(work_folder()), "params": str(frozen), "keys": keys}
    rules, params = stage["meta"]["rules"], load(frozen)
    if "remakes" in stage["meta"] and params.models.keep != "all":
        chains = read_stage("prune")
        content["step_keys"] = chain_keys(chains, params)
        rules = [*rules, *stage["meta"]["remakes"]]
    write_json(configuration, content)
    return _command(["--configfile", str(configuration), *options], rules, f"stage_{name}")


def beside_command(name: str, *options: str) -> list[str]:
    """Return the command that makes a target beside the study; Snakemake decides what of it is up to date."""
    return _command(["--config", f"work={work_folder()}", *options], BESIDE[name], name)


def profile() -> str:
    """Return the folder that says how jobs run."""
    return os.environ.get("SNAKEMAKE_PROFILE", "profiles/local")


def _command(options: list[str], rules: list[str], target: str) -> list[str]:
    # A file that exists is complete (stages.files.replacing). Snakemake's own marks of incomplete outputs would rerun
    # jobs that were done, and with them it has been seen to leave out the jobs that follow. Of a group of jobs that
    # failed it would delete what those had made that were done.
    arguments = ["--profile", profile(), "--nolock", "--ignore-incomplete", "--keep-incomplete", *options]
    if slurm.chosen(profile()):
        # As a script: on sbatch's command line a shell would read what stands in the folder's name.
        arguments += ["--slurm-jobname-prefix", slurm.PREFIX, "--slurm-pass-command-as-script"]
    return [sys.executable, "-m", "snakemake", *arguments, "--allowed-rules", *rules, "--", target]


def snakemake(arguments: list[str], restarts: int = RESTARTS) -> int:
    """Run a command of Snakemake to its end and return its exit status; on SLURM, again where it has lost its jobs."""
    environment = os.environ | {TAG: str(Path.cwd()), "PYTHONUNBUFFERED": "1"}
    process = deadline = None
    told_to_stop = again = False
    if on_slurm := slurm.chosen(profile()):
        SLURM_USED.touch()

    def interrupt(number):
        nonlocal deadline
        deadline = deadline or time.monotonic() + GRACE
        if on_slurm and number != signal.SIGKILL:
            number = signal.SIGINT  # after another signal Snakemake waits for its jobs instead of cancelling them
        with contextlib.suppress(ProcessLookupError):
            if process:
                os.killpg(process.pid, number)

    def stop(number, frame):
        nonlocal told_to_stop
        told_to_stop = True
        interrupt(number)

    # Before the start: what is handled here has its default meaning there, also where a shell ignores it (`nohup … &`).
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    told = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"} if on_slurm else {}
    process = subprocess.Popen(arguments, env=environment, process_group=0, **told)
    follower = slurm.Follower(process.stderr, lambda: stop(signal.SIGINT, None)) if on_slurm else None
    dvc = calling_dvc()
    while True:
        try:
            status = process.wait(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            if dvc and not dvc.is_running():  # it was killed: nobody would take the outputs
                interrupt(signal.SIGTERM)
            if follower and not deadline and follower.waits_for_nothing():
                again = restarts > 0
                outcome = "it is started again" if again else "run the study again"
                print(f"Snakemake has lost its SLURM jobs; {outcome}", file=sys.stderr, flush=True)
                interrupt(signal.SIGINT)
            if deadline and time.monotonic() > deadline:  # an interrupt at the wrong moment can leave it waiting
                interrupt(signal.SIGKILL)
    if follower:  # where Snakemake was killed, its jobs run on
        follower.join(timeout=GRACE)
        slurm.cancel_jobs(SLURM_USED)
    return snakemake(arguments, restarts - 1) if again and not told_to_stop else status


def calling_dvc() -> psutil.Process | None:
    """Return the DVC that runs this stage, beyond the shell it may have put between; None when there is none."""
    if "DVC_ROOT" not in os.environ:
        return None
    ancestors = psutil.Process().parents()
    return next((process for process in ancestors if "stages.run" not in " ".join(process.cmdline())), None)


def forget(name: str, keys: dict[str, str]) -> None:
    """Delete the steps of these keys."""
    for key in set(keys.values()):
        shutil.rmtree(work_folder() / name / key, ignore_errors=True)


def record_run(name: str, keys: dict[str, str], finished: bool) -> None:
    """Note which keys a run uses; when it has finished, delete steps that no run uses any more.

    The newest finished runs of the stage keep their steps, and so does every run that has not finished: it was killed
    and may go on, or it is another copy of the study that shares the work folder.
    """
    record = work_folder() / name / "runs.json"
    runs = json.loads(record.read_text()) if record.exists() else []
    used = sorted(set(keys.values()))
    runs = [*(run for run in runs if run["keys"] != used), {"keys": used, "finished": finished}]
    newest = [run for run in runs if run["finished"]][-int(os.environ.get("STUDY_KEEP", "3")) :]
    runs = [run for run in runs if run in newest or not run["finished"]]
    write_json(record, runs)
    if finished:
        for folder in record.parent.iterdir():
            if folder.is_dir() and not any(folder.name in run["keys"] for run in runs):
                shutil.rmtree(folder, ignore_errors=True)


def _value(values: dict, dotted: str):
    for name in dotted.split("."):
        values = values[name]
    return values


def _without(used: dict, names: list[str]) -> dict:
    """Return a copy of `used` (dotted name to value) without the dotted `names`, at whatever depth they are."""
    kept = {}
    for name, value in used.items():
        if name in names:
            continue
        if isinstance(value, dict):
            inner = _without({f"{name}.{key}": part for key, part in value.items()}, names)
            value = {dotted.removeprefix(f"{name}."): part for dotted, part in inner.items()}
        kept[name] = value
    return kept


if __name__ == "__main__":
    command.run(main)
