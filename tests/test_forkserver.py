"""The fork server runs what Python would have run."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import psutil
import pytest

from tests import forkserver

STAGE = """
import json, os, sys, time
libraries, typed = "torch" in sys.modules, sys.stdin.read()
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["SAID"], libraries, typed, os.getpid()]))
sys.stdout.flush()
sys.stderr.write(__name__)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "stages" / "probe.py").write_text(STAGE)

    def start(*arguments, **environment):
        environment = os.environ | forkserver.environment() | forkserver.ONE_THREAD | {"SAID": "yes"} | environment
        return subprocess.Popen(
            [sys.executable, "-m", "stages.probe", *arguments], cwd=tmp_path, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@pytest.mark.parametrize("status", [0, 7])
def test_a_fork_has_the_folder_the_environment_the_streams_and_the_libraries(start, tmp_path, status):
    process = start("0", str(status))
    printed, error = process.communicate("typed")
    *seen, pid = json.loads(printed)
    assert seen == [["0", str(status)], str(tmp_path), "yes", True, "typed"]
    assert (error, process.returncode) == ("__main__", status)
    assert pid != process.pid


@pytest.mark.parametrize("environment", [{"OMP_NUM_THREADS": "2"}, {"SLURM_JOB_ID": "1"}])
def test_where_libraries_would_load_otherwise_and_under_slurm_python_starts_as_ever(start, environment):
    process = start("0", "7", **environment)
    printed, _ = process.communicate("typed")
    assert json.loads(printed)[3:] == [False, "typed", process.pid]
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_command_ends_its_fork(start, number):
    process = start("100", "0")
    process.stdin.close()
    fork = psutil.Process(json.loads(process.stdout.readline())[-1])
    process.send_signal(number)
    assert process.wait(timeout=10) == -number
    end = time.monotonic() + 10
    while fork.is_running():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_client_that_ends_while_it_asks_leaves_the_server_to_the_next(start):
    place = forkserver.environment()["TESTS_FORK_SERVER"]
    for sent in (b"", b"1234", struct.pack("q", 100), struct.pack("q", 100) + b"{"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
            client.sendall(sent)
    process = start("0", "3")
    printed, _ = process.communicate("typed")
    assert json.loads(printed)[-1] != process.pid
