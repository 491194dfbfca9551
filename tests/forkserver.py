"""A fork server: stages that tests start begin in a fork of a process that has imported the libraries.

Most of a small job's time are the imports of torch and torchvision, and a study of seconds has dozens of jobs.
`environment()` starts a server that lives as long as the process that asked for it. Python then reads
`site/sitecustomize.py` as it starts, which sends a command `python -m stages.STAGE …` to the server with its folder,
environment and streams, passes signals on, and ends as the fork ends. Only libraries are loaded before; the fork
imports the study's own code. Other commands, those of SLURM's jobs and those whose environment would have the libraries
load otherwise start as ever.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

LIBRARIES = ["torch._dynamo", "torchvision", "lightning_fabric", "zennit", "crp", "torch_pruning", "ptflops", "pandas"]
LIBRARIES += ["pyarrow.parquet", "sklearn.metrics", "scipy.stats", "matplotlib.pyplot", "pydantic", "ruamel.yaml"]
READ_AT_IMPORT = "PYTHON", "TORCH", "CUDA", "OMP", "GOMP", "KMP", "MKL", "OPENBLAS", "LD", "MPL", "LC", "LANG"
NOT_READ = "PYTHONUNBUFFERED", "TORCHINDUCTOR"  # the server is unbuffered; torch sets the other for what it starts
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}  # as Snakemake sets it for most jobs
REFUSED = struct.pack("i", 1 << 16)  # no exit status


@functools.cache
def started():
    """Start a server, and return it with its folder; it ends when its standard input does, with this process."""
    folder = tempfile.mkdtemp(prefix="forks")
    process = subprocess.Popen(
        [sys.executable, __file__, folder], env=os.environ | variables(folder) | ONE_THREAD | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.read(1), "the fork server did not start"
    return process, folder


def environment():
    """Return the variables with which Python asks this process's server."""
    return variables(started()[1])


def run(*arguments):
    """Run `python -m` with these arguments, in a fork if it is a stage, and return what it printed and its status."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=os.environ | environment() | ONE_THREAD, capture_output=True, text=True,
    )  # fmt: skip


def variables(folder):
    """Return the variables with which Python asks the server of this folder."""
    paths = [str(Path(__file__).with_name("site")), os.environ.get("PYTHONPATH")]
    return {"TESTS_FORK_SERVER": f"{folder}/socket", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def serve(listener, expected):
    """Answer clients until standard input ends; in the fork made for one, return its request.

    `expected` are the variables that were read as the libraries were imported.
    """
    ready, running = selectors.DefaultSelector(), {}
    ready.register(0, selectors.EVENT_READ)
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for file in [key.fileobj for key, _ in ready.select()]:
            if file == 0:
                return None
            if file is listener:
                connection, _ = listener.accept()
                request = receive(connection, expected)
                if request is None:
                    connection.close()
                elif child := os.fork():
                    for stream in request["streams"]:
                        os.close(stream)
                    process = os.pidfd_open(child)
                    running |= {process: (child, connection), connection: process}
                    ready.register(process, selectors.EVENT_READ)
                    ready.register(connection, selectors.EVENT_READ)
                else:
                    for each in (ready, listener, connection):
                        each.close()
                    for each in running:
                        os.close(each) if isinstance(each, int) else each.close()
                    return request
            elif isinstance(file, int):  # a fork has ended
                child, connection = running.pop(file)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with contextlib.suppress(OSError):  # the client is gone
                    connection.send(struct.pack("i", status))
                ready.unregister(file)
                os.close(file)
                if running.pop(connection, None):
                    ready.unregister(connection)
                connection.close()
            elif file in running:  # a client was told a signal, or is gone
                told = file.recv(1)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(running[file], told[0] if told else signal.SIGKILL)
                if not told:
                    ready.unregister(file)
                    del running[file]


def receive(connection, expected):
    """Return a client's request; nothing if it is gone, or has to start by itself, which it is told.

    Its environment has to have the expected variables of those that are read at an import.
    """
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    size, text = struct.unpack("q", head)[0] if len(head) == 8 else 0, b""
    while len(text) < size and (part := connection.recv(1 << 20)):
        text += part
    request = json.loads(text) if size and len(text) == size else None
    if request and read_at_import(request["environment"]) == expected:
        return request | {"streams": streams}
    for stream in streams:
        os.close(stream)
    if request:
        connection.send(REFUSED)
    return None


def read_at_import(environment):
    """Return the variables that are read when a library is imported, or by Python before."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_IMPORT) and not name.startswith(NOT_READ)
    }


def become(request, set_by_libraries):
    """Run the module of a request as `__main__`, in its folder, with its environment and streams."""
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"] | set_by_libraries)
    tempfile.tempdir = None
    module, *arguments = request["arguments"]
    sys.argv, sys.path[0] = ["-m", *arguments], request["folder"]
    importlib.invalidate_caches()
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # at once: to take down all modules takes Python three seconds here


def main():
    """Serve forks at a socket in the folder that the command line names."""
    folder = sys.argv[1]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/socket")
    listener.listen(64)
    sys.stdout.write(".")
    before = dict(os.environ)
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    if request := serve(listener, read_at_import(before)):
        become(request, {name: value for name, value in os.environ.items() if before.get(name) != value})
    else:
        os.unlink(f"{folder}/socket")
        os.rmdir(folder)


if __name__ == "__main__":
    main()
