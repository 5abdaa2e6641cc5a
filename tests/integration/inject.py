#!/usr/bin/env python3
"""inject.py RUN STRIDE -- faults in every system call of ledgerd's append path.

strace(1) lets the N-th call of one kind on the database's files fail with EIO or ENOSPC, or kills
ledgerd before it, for N from the first call of its start to the last one that two submits make
(every STRIDE-th of them). Each time, from the same database:

  - ledgerd starts under that fault, or says why not and exits;
  - what is asked of it is done, or refused; and once the fault is over it is done;
  - after a kill -9 and a start without faults, every job that was answered for is there;
  - the database verifies: leaves, checkpoint, and the job table against the log;
  - every checkpoint that was shown, at any time, is one of a prefix of the log that is there then.

Before that, a commit fails and so do the reads after it.
"""
import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

RUN, STRIDE = pathlib.Path(sys.argv[1]), int(sys.argv[2])
ROOT = RUN / "bastion"
STATE = ROOT / "var/lib/sallyport/state/ledgerd"
DB = STATE / "ledger.db"
SEED = RUN / "seed"
SOCKET = ROOT / "run/sallyport/operators.sock"
PATIENCE_S = 60
KINDS = ["pwrite64", "fdatasync", "openat"]
FAULTS = ["error=EIO", "error=ENOSPC", "signal=KILL"]


class Broken(Exception):
    """What must not happen."""


def ask(*words):
    return subprocess.run(["sallyctl", "--root", ROOT, *words], capture_output=True, text=True,
                          timeout=PATIENCE_S)


def start(name, inject=None, *options):
    """ledgerd, under a fault or without one; None when it ended at once."""
    command = ["ledgerd", "--root", str(ROOT), "-f"]
    if inject is not None:
        kind, fault, n = inject
        paths = [a for p in (DB, f"{DB}-wal") for a in ("-P", str(p))]
        command = ["strace", "-qq", "-o", RUN / "trace", "-e", f"trace={kind}", *paths, *options,
                   *(["-e", f"inject={kind}:{fault}:when={n}"] if fault else []), *command]
    SOCKET.unlink(missing_ok=True)
    log = open(RUN / "log" / name, "a")
    process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return None
        if SOCKET.exists() and ask("jobs").returncode == 0:
            return process
        time.sleep(0.02)
    raise Broken("ledgerd neither serves nor ends")


def end(process):
    if process is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def checkpoint(note):
    """Size and root of a signed note; who signed it is the business of log verify."""
    origin, size, root = note.split("\n")[:3]
    assert origin == "sallyport/bastion/gate", note
    return int(size), root


