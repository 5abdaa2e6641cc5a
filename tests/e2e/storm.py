#!/usr/bin/env python3
"""storm.py RUN KILLS SEED -- kill -9 at random moments, and what must hold nevertheless.

RUN is a site of site.sh, nothing running. Data sets of some tens of MiB are fetched, one after the
other, through a relay of limited rate, while ledgerd, fetcherd and fetcherd's child are killed with
SIGKILL at moments drawn from SEED and started again. Everything that ledgerd says meanwhile is
written down: jobs it took and cancellations it confirmed (others come and go meanwhile, so that ledgerd
has something to lose), states it showed, checkpoints it signed. At
the end:

  * every one of them is in the log, and each checkpoint is a prefix of it (none was forked);
  * nothing is under way, what was submitted is FETCHED or was cancelled, the log's last word on each
    job is what the job table says, and the log verifies;
  * each fetched tree is the one that the hub has, its blobs and all others in the store have the
    bytes that their names promise;
  * of each tree no more than AGAIN_MAX bytes for each connection and kill were fetched again;
  * no child outlives its fetcherd.

Exits with 1 after the first of these that does not hold, naming it. The seed is printed; the moments
are drawn from it, what the processes do at those moments is theirs.
"""
import asyncio
import hashlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

MIB = 1 << 20
LARGE_FILES, LARGE_BYTES, SMALL_FILES, SMALL_BYTES = 2, 24 * MIB, 12, 64 << 10
RATE_BYTES_PER_S = 48 * MIB
CONNECTIONS = 2
AGAIN_MAX = 8 * MIB
# requests, headers and listings: far less than a file
TALK_MAX = 64 << 10
PAUSE_MAX_S = 1.0
ROUND_MAX_S = 180


class Failed(Exception):
    """What did not hold."""


# --- the wire ------------------------------------------------------------------------------------

