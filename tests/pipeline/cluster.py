"""A real SLURM for tests: no systemd, no cgroups, no accounting, two GPUs a node that are names of /dev/null.

It has one node; a second, one more daemon on this machine, is there for who starts it, in a partition of both.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "setpriv")
SYSTEM = Path("/etc/slurm")  # where jobs look: Snakemake drops SLURM_CONF from the environment of its nested srun
FILES = ("slurm.conf", "gres.conf")
PORT = 16817


class Cluster:
    """The running daemons; `environment` is what a client needs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}{os.pathsep}/usr/sbin",
        }
        self.daemons = {}
        self.node = socket.gethostname().split(".")[0]
        self.second = f"{self.node}-2"

    @staticmethod
    def missing() -> str:
        """Return why no SLURM can run here, or nothing."""
        path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        absent = [name for name in COMMANDS if not shutil.which(name, path=path)]
        if absent:
            return f"SLURM is not installed ({', '.join(absent)}): apt-get install slurmctld slurmd slurm-client munge"
        if os.getuid() != 0:
            return f"needs root, to link {SYSTEM}/slurm.conf"
        paths = {name: SYSTEM / name for name in FILES}
        real = [name for name, path in paths.items() if path.exists() and not path.is_symlink()]
        return f"{SYSTEM} has {real[0]}: this machine is part of a cluster" if real else ""

    def start(self) -> None:
        """Start everything and wait for the node."""
        for name in ("state", f"spool-{self.node}", f"spool-{self.second}"):
            (self.folder / name).mkdir(parents=True)
        for number in range(2):
            (self.folder / f"gpu{number}").symlink_to("/dev/null")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        (self.folder / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName={self.node},{self.second} Name=gpu File={self.folder}/gpu[0-1]\n"
        )
        names = {"folder": self.folder, "node": self.node, "second": self.second}
        ports = {"port": PORT, "node_port": PORT + 1, "second_port": PORT + 2}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**names, **ports))
        SYSTEM.mkdir(exist_ok=True)
        for name in FILES:
            (SYSTEM / name).unlink(missing_ok=True)
            (SYSTEM / name).symlink_to(self.folder / name)
        munge = ["--socket", f"{self.folder}/munge", "--key-file", str(key), "--pid-file", f"{self.folder}/munge.pid"]
        logs = ["--log-file", f"{self.folder}/munge.log", "--seed-file", f"{self.folder}/munge.seed"]
        self._daemon("munged", "--foreground", "--force", *(f"{a}={b}" for a, b in _pairs([*munge, *logs])))
        self._wait("munge", "--socket", f"{self.folder}/munge", "--no-input")
        self._daemon("slurmctld", "-D", "-i")
        self._wait("scontrol", "ping")
        self.start_node()

    def start_node(self, name: str | None = None) -> None:
        """Start the node, or the second one, and wait until it takes jobs."""
        name = name or self.node
        self._daemon("slurmd", "-D", "-N", name, called=name)
        self._wait("sh", "-c", f"sinfo --noheader --nodes {name} --format %T | grep -qE 'idle|mixed|allocated'")

    def kill_node(self) -> None:
        """Kill the node's daemon and those of its jobs; the jobs are the caller's to kill."""
        self.daemons[self.node].kill()
        self.daemons[self.node].wait()
        self._run("pkill", "-KILL", "slurmstepd")

    def state_of_node(self) -> str:
        """Return what SLURM says of the node, such as down."""
        return self._run("sinfo", "--noheader", "--nodes", self.node, "--format", "%T").stdout.decode().strip()

    def stop_controller(self) -> None:
        """Stop the controller, which leaves its state on the disk."""
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait()

    def start_controller(self) -> None:
        """Start the controller again, with its jobs."""
        self._daemon("slurmctld", "-D")
        self._wait("scontrol", "ping")

    def stop_second(self) -> None:
        """Stop the second node."""
        self.daemons[self.second].terminate()
        self.daemons.pop(self.second).wait()

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._run("scancel", "--user", "root")
            end = time.monotonic() + 20
            while self._run("squeue", "--noheader").stdout and time.monotonic() < end:
                time.sleep(0.5)
        for process in reversed(self.daemons.values()):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
        for name in FILES:
            (SYSTEM / name).unlink(missing_ok=True)

    def _run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, timeout=60)

    def _daemon(self, *command: str, called: str | None = None) -> None:
        name = called or command[0]
        with (self.folder / f"{name}.out").open("w") as log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],  # they end with the tests, however these end
                env=os.environ | self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _wait(self, *command: str) -> None:
        end = time.monotonic() + 30
        while self._run(*command).returncode:
            if time.monotonic() > end:
                raise TimeoutError(f"{command}: {[file.read_text()[-300:] for file in self.folder.glob('*.out')]}")
            time.sleep(0.2)


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


CONFIGURATION = """
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
CredType=cred/munge
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
KillWait=5
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=0,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
GresTypes=gpu
NodeName=DEFAULT \
    CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={node_port}
NodeName={second} NodeHostname={node} NodeAddr=127.0.0.1 Port={second_port}
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE DefMemPerCPU=256 State=UP
PartitionName=both Nodes={node},{second} MaxTime=INFINITE DefMemPerCPU=256 State=UP
"""