def root_of(leaves):
    """RFC 6962 section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:k]) + root_of(leaves[k:])).digest()


def stored():
    """Entries and checkpoint as they lie on the disk: in a copy, a look must not change them."""
    copy = RUN / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for f in STATE.iterdir():
        if not f.name.endswith("-shm"):
            shutil.copy(f, copy / f.name)
    db = sqlite3.connect(copy / "ledger.db")
    leaves = [hashlib.sha256(b"\x00" + body).digest()
              for (body,) in db.execute("SELECT body FROM entry ORDER BY seq")]
    note, = db.execute("SELECT note FROM checkpoint").fetchone()
    db.close()
    return leaves, checkpoint(note.decode())


def look(seen):
    answer = ask("log", "checkpoint")
    if answer.returncode == 0:
        seen.append(checkpoint(answer.stdout))


def submit(answered, revision):
    answer = ask("submit", f"hf:org/name@{revision}", "--profile", "fixture", "--json")
    if answer.returncode == 0:
        answered.append(json.loads(answer.stdout)["job"])
    return answer


def drive(process, answered, seen):
    """Two submits, each asked for until the fault is over or ledgerd is."""
    for i in range(2):
        for attempt in range(4):
            answer = submit(answered, f"r{i}")
            look(seen)
            if answer.returncode == 0 or process.poll() is not None:
                break
            if "ledger.db" not in answer.stderr and "gave up" not in answer.stderr:
                raise Broken(f"a refusal that does not say what failed: {answer.stderr}")
        else:
            raise Broken(f"ledgerd lives, and refuses after the fault is over: {answer.stderr}")


def judge(answered, seen):
    """What is there afterwards."""
    leaves, kept = stored()
    seen.append(kept)
    process = start("plain.log")
    if process is None:
        raise Broken("ledgerd does not start after the fault")
    jobs = {j["job"] for j in json.loads(ask("jobs", "--all", "--json").stdout)["jobs"]}
    look(seen)
    end(process)
    lost = set(answered) - jobs
    if lost:
        raise Broken(f"answered for, and gone: {lost}")
    verified = ask("log", "verify", "--database", DB)
    if verified.returncode != 0:
        raise Broken(f"the database: {verified.stderr}")
    leaves, _ = stored()
    for size, root in seen:
        if size > len(leaves):
            raise Broken(f"a checkpoint of {size} entries was shown, {len(leaves)} are there")
        want = base64.b64encode(root_of(leaves[:size])).decode()
        if size > 0 and root != want:
            raise Broken(f"forked: the checkpoint of size {size} was {root}, and is {want}")


def one(kind, fault, n):
    """Returns what became of ledgerd under the fault."""
    shutil.rmtree(STATE)
    shutil.copytree(SEED, STATE)
    answered, seen = [], []
    process = start("faults.log", (kind, fault, n))
    try:
        if process is not None:
            drive(process, answered, seen)
            fate = "served" if process.poll() is None else "died while it served"
        else:
            fate = "did not start"
    finally:
        end(process)
    judge(answered, seen)
    return fate


def calls_of(kind):
    return (RUN / "trace").read_text().count(f"{kind}(")


def steps_under_way():
    """What ledgerd has in mind of them, not what its table holds; None when it cannot say."""
    said = re.search(r"(\d+) steps under way", ask("doctor", "--json").stdout)
    return said and int(said[1])


def unreadable():
    """A commit fails, and then even the look at what is there instead: ledgerd looks again, and does
    not go on with the steps of a job that never was."""
    shutil.rmtree(STATE)
    shutil.copytree(SEED, STATE)
    process = start("plain.log", ("fdatasync,pread64", None, 0))
    steps, syncs = steps_under_way(), calls_of("fdatasync")
    submit([], "steady")
    reads = calls_of("pread64")
    end(process)
    shutil.rmtree(STATE)
    shutil.copytree(SEED, STATE)
    process = start("faults.log", ("fdatasync,pread64", None, 0), "-e",
                    f"inject=fdatasync:error=EIO:when={syncs + 1}", "-e",
                    f"inject=pread64:error=EIO:when={reads + 1}..{reads + 3}")
    answered = []
    try:
        if submit(answered, "never").returncode == 0:
            raise Broken("a submit whose commit fails is answered")
        deadline = time.monotonic() + PATIENCE_S
        while (now := steps_under_way()) != steps:
            if time.monotonic() > deadline:
                raise Broken(f"{steps} steps are in the table, ledgerd goes on with {now}")
            time.sleep(0.1)
        if (RUN / "trace").read_text().count("(INJECTED)") < 2:
            raise Broken("nothing was unreadable: the test is none")
    finally:
        end(process)
    judge(answered, [])


def main():
    fates = {}
    try:
        unreadable()
    except Broken as e:
        sys.exit(f"inject: a commit and the reads after it: {e}")
    for kind in KINDS:
        # how many calls there are when nothing fails
        one(kind, None, 0)
        calls = calls_of(kind)
        if calls == 0:
            sys.exit(f"inject: no call of {kind}: nothing is put to the test")
        for fault in FAULTS:
            # what is not looked at this time is another one for each kind and fault
            for n in range(1 + (FAULTS.index(fault) % STRIDE), calls + 1, STRIDE):
                try:
                    fate = one(kind, fault, n)
                except Broken as e:
                    sys.exit(f"inject: {kind} {fault} call {n} of {calls}: {e}")
                fates[fate] = fates.get(fate, 0) + 1
        print(f"inject: {kind}: {calls} calls, every {STRIDE}th with each of {', '.join(FAULTS)}")
    if len(fates) < 3:
        sys.exit(f"inject: only these fates were put to the test: {fates}")
    print("inject: " + ", ".join(f"{n} times ledgerd {fate}" for fate, n in fates.items()))


main()