class Relay(threading.Thread):
    """TCP from a port of its own to the hub's; passes RATE_BYTES_PER_S and counts what it passed."""

    def __init__(self, to_port):
        super().__init__(daemon=True)
        self.to_port, self.port, self.passed = to_port, None, 0
        self.free_at, self.ready = 0.0, threading.Event()

    async def pump(self, reader, writer, limited):
        try:
            while data := await reader.read(32 << 10):
                if limited:
                    now = time.monotonic()
                    self.free_at = max(now, self.free_at) + len(data) / RATE_BYTES_PER_S
                    await asyncio.sleep(self.free_at - now)
                writer.write(data)
                await writer.drain()
                if limited:
                    self.passed += len(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.pump(reader, up_writer, False), self.pump(up_reader, writer, True))

    async def main(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await server.serve_forever()

    def run(self):
        asyncio.run(self.main())


# --- processes -----------------------------------------------------------------------------------

class Site:
    """The daemons of one bastion and the hub that it fetches from."""

    def __init__(self, run):
        self.run, self.bastion, self.upstream = run, run / "bastion", run / "upstream"
        ports = dict(line.split("=") for line in (run / "ports").read_text().split())
        self.hub_port = int(ports["P_HUB"])
        self.running = {}
        self.starts = 0

    def start(self, name, root=None):
        with open(self.run / "log" / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(
                [name, "--root", str(root or self.bastion), "-f"], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        self.starts += 1

    def kill(self, name, sig=signal.SIGKILL):
        process = self.running.pop(name)
        process.send_signal(sig)
        process.wait()

    def ended(self):
        """Daemons that ended by themselves: none may."""
        return [f"{name} ended with status {p.returncode}"
                for name, p in self.running.items() if p.poll() is not None]

    def children(self, name):
        pid = self.running[name].pid
        try:
            return [int(c) for c in
                    pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def stop(self):
        for name in list(self.running):
            self.running[name].send_signal(signal.SIGTERM)
        for name in list(self.running):
            try:
                self.running.pop(name).wait(20)
            except subprocess.TimeoutExpired:
                raise Failed(f"{name} does not end on SIGTERM") from None

    def ask(self, *words, timeout_s=5):
        """sallyctl's answer, or None when ledgerd is not there, or dies while it is asked."""
        try:
            p = subprocess.run(["sallyctl", "--root", str(self.bastion), *words, "--json"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(p.stdout) if p.returncode == 0 else None


def exists(pid):
    try:
        return b" (" in pathlib.Path(f"/proc/{pid}/stat").read_bytes() and \
            pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- what was said -------------------------------------------------------------------------------

class Said:
    """Everything that ledgerd acknowledged; written down by several threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.transitions = set()  # (job, state)
        self.checkpoints = {}     # size -> root
        self.forked = None

    def state(self, job, state):
        with self.lock:
            self.transitions.add((job, state))

    def checkpoint(self, size, root):
        with self.lock:
            if self.checkpoints.setdefault(size, root) != root:
                self.forked = size


def watch(site, said, jobs, over):
    """Asks for checkpoints and states until `over` is set."""
    while not over.is_set():
        point = site.ask("log", "checkpoint", timeout_s=3)
        if point:
            said.checkpoint(point["size"], point["root"])
        for job in list(jobs):
            view = site.ask("job", job, timeout_s=3)
            if view:
                said.state(job, view["state"])
                if view["state"] == "FAILED" and site.ask("retry", job):
                    said.state(job, "retried")
        over.wait(0.02)


def chat(storm, over):
    """Jobs that are taken and cancelled, so that no death of ledgerd comes when it has nothing to do."""
    n = 0
    while not over.is_set():
        answer = storm.site.ask("submit", f"hf-dataset:storm/chat-{n}", "--profile", "storm")
        if answer:
            storm.said.state(answer["job"], "SUBMITTED")
            storm.cancel(answer["job"])
        n += 1
        over.wait(0.05)


# --- trees ---------------------------------------------------------------------------------------

def make_tree(folder, draw):
    """Files of random bytes; their tree listing and how large they are together."""
    (folder / "data").mkdir(parents=True)
    lines, total = [], 0
    sizes = [LARGE_BYTES] * LARGE_FILES + [SMALL_BYTES] * SMALL_FILES
    for i, size in enumerate(sizes):
        name = f"data/part-{i:03}.jsonl"
        data = draw.randbytes(size)
        (folder / name).write_bytes(data)
        lines.append(f"0644 {size} {hashlib.sha256(data).hexdigest()} {name}\n")
        total += size
    return "sallyport-tree/1\n" + "".join(sorted(lines, key=lambda l: l.split()[3])), total


def check_store(site, listing):
    store = site.bastion / "var/lib/sallyport/store/fetcherd/sha256"
    tree = hashlib.sha256(listing.encode()).hexdigest()
    for digest in [tree] + [line.split()[2] for line in listing.splitlines()[1:]]:
        blob = store / digest[:2] / digest[2:]
        if not blob.is_file():
            raise Failed(f"blob {digest} of tree {tree} is not in fetcherd's store")
        if hashlib.sha256(blob.read_bytes()).hexdigest() != digest:
            raise Failed(f"blob {digest} of tree {tree} holds other bytes")
    return tree


def check_names(site):
    """Whatever is visible under a digest has it."""
    store = site.bastion / "var/lib/sallyport/store/fetcherd/sha256"
    for blob in store.glob("??/*"):
        if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.parent.name + blob.name:
            raise Failed(f"{blob} holds other bytes than its name says")


# --- the log -------------------------------------------------------------------------------------

def leaf_hashes(folder, size):
    """The leaves' hashes, from the level-0 tiles of an export (C2SP tlog-tiles)."""
    hashes = []
    for n in range((size + 255) // 256):
        name = f"{n % 1000:03}"
        for _ in range(2):
            n //= 1000
            if n:
                name = f"x{n % 1000:03}/{name}"
        path = folder / "tile/0" / name
        width = min(256, size - len(hashes))
        if width < 256:
            path = pathlib.Path(f"{path}.p/{width}")
        data = path.read_bytes()
        hashes += [data[i:i + 32] for i in range(0, 32 * width, 32)]
    return hashes


def roots(leaves):
    """Yields (size, root in hex) of every prefix (RFC 6962)."""
    stack = []  # (leaves below, hash), largest first
    for size, leaf in enumerate(leaves, 1):
        stack.append((1, leaf))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            (n, right), (_, left) = stack.pop(), stack.pop()
            stack.append((2 * n, hashlib.sha256(b"\1" + left + right).digest()))
        root = stack[-1][1]
        for _, left in reversed(stack[:-1]):
            root = hashlib.sha256(b"\1" + left + root).digest()
        yield size, root.hex()


def check_log(site, said):
    export = site.run / "export"
    point = site.ask("log", "checkpoint")
    if point is None:
        raise Failed("no checkpoint at the end")
    said.checkpoint(point["size"], point["root"])
    if site.ask("log", "verify", timeout_s=120) is None:
        raise Failed("sallyctl log verify fails")
    if site.ask("log", "export", str(export), timeout_s=120) is None:
        raise Failed("sallyctl log export fails")
    size = int((export / "checkpoint").read_text().split("\n")[1])
    is_root = dict(roots(leaf_hashes(export, size)))
    if said.forked is not None:
        raise Failed(f"two checkpoints of size {said.forked} with different roots")
    for seen, root in said.checkpoints.items():
        if seen > size:
            raise Failed(f"a checkpoint of {seen} entries was signed, the log has {size}")
        if seen and is_root[seen] != root:
            raise Failed(f"forked: the checkpoint of {seen} entries is none of this log")
    entries = site.ask("log", "show", timeout_s=120)["entries"]
    in_log = {(e["job"], e["to"]) for e in entries if e["to"]}
    in_log |= {(e["job"], "retried") for e in entries if e["event"] == "retry"}
    for job, state in sorted(said.transitions - in_log):
        raise Failed(f"job {job}: {state} was acknowledged, the log does not have it")
    last = {e["job"]: e["to"] for e in entries if e["to"]}
    site.kill("ledgerd", signal.SIGTERM)
    database = site.bastion / "var/lib/sallyport/state/ledgerd/ledger.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        table = dict(db.execute("SELECT id, state FROM job"))
    for job in sorted(table.keys() | last.keys()):
        if table.get(job) != last.get(job):
            raise Failed(f"job {job}: the log ends with {last.get(job)}, "
                         f"the job table says {table.get(job)}")
    return size, last


# --- the storm -----------------------------------------------------------------------------------

class Storm:
    """Rounds of one data set each, until enough has been killed."""

    def __init__(self, site, kills, seed):
        self.site, self.left, self.draw = site, kills, random.Random(seed)
        self.relay, self.said, self.jobs = Relay(site.hub_port), Said(), []
        self.killed = {"ledgerd": 0, "fetcherd": 0, "child": 0}
        self.rounds = self.needed = self.passed = 0
        self.again_worst, self.fetched, self.cancelled = 0.0, {}, set()

    def configure(self):
        etc = self.site.bastion / "etc/sallyport"
        (etc / "sallyport.conf").write_text(
            'side = "bastion";\nhost = "gate";\n'
            "ledgerd: { heartbeat_ms = 50; lease_ms = 400; backoff_ms = 10; attempts = 8; };\n"
            f'fetcherd: {{ endpoint = "http://127.0.0.1:{self.relay.port}"; '
            f"parallel = {CONNECTIONS}; }};\n")

    def serve(self, name, folder):
        """The hub serves this data set, and no longer the one before."""
        if "registryd" in self.site.running:
            self.site.kill("registryd", signal.SIGTERM)
        (self.site.upstream / "etc/sallyport/sallyport.conf").write_text(
            'side = "bastion";\nregistryd: {\n'
            f'  listen = "127.0.0.1:{self.site.hub_port}"; standalone = true;\n'
            f'  local: {{ one: {{ name = "storm/{name}"; dir = "/{folder.name}"; '
            'kind = "dataset"; }; };\n};\n')
        self.site.start("registryd", self.site.upstream)

    def kill_one(self):
        """One SIGKILL; a child's death is seen by its daemon, the others are started again."""
        victim = self.draw.choice(("ledgerd", "ledgerd", "fetcherd", "fetcherd", "child"))
        children = self.site.children("fetcherd")
        if victim == "child" and children:
            try:
                os.kill(self.draw.choice(sorted(children)), signal.SIGKILL)
            except ProcessLookupError:
                return
        else:
            victim = "fetcherd" if victim == "child" else victim
            self.site.kill(victim)
            self.site.start(victim)
            if victim == "fetcherd":
                self.await_gone(children)
        self.killed[victim] += 1
        self.left -= 1

    @staticmethod
    def await_gone(children):
        deadline = time.monotonic() + 10
        while any(map(exists, children)):
            if time.monotonic() > deadline:
                raise Failed("a child of fetcherd lives 10 s longer than its daemon")
            time.sleep(0.01)

    def submit(self, source):
        job = None
        deadline = time.monotonic() + 30
        while job is None:
            answer = self.site.ask("submit", source, "--profile", "storm")
            job = answer and answer["job"]
            if time.monotonic() > deadline:
                raise Failed(f"{source} cannot be submitted")
        self.said.state(job, "SUBMITTED")
        return job

    def cancel(self, job):
        """A job of its own, cancelled: only a confirmed one counts."""
        if self.site.ask("cancel", job) is not None:
            self.cancelled.add(job)
            self.said.state(job, "CANCELLED")

    def round(self):
        name = f"set-{self.rounds}"
        folder = self.site.upstream / name
        listing, total = make_tree(folder, self.draw)
        before, deaths = self.relay.passed, dict(self.killed)
        self.serve(name, folder)
        job = self.submit(f"hf-dataset:storm/{name}")
        self.jobs[:] = [job]
        deadline = time.monotonic() + ROUND_MAX_S
        while (job, "FETCHED") not in self.said.transitions:
            if ended := self.site.ended():
                raise Failed("; ".join(ended))
            if time.monotonic() > deadline:
                raise Failed(f"job {job} is not FETCHED after {ROUND_MAX_S} s: "
                             f"{self.site.ask('job', job)}")
            if self.left > 0:
                time.sleep(self.draw.uniform(0, PAUSE_MAX_S))
                self.kill_one()
            else:
                time.sleep(0.05)
        self.fetched[job] = check_store(self.site, listing)
        deaths = {who: n - deaths[who] for who, n in self.killed.items()}
        kills = sum(deaths.values())
        again = max(0, self.relay.passed - before - total - TALK_MAX * (kills + 1))
        self.needed += total
        self.passed += self.relay.passed - before
        self.again_worst = max(self.again_worst, again / max(1, kills))
        print(f"storm: {name}: {kills} kills, {deaths['ledgerd']} of them of ledgerd; "
              f"{again / MIB:.1f} MiB fetched again", flush=True)
        if again > AGAIN_MAX * CONNECTIONS * kills:
            raise Failed(f"{again / MIB:.1f} MiB fetched again after {kills} kills, at most "
                         f"{AGAIN_MAX // MIB} MiB for each kill and connection are allowed")
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        self.rounds += 1

    def settle(self):
        """Until nothing is under way: a submit that was not acknowledged may have made a job."""
        deadline = time.monotonic() + 60
        while (jobs := self.site.ask("jobs")) is None or jobs["jobs"]:
            if time.monotonic() > deadline:
                raise Failed(f"still under way after 60 s without a kill: {jobs}")
            time.sleep(0.1)

    def check(self):
        self.settle()
        for job, tree in self.fetched.items():
            view = self.site.ask("job", job)
            if tree not in [a["digest"] for a in view["artifacts"]]:
                raise Failed(f"job {job} names other trees than {tree}: {view['artifacts']}")
        size, last = check_log(self.site, self.said)
        for job in self.cancelled:
            if last[job] != "CANCELLED":
                raise Failed(f"job {job} was cancelled, and is {last[job]}")
        check_names(self.site)
        return size

    def run(self):
        self.relay.start()
        self.relay.ready.wait()
        self.configure()
        self.site.start("ledgerd")
        self.site.start("fetcherd")
        over = threading.Event()
        threads = [threading.Thread(target=watch, args=(self.site, self.said, self.jobs, over)),
                   threading.Thread(target=chat, args=(self, over))]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        try:
            while self.left > 0:
                self.round()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        size = self.check()
        return size, time.monotonic() - begin


def main():
    run, kills, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(f"storm: {kills} kills, seed {seed}", flush=True)
    site = Site(run)
    storm = Storm(site, kills, seed)
    try:
        size, seconds = storm.run()
        site.stop()
    except Failed as why:
        print(f"storm: FAILED: {why} (seed {seed})", file=sys.stderr)
        return 1
    finally:
        for process in site.running.values():
            process.kill()
    killed = storm.killed
    print(f"""storm: {sum(killed.values())} kills in {seconds:.0f} s (ledgerd {killed['ledgerd']}, \
fetcherd {killed['fetcherd']}, its child {killed['child']}); {site.starts} starts
storm: {storm.rounds} trees complete and right, {len(storm.cancelled)} jobs cancelled; \
{len(storm.said.transitions)} acknowledged transitions, all in the log of {size} entries
storm: {len(storm.said.checkpoints)} checkpoints seen, each a prefix of the log
storm: {storm.passed / MIB:.0f} MiB served for {storm.needed / MIB:.0f} MiB of trees; again at most \
{storm.again_worst / MIB:.1f} MiB a kill, {AGAIN_MAX // MIB} MiB for each of {CONNECTIONS} \
connections allowed""")
    return 0


sys.exit(main())
