"""What Python reads as it starts where TESTS_FORK_SERVER is set: `tests/forkserver.py` says why."""

import os
import sys


def forked(arguments):
    """Have the server run a module; return unless it did."""
    import json
    import signal
    import socket
    import struct

    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ["TESTS_FORK_SERVER"])
    text = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [struct.pack("q", len(text))], [0, 1, 2])
    server.sendall(text)
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, _: server.send(bytes([number])))
    answer = server.recv(4)
    for number, handler in before.items():
        signal.signal(number, handler)
    if not answer:
        os._exit(1)
    status = struct.unpack("i", answer)[0]
    if status == 1 << 16:
        return
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


module = sys.orig_argv[2] if sys.orig_argv[1:2] == ["-m"] and len(sys.orig_argv) > 2 else ""
if module.startswith("stages.") and module != "stages.run" and "SLURM_JOB_ID" not in os.environ:
    forked(sys.orig_argv[2:])
