"""Results shared through SSH and S3, with real servers on the loopback and credentials from the user's environment."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import Study

KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-to-be-seen"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(port, *command):
    """Run a server until the block ends."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None and time.monotonic() < end, command
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(timeout=10)


def objects(folder):
    """Return the contents that a remote or DVC's cache holds, by the digest that names them."""
    return {path.relative_to(path.parents[1]).as_posix() for path in folder.glob("**/files/md5/??/*")}


def times(folder):
    """Return when each object came to a remote."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("**/files/md5/??/*")}


def cached(study):
    return objects(study.folder / ".dvc/cache")


def shared_and_had_back(study, store, clone_to, **environment):
    """Push, look at what was sent, and pull in a fresh clone."""
    study.run("dvc", "push", **environment)
    study.commit("remote")
    assert objects(store) == cached(study)
    assert "Everything is up to date" in study.run("dvc", "push", **environment)

    study.edit(prune__steps=3)
    study.repro()
    new = cached(study) - objects(store)
    assert f"{len(new)} files pushed" in study.run("dvc", "push", **environment)
    assert objects(store) == cached(study)
    study.commit("one more step")

    study.run("git", "clone", "-q", str(study.folder), str(clone_to))
    clone = Study(clone_to)
    if (study.folder / ".dvc/config.local").exists():  # where the user keeps a path to a key; git ignores it
        shutil.copy(study.folder / ".dvc/config.local", clone_to / ".dvc")
    clone.run("dvc", "pull", "-q", **environment)
    assert clone.results() == study.results()
    assert clone.repro() == set()
    return clone


@pytest.mark.slow
def test_results_are_shared_through_ssh(study, tmp_path):
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not sshd or os.getuid() != 0:
        pytest.skip("needs root and sshd: apt-get install openssh-server")
    port, store = free_port(), tmp_path / "a store"
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f'Port {port}\nListenAddress 127.0.0.1\nHostKey "{tmp_path}/host"\nAuthorizedKeysFile "{tmp_path}/user.pub"\n'
        f'PidFile "{tmp_path}/sshd.pid"\nPasswordAuthentication no\nStrictModes no\nUsePAM no\n'
        "Subsystem sftp internal-sftp\n"
    )
    study.run("dvc", "remote", "add", "-q", "-d", "store", f"ssh://root@127.0.0.1:{port}{store}")
    study.run("dvc", "remote", "modify", "-q", "--local", "store", "keyfile", str(tmp_path / "user"))
    with serving(port, sshd, "-D", "-f", str(tmp_path / "sshd_config")):
        shared_and_had_back(study, store, tmp_path / "clone")
    assert "keyfile" not in study.run("git", "grep", "-I", "keyfile", "--", ".dvc", status=1)


@pytest.mark.slow
def test_results_are_shared_through_s3_and_no_secret_is_left_behind(study, tmp_path):
    port, store = free_port(), tmp_path / "store"
    (store / "bucket").mkdir(parents=True)
    study.run("dvc", "remote", "add", "-q", "-d", "store", "s3://bucket/study")
    study.run("dvc", "remote", "modify", "-q", "store", "endpointurl", f"http://127.0.0.1:{port}")
    pair = ",".join(KEYS.values())
    rclone = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", pair, str(store)]
    with serving(port, *rclone):
        clone = shared_and_had_back(study, store, tmp_path / "clone", **KEYS)
        study.run("dvc", "status", "-q", "--cloud", status=255, **KEYS | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    for folder in (study.folder, clone.folder):
        shutil.rmtree(folder / "tests")  # this file has it
        held = [path for path in folder.rglob("*") if path.is_file() and b"not-to-be-seen" in path.read_bytes()]
        assert held == []


@pytest.mark.fault
def test_a_study_of_thirty_steps_sends_each_object_once(study, tmp_path):
    study.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    study.edit(prune__criteria=["weight"], prune__per_step=0.025, prune__finetune__epochs=0)
    pushed, sent = 0, {}
    for steps in (15, 30):
        study.edit(prune__steps=steps)
        study.repro("prune")
        pushed += int(re.search(r"(\d+) files? pushed", study.run("dvc", "push"))[1])
        assert sent.items() <= times(tmp_path / "store").items()
        sent = times(tmp_path / "store")
        assert "Everything is up to date" in study.run("dvc", "push")
    assert pushed == len(sent) > 30 * 4
    assert objects(tmp_path / "store") <= cached(study)  # which has those of the study it began as, too
    sizes = dict(re.findall(r"^step (\d+): ([\d.]+) MB$", study.run("python", "-m", "stages.study", "size"), re.M))
    assert list(sizes) == [str(step) for step in range(1, 31)]
    assert float(sizes["1"]) > float(sizes["15"]) > float(sizes["30"])
