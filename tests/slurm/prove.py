"""A study through a real Slurm on this one machine, a job of it killed, and the same results as without Slurm, byte for byte.

Run by `make test-slurm`, as root on a Debian machine that belongs to no cluster: it installs slurm-wlm and munge if they are
not there, starts munged, slurmctld and slurmd with two small partitions, and ends all of them, whatever happens.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from hub_server import HubServer  # noqa: E402

CONF = Path("/etc/slurm/slurm.conf")  # Snakemake's plug-in takes SLURM_CONF out of the environment of its steps
REVISIONS = ("step0", "step64", "step512", "step4096")
STUDY = f"""suite: hub:tests/pocket
concepts: pocket
revisions: [{", ".join(REVISIONS)}]
dimensions: [privacy]
experiments: [probing, mutual_information]
statements: 60
probing: {{seeds: 1}}
mutual_information: {{examples: 40}}
"""
# What a user's own profile says about a cluster.
SITE = """slurm-no-account: true
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 2
seconds-between-status-checks: 2
default-resources: {slurm_partition: models}
set-resources:
  notebook: {slurm_partition: tables}
"""


def main() -> None:
    """Run the study both ways and compare."""
    install()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the daemons are ended then too
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        root = Path(temporary)
        hub = HubServer()
        running.callback(hub.close)
        publish(hub)
        environment = os.environ | {
            "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(root / "hf"), "OMP_NUM_THREADS": "1",
            "TRACING_UTILS_CACHE": str(root / "cache"), "SNAKEMAKE_PROFILE": str(root / "site"),
        }  # fmt: skip
        (root / "site").mkdir()
        work = project(root / "work")
        say("the study on this machine, without Slurm")
        without = {key: value for key, value in environment.items() if key != "SNAKEMAKE_PROFILE"}
        check(trace(work, without, "--cores", "2").wait() == 0, "it completed")
        here = work.rename(root / "here")  # the second run has the same place: notebooks name the files they read
        fetched = len(weights_of(hub))
        (root / "site" / "config.yaml").write_text(SITE)
        running.enter_context(slurm(root))
        say("the same study through Slurm")
        there = project(work)
        run = trace(there, environment, "--profile", "profiles/slurm")
        running.callback(end, run)
        killed = kill_a_job(run)
        check(run.wait() == 0, "the study completed all the same")
        report(killed)
        check(len(weights_of(hub)) == 2 * fetched == 2 * len(REVISIONS), "each checkpoint's weights were fetched once each way")
        compare(here, there)


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def check(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


def install() -> None:
    """Install Slurm where it is missing; refuse a machine on which it could do harm."""
    if os.geteuid() != 0 or CONF.exists():
        sys.exit(f"This must run as root on a machine without {CONF}: it writes that file, and deletes it at the end.")
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        say("apt-get install slurm-wlm munge")
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "munge"], **quiet)


def publish(hub: HubServer) -> None:
    """Put four checkpoints of the pocket suite on the hub."""
    suite = PROJECT / "checkpoints" / "pocket"
    tokenizer = {path.name: path.read_bytes() for path in (suite / "tokenizer").iterdir()}
    for revision in (*REVISIONS, "main"):
        folder = suite / (REVISIONS[-1] if revision == "main" else revision)
        hub.publish("tests/pocket", revision, tokenizer | {path.name: path.read_bytes() for path in folder.iterdir()})


def weights_of(hub: HubServer) -> list[str]:
    return [path for path in hub.downloaded() if "/cdn/" in path]


def project(folder: Path) -> Path:
    """Return a copy of what a run needs, with the study."""
    for name in ("tracing_utils", "notebooks", "profiles"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "Snakefile", folder)
    (folder / "four.yml").write_text(STUDY)
    return folder


def trace(folder: Path, environment: dict, *where: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tracing_utils", "run", "--study", "four.yml", *where]
    print(f"$ python {' '.join(command[1:])}", flush=True)
    return subprocess.Popen(command, cwd=folder, env=environment | {"PYTHONPATH": str(folder)}, start_new_session=True)


def end(run: subprocess.Popen) -> None:
    """End a run and the Snakemake it started."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@contextmanager
