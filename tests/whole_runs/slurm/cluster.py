"""A real Slurm on this machine: munge, slurmctld and slurmd on loopback, one node with two imitated GPUs.

    python tests/whole_runs/slurm/cluster.py install        apt-get install of Debian's packages; needs root
    python tests/whole_runs/slurm/cluster.py start FOLDER   keys, state and logs go to FOLDER; prints what to export
    python tests/whole_runs/slurm/cluster.py stop FOLDER    with --after PID: once that process has ended

The daemons have a key, ports and a configuration of their own, so a Slurm that the machine belongs to is not
touched.  There is no accounting: `sacct` finds nothing, as on small clusters.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
PACKAGES = ("munge", "slurm-wlm")
CPUS, GPUS, MEMORY_MB = 6, 2, 96000

CONFIGURATION = """
ClusterName=uadtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
KillWait=20
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=uadnode NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=cpu Nodes=uadnode Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=uadnode MaxTime=INFINITE State=UP
"""


def what_is_missing() -> str:
    """Why no Slurm can run here; empty if one can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root: its daemons start jobs as the user who asks"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} missing: `apt-get install {' '.join(PACKAGES)}`"
    return ""


def install() -> None:
    """Debian's packages, unless they are there.  Their services stay off.

    Raises:
        subprocess.SubprocessError: apt-get fails, or takes more than five minutes.
    """
    if os.geteuid() == 0 and what_is_missing() and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        patience = [f"-oAcquire::{name}" for name in ("Retries=1", "http::Timeout=20", "https::Timeout=20")]
        for arguments in (["update"], ["install", "-y", *PACKAGES]):
            subprocess.run(
                ["apt-get", "-qq", *patience, *arguments], env=environment, check=True, timeout=300,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """What the clients (sbatch, squeue, ...) and the plugin need."""
    return {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder}/bin:{os.environ['PATH']}"}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def write_configuration(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o755)
    values = {"ports": free_ports(2), "cpus": CPUS, "gpus": GPUS, "memory": MEMORY_MB}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host, **values).lstrip())
    devices = [folder / f"gpu{i}" for i in range(GPUS)]  # a GPU is a file to Slurm
    for device in devices:
        device.touch()
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    # the plugin's second half drops all variables named SLURM_* before it calls srun, SLURM_CONF included
    (folder / "bin").mkdir(exist_ok=True)
    srun = f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    (folder / "bin" / "srun").write_text(srun)
    (folder / "bin" / "srun").chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def launch(folder: Path, *command: str) -> None:
    """Start a daemon that outlives this process."""
    with open(folder / f"{command[0]}.out", "ab") as log:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, start_new_session=True,
            env={**os.environ, **environment(folder)},
        )  # fmt: skip


def launch_controller(folder: Path) -> None:
    launch(folder, "slurmctld", "-f", f"{folder}/slurm.conf")


def start(folder: Path, patience_s: float = 60) -> None:
    """Start the cluster and wait until its node is idle; raises RuntimeError with the logs' ends if it is not."""
    folder = folder.resolve()
    write_configuration(folder)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    launch(folder, "munged", "--force", f"--socket={folder}/munge.socket", *files)
    launch_controller(folder)
    launch(folder, "slurmd", "-f", f"{folder}/slurm.conf", "-N", "uadnode")
    deadline = time.time() + patience_s
    while client(folder, "sinfo", "--noheader", "--format=%T", "--partition=cpu").strip() != "idle":
        if time.time() > deadline:
            logs = [(folder / f"{name}.log").read_text()[-2000:] for name in ("slurmctld", "slurmd")]
            raise RuntimeError("the cluster does not come up\n" + "\n".join(logs))
        time.sleep(0.5)


def client(folder: Path, *command: str) -> str:
    """Output of a Slurm client; empty where the controller does not answer."""
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment(folder)})
    return run.stdout


def pid_of(folder: Path, daemon: str) -> int | None:
    path = folder / f"{daemon}.pid"
    return int(path.read_text()) if path.exists() and path.read_text().strip() else None


def stop_daemon(folder: Path, daemon: str, number: int = signal.SIGTERM) -> None:
    pid = pid_of(folder, daemon)
    if pid is None:
        return
    deadline = time.time() + 20
    while Path(f"/proc/{pid}").exists():
        os.kill(pid, number if time.time() < deadline else signal.SIGKILL)
        time.sleep(0.3)
    (folder / f"{daemon}.pid").unlink(missing_ok=True)


def stop(folder: Path) -> None:
    """Cancel what runs, end the daemons, and kill what is left of the jobs."""
    folder = folder.resolve()
    jobs = re.findall(r"\d+", client(folder, "squeue", "--noheader", "--format=%A"))
    if jobs:
        client(folder, "scancel", "--signal=KILL", "--full", *jobs)
        client(folder, "scancel", *jobs)
    for daemon in ("slurmd", "slurmctld", "munge"):
        stop_daemon(folder, daemon)
    kill(processes_of(folder, b"SLURM_JOB_ID="))


def stop_after(folder: Path, pid: int) -> None:
    """Wait until a process has ended, however it ends; then stop the cluster and whoever still asks it."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(1)
    stop(folder)
    kill(processes_of(folder))


def processes_of(folder: Path, variable: bytes = b"") -> dict[int, str]:
    """Number and command line of the cluster's daemons, and of what was started with its variables, if alive."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command, variables = ((process / name).read_bytes() for name in ("cmdline", "environ"))
            ours = f"{folder.resolve()}/".encode() in command + variables and process.name != str(os.getpid())
            if ours and variable in variables:
                found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def kill(processes: Iterable[int], patience_s: float = 10) -> None:
    """Kill processes and wait until they are gone."""
    deadline = time.time() + patience_s
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/environ").exists() and time.time() < deadline:
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["install", "start", "stop"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("slurm-test"))
    parser.add_argument("--after", type=int, metavar="PID", help="stop: once this process has ended")
    arguments = parser.parse_args()
    if arguments.action == "install":
        install()
    if arguments.action == "stop":
        stop_after(arguments.folder, arguments.after) if arguments.after else stop(arguments.folder)
        return
    if reason := what_is_missing():
        sys.exit(f"error: {reason}")
    if arguments.action == "start":
        start(arguments.folder)
        print(*(f"export {name}={value}" for name, value in environment(arguments.folder.resolve()).items()))


if __name__ == "__main__":
    main()
