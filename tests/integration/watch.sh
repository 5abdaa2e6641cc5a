#!/bin/bash
# watch.sh -- sallyctl follows jobs: on a terminal, in a pipe, until the end or Ctrl-C. No worker
# runs at first: jobs wait for their first step. Then one that fetches for ever.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-watch.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
start bastion ledgerd
await 10 "ledgerd" B jobs
submit() { B submit "hf:org/name@$1" --profile fixture --json | jq -er .job; }

# on a terminal
cat >"$RUN/terminal.py" <<'PY'
"""terminal.py WHAT JOB: `sallyctl watch` on a pseudo-terminal, which must be left as it was."""
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time

what, root, job = sys.argv[1:4]
watch = ["sallyctl", "--root", root, "watch"] + ([job] if what != "all" else [])
parent, child = pty.openpty()
fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 90, 0, 0))
before = termios.tcgetattr(child)


def session():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


process = subprocess.Popen(watch, stdin=child, stdout=child, stderr=child, preexec_fn=session)
seen = b""
deadline = time.monotonic() + 20


def read():
    global seen
    if time.monotonic() > deadline:
        sys.exit(f"gave up; seen: {seen!r}")
    if select.select([parent], [], [], 0.05)[0]:
        seen += os.read(parent, 65536)


def until(text):
    while text not in seen:
        read()


until(b"FETCHING" if what == "bars" else b"SUBMITTED")
if what == "bars":
    until(b"config.json")
    until(b"[====")
    until(b"in all")
if what == "interrupt":
    os.write(parent, b"\x03")
else:
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 30, 0, 0))
    os.kill(process.pid, signal.SIGWINCH)
    subprocess.run(["sallyctl", "--root", root, "cancel", job, "--reason", "\x1b[2Jenough"],
                   check=True, stdout=subprocess.DEVNULL)
    until(b"CANCELLED")
while process.poll() is None:
    read()
while select.select([parent], [], [], 0)[0]:
    read()
# nothing but what moves the cursor within the lines that it drew
left = re.sub(rb"\x1b\[(\d*A|K|J)", b"", seen)
if b"\x1b" in left:
    sys.exit(f"it sent {left!r}")
if termios.tcgetattr(child) != before:
    sys.exit("the terminal is not as it was")
if what == "interrupt" and process.returncode != -signal.SIGINT:
    sys.exit(f"Ctrl-C: ended with {process.returncode}")
if what != "interrupt" and b"\\x1b[2Jenough" not in seen:
    sys.exit(f"the reason is not shown as it is: {seen!r}")
print(process.returncode)
PY
export PYTHONDONTWRITEBYTECODE=1
job=$(submit main)
python3 "$RUN/terminal.py" interrupt "$RUN/bastion" "$job" >/dev/null
[ "$(python3 "$RUN/terminal.py" one "$RUN/bastion" "$job")" = 1 ] || die "a cancelled job's watch does not end with 1"
job=$(submit main)
[ "$(python3 "$RUN/terminal.py" all "$RUN/bastion" "$job")" = 0 ] || die "watching all jobs does not end with 0"

# in a pipe: a plain line for each state, and the end is the command's
job=$(submit main)
other=$(submit other)
B watch "$job" >"$RUN/plain" 2>&1 &
plain=$!
B watch --json >"$RUN/all" 2>&1 &
all=$!
await 5 "the plain line" grep -qx SUBMITTED "$RUN/plain"
await 5 "both documents" eval '[ "$(wc -l <"$RUN/all")" = 2 ]'
B cancel "$job" --reason enough >/dev/null
rc=0
wait $plain || rc=$?
[ $rc = 1 ] || die "the watch of a cancelled job ends with $rc"
grep -qx "CANCELLED  enough" "$RUN/plain" || die "in a pipe: $(cat "$RUN/plain")"
[ "$(wc -l <"$RUN/plain")" = 3 ] || die "not a line a state, and the error: $(cat "$RUN/plain")"
grep -q $'\x1b' "$RUN/plain" && die "escapes in a pipe"
B cancel "$other" >/dev/null
wait $all || die "watching all jobs ends with $?"
[ "$(jq -r 'select(.job == "'"$job"'") | .state' "$RUN/all" | tr '\n' ' ')" = "SUBMITTED CANCELLED " ] ||
	die "of all jobs: $(cat "$RUN/all")"
[ "$(B watch)" = "No job is under way." ] || die "with no job: $(B watch)"
# a worker that has two files in hand and never comes to an end: what it says of them arrives
start bastion fetcherd "$TREE/${B:-build/rel}/unit/bus_wire"
job=$(submit main)
has_files() { B job "$job" --json | jq -e '.files | length == 2'; }
await 10 "the files in hand" has_files
[ "$(B job "$job" --json | jq -c '.files[1]')" = '{"done":3,"path":"model/1.safetensors","total":0}' ] ||
	die "files: $(B job "$job" --json | jq -c .files)"
[ "$(B jobs --json | jq '.jobs[0].files | length')" = 0 ] || die "lists carry files"
[ "$(python3 "$RUN/terminal.py" bars "$RUN/bastion" "$job")" = 1 ] || die "with bars the watch does not end with 1"
echo "watch: terminals are left whole, pipes get plain lines"
