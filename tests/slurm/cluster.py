"""A throw-away Slurm of two nodes on this machine, from Debian's packages, with device files for GPUs.

Needs root and the packages slurmctld, slurmd, slurm-client, munge and slurm-wlm-basic-plugins. What it makes lies in
one folder, but for two links in /etc/slurm (job steps look nowhere else) and a line in /etc/hosts (nodes find each
other by name); both are taken away again.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
PACKAGES = "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins"
NODES = ("n1", "n2")
GPUS_PER_NODE = 2
CPUS_PER_NODE = 32
"""More than there are: eight helpers of a training sleep most of the time."""
MEMORY_MB = 64_000
CONFIGURED = Path("/etc/slurm")
HOSTS = Path("/etc/hosts")
NULL_DEVICE = os.makedev(1, 3)


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Run a Slurm in `folder` while the block runs.

    Raises:
        RuntimeError: It cannot be started here; the message says what is missing.
    """
    _require()
    run = folder / "run"
    run.mkdir(parents=True)
    _configure(folder)
    hosts = HOSTS.read_text()
    links = [CONFIGURED / name for name in ("slurm.conf", "gres.conf")]
    try:
        HOSTS.write_text(f"{hosts.rstrip()}\n127.0.0.1 {' '.join(NODES)}\n")
        for link in links:
            link.symlink_to(folder / link.name)
        munge = f"--key-file={folder}/munge.key --socket={run}/munge.sock --pid-file={run}/munged.pid"
        munge += f" --log-file={folder}/munged.log --seed-file={run}/munge.seed"
        _call("munged", "--force", *munge.split())
        _call("slurmctld")
        for node in NODES:
            _call("slurmd", "-N", node)
        _wait_until_idle()
        yield
    finally:
        _cancel_all()
        _stop(run)
        kill_in(folder)  # steps outlive their daemons
        for link in links:
            link.unlink(missing_ok=True)
        HOSTS.write_text(hosts)


def jobs(*options: str) -> dict[str, str]:
    """Ids and states of the jobs in the queue, finished ones too where `options` ask for them."""
    lines = _call("squeue", "--noheader", "--format=%i %T", *options).splitlines()
    return dict(line.split() for line in lines)


def limit(job: str, minutes: int) -> None:
    """Give a job another time limit."""
    _call("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def preempt(seconds: int) -> None:
    """Have a job of more importance want all nodes for a while."""
    wanted = ["--partition=urgent", f"--nodes={len(NODES)}", "--exclusive", "--output=/dev/null"]
    _call("sbatch", *wanted, f"--wrap=sleep {seconds}")


def fail(node: str) -> None:
    """End a node as a power cut does: its daemon and all that runs on it; Slurm gets to know."""
    running = _call("squeue", "--noheader", f"--nodelist={node}", "--format=%i").split()
    steps = tuple(f"slurmstepd: [{job}." for job in running)
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words == ["slurmd", "-N", node] or words[0].startswith(steps):
            _kill(process)
    _call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")


def kill_in(folder: Path) -> None:
    """End every process that works in a folder, or below it, and all that it started."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended by itself
            if Path(process.cwd()).is_relative_to(folder):
                _kill(process)


def repair(node: str) -> None:
    """Start the daemon of a node that failed: it reports for work by itself (ReturnToService)."""
    _call("slurmd", "-N", node)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        children = process.children(recursive=True)
        process.kill()  # first, or it would tell of its children's end
        for child in children:
            child.kill()


def _require() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise RuntimeError(f"found no {', '.join(missing)}; expected Slurm: apt-get install {PACKAGES}")
    if os.geteuid() != 0:
        raise RuntimeError("found an ordinary user, expected root: device files and /etc/slurm need it")
    configured = [path for path in (CONFIGURED / "slurm.conf", CONFIGURED / "gres.conf") if os.path.lexists(path)]
    if configured:
        raise RuntimeError(f"{configured[0]}: found a Slurm that is already configured here, expected none")


def _configure(folder: Path) -> None:
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    nodes, gres = [], []
    for number, node in enumerate(NODES, start=1):
        (folder / node).mkdir()
        for gpu in range(GPUS_PER_NODE):  # a plain file makes the node invalid
            os.mknod(folder / "run" / f"{node}-gpu{gpu}", 0o666 | 0o020000, NULL_DEVICE)
        gres.append(f"NodeName={node} Name=gpu File={folder}/run/{node}-gpu[0-{GPUS_PER_NODE - 1}]")
        nodes.append(
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={16900 + number} "
            f"CPUs={CPUS_PER_NODE} RealMemory={MEMORY_MB} Gres=gpu:{GPUS_PER_NODE}"
        )
    (folder / "gres.conf").write_text("\n".join(gres) + "\n")
    settings = {
        "ClusterName": "throwaway",
        "SlurmctldHost": f"{socket.gethostname()}(127.0.0.1)",
        "SlurmctldPort": 16817,
        "SlurmUser": "root",
        # A credential's life is how long a requeued job waits: 2 minutes by default.
        "AuthInfo": f"socket={folder}/run/munge.sock,cred_expire=5",
        "StateSaveLocation": folder / "run",
        "SlurmdSpoolDir": f"{folder}/%n",
        "SlurmctldPidFile": f"{folder}/run/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/run/slurmd-%n.pid",
        "SlurmctldLogFile": f"{folder}/slurmctld.log",
        "SlurmdLogFile": f"{folder}/slurmd-%n.log",
        "SlurmdParameters": "config_overrides",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        # What takes more memory than its job asked for is killed, looked after once a second.
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherParams": "OverMemoryKill,UsePss",
        "JobAcctGatherFrequency": "task=1",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "SchedulerParameters": "batch_sched_delay=0,sched_min_interval=0,bf_interval=1",
        "GresTypes": "gpu",
        "MinJobAge": 600,
        "KillWait": 5,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "ReturnToService": 2,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    partitions = (
        "PartitionName=throwaway Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE",
        "PartitionName=urgent Nodes=ALL MaxTime=1-0 State=UP PriorityTier=2 PreemptMode=OFF",
    )
    (folder / "slurm.conf").write_text("\n".join([*lines, *nodes, *partitions]) + "\n")


def node_of(job: str) -> str:
    """The node on which a job of one node runs."""
    return _call("squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()


def _wait_until_idle() -> None:
    asked = ("--noheader", "--Node", "--partition=throwaway", "--format=%T")
    deadline = time.monotonic() + 60
    while (states := _call("sinfo", *asked).split()) != ["idle"] * len(NODES):
        if time.monotonic() > deadline:
            raise RuntimeError(f"found nodes in the states {states} after a minute, expected them idle")
        time.sleep(0.2)


def _cancel_all() -> None:
    """End every job, for what a daemon leaves behind nobody ends."""
    with suppress(subprocess.CalledProcessError):  # the controller may not be there
        _call("scancel", "--user=root")
        deadline = time.monotonic() + 60
        while jobs() and time.monotonic() < deadline:
            time.sleep(0.2)


def _stop(run: Path) -> None:
    """End the daemons that wrote their process ids here."""
    pids = [int(path.read_text()) for path in run.glob("*.pid") if path.read_text().strip()]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in pids if _is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