def slurm(root: Path) -> Iterator[None]:
    """Start a Slurm of one machine and two partitions; end its jobs and its daemons afterwards."""
    say("munged, slurmctld and slurmd")
    key, munge = root / "munge.key", root / "munge"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    root.chmod(0o755)  # munged wants a path to its socket that everybody may walk
    munge.mkdir(mode=0o755)
    controller, daemon = free_ports(2)
    host = socket.gethostname()
    CONF.write_text(f"""ClusterName=proof
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={munge}/socket
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=86400
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=12000
PartitionName=models Nodes={host} Default=YES MaxTime=60
PartitionName=tables Nodes={host} MaxTime=60
""")
    daemons = []
    try:
        for name, command in {
            "munged": ["--foreground", f"--key-file={key}", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                       f"--log-file={munge}/log", f"--seed-file={munge}/seed"],
            "slurmctld": ["-D", "-i"],
            "slurmd": ["-D", "-N", host],
        }.items():  # fmt: skip
            with (root / f"{name}.out").open("w") as log:  # each ends with this process, even if that is killed
                started = ["setpriv", "--pdeathsig", "TERM", shutil.which(name) or f"/usr/sbin/{name}", *command]
                daemons.append(subprocess.Popen(started, stdout=log, stderr=subprocess.STDOUT))
            time.sleep(1)
        wait_until(lambda: "idle" in told("sinfo", "-h", "-o", "%T"), 60, root)
        print(told("sinfo"), flush=True)
        yield
    finally:
        told("scancel", "--user=root", "--full")
        wait_until(lambda: not told("squeue", "-h"), 30, root, quietly=True)
        for process in reversed(daemons):
            process.terminate()
        for process in daemons:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        CONF.unlink()


def free_ports(n: int) -> list[int]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(holds, seconds: float, root: Path, quietly: bool = False) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            if quietly:
                return
            for log in root.glob("*.out"):
                print(f"-- {log.name}\n{log.read_text()[-3000:]}")
            sys.exit("FAILED: Slurm did not start")
        time.sleep(0.5)


def kill_a_job(run: subprocess.Popen) -> str:
    """Kill, with SIGKILL, what a notebook's job is running; return the job's number."""
    while run.poll() is None:
        for line in told("squeue", "-h", "--states=R", "-o", "%i %k").splitlines():
            number, _, comment = line.partition(" ")
            steps = [int(each.split()[0]) for each in told("scontrol", "listpids", number).splitlines()[1:]]
            working = [pid for pid in steps if b"\0notebook\0" in command_line(pid)]
            if "notebook" in comment and working:
                os.kill(working[0], signal.SIGKILL)
                say(f"killed process {working[0]}, the notebook of job {number} ({comment})")
                return number
        time.sleep(0.2)
    sys.exit("FAILED: the run ended before a job could be killed")


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def report(killed: str) -> None:
    """Print all jobs; check that the killed one was asked for again, with twice the memory."""
    jobs = [line.split("|") for line in told("squeue", "-h", "--states=all", "--sort=i", "-o", "%i|%P|%T|%m|%l|%k").splitlines()]
    print("job partition state memory time what")
    for job in jobs:
        print(*job)
    what = {number: (memory, comment) for number, _, _, memory, _, comment in jobs}
    again = [memory for number, (memory, comment) in what.items() if comment == what[killed][1] and number != killed]
    first = int(what[killed][0].rstrip("M"))
    twice = [int(memory.rstrip("M")) for memory in again] == [2 * first]
    check(twice, f"job {killed} ran again, with {' '.join(again)} of memory instead of {first}M")
    groups = [comment for _, comment in what.values() if "checkpoint" in comment]
    check(len(groups) == len(REVISIONS), f"{len(groups)} jobs fetched weights and extracted activations, one a checkpoint")


def compare(here: Path, there: Path) -> None:
    """Check that tables, evidence and executed notebooks are the same bytes."""
    kept = [
        path.relative_to(here)
        for folder in ("runs/four/results", "runs/four/pocket")
        for path in sorted((here / folder).rglob("*"))
        if path.suffix in (".csv", ".safetensors", ".ipynb")
    ]
    different = [str(path) for path in kept if (here / path).read_bytes() != (there / path).read_bytes()]
    check(len(kept) > 4 * len(REVISIONS) and not different, f"{len(kept)} files are the same, byte for byte {different or ''}")


if __name__ == "__main__":
    main()
