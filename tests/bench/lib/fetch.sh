# fetch.sh -- fetches to be measured, with the real daemons on this machine; sourced by tests/bench.
#
# RUN is a bastion with ledgerd and fetcherd alone (no other worker: a job ends there), and a registryd
# that serves one model. A fetch is timed from the audit log, which says when the job was submitted and
# when its step was done: finding a worker, starting the child, the list, the bytes, their hashes and
# syncs, the second look of the daemon that signs, and the entry itself are all in it.
#
# What is measured is taken into a variable first, `value=$(fetch_once)`: there a failure ends all.
shopt -s inherit_errexit
. "$TREE/tests/e2e/site.sh" >&2

# random_file PATH MIB: no file like another, and none quick to compress
random_file() {
	python3 - "$1" "$2" <<-'EOF2'
	import os, sys
	block = os.urandom(16 << 20)
	left = int(sys.argv[2]) << 20
	with open(sys.argv[1], "wb") as f:
	    f.write(os.urandom(64))
	    left -= 64
	    while left > 0:
	        f.write(block[:left])
	        left -= len(block)
	EOF2
}

# fetch_site: the site, its upstream serving RUN/upstream/models/bench as bench/model
fetch_site() {
	site_new "$RUN" >&2
	mkdir -p "$RUN/upstream/models/bench"
	cat >"$RUN/upstream/etc/sallyport/sallyport.conf" <<-CONF
	side = "bastion";
	registryd: {
	  listen = "127.0.0.1:$P_HUB"; standalone = true;
	  local: { bench: { name = "bench/model"; dir = "/models/bench"; }; };
	};
	CONF
}

fetch_start() {
	start upstream registryd
	await 120 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/bench/model/revision/main"
	sync
	start bastion ledgerd
	await 10 "ledgerd on the bastion" B jobs
	start bastion fetcherd
	await 10 "fetcherd" grep -q welcomed "$RUN/log/bastion-fetcherd.log"
}

# Drops what the fetch before has left; files that are half gone go with it.
fetch_clear() {
	find "$RUN/bastion/var/lib/sallyport/store/fetcherd" -type f -delete 2>/dev/null || true
	sync
}

# fetch_once: fetches bench/model into the emptied store; prints the seconds it took
fetch_once() {
	local job
	job=$(B submit hf:bench/model --profile fixture --json | jq -er .job)
	await_state bastion "$job" FETCHED 300
	B log show "$job" --json | jq -er '
		def seconds: (.[:19] + "Z" | fromdate) + (.[19:23] | tonumber);
		([.entries[] | select(.event == "done" and .step == "fetch")][0].time | seconds) -
		(.entries[0].time | seconds)'
	B cancel "$job" >&2
}

# figure NAME UNIT RIVAL OURS… -- RIVAL_VALUES…
figure() {
	python3 - "$@" <<-'EOF2'
	import json, sys
	name, unit, rival, *rest = sys.argv[1:]
	cut = rest.index("--")
	out = {"name": name, "unit": unit, "better": "lower", "ours": [float(v) for v in rest[:cut]],
	       "rival": rival, "rival_values": [float(v) for v in rest[cut + 1:]]}
	import os
	if os.environ.get("TARGET"):
	    out["target"] = float(os.environ["TARGET"])
	print(json.dumps(out))
	EOF2
}
