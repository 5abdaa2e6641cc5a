# site.sh -- both sides of the diode on one machine; sourced by the demo and the integration tests.
#
# After site_new RUN: RUN/bastion and RUN/enclave are the roots of the two sides (--root), RUN/offline
# holds root and operator keys, RUN/upstream the hub that the bastion fetches from. Each daemon's
# messages go to RUN/log/SIDE-DAEMON.log. site_stop ends everything that was started, and fails when a
# side's database is not what its audit log tells.
#
# Waiting is always for something that can be seen, with a deadline: `await SECONDS WHAT COMMAND…`.

TREE=${TREE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
BIN=${BIN:-$TREE/build/rel/bin}
export PATH=$BIN:$PATH

die() { echo "FAILED: $*" >&2; site_tail >&2; exit 1; }

site_tail() {
	local f
	for f in "$RUN"/log/*.log; do
		[ -s "$f" ] && { echo "--- last lines of $f"; tail -n 8 "$f"; }
	done
	return 0
}

# await SECONDS WHAT COMMAND…: until COMMAND succeeds
await() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || die "gave up waiting for $what"
		sleep 0.05
	done
}

S() { local side=$1; shift; sallyctl --root "$RUN/$side" "$@"; }
B() { S bastion "$@"; }
E() { S enclave "$@"; }

approve() { B approve "$1" --key "$RUN/offline/anna.key" --passphrase-file "$PASSPHRASE" --yes; }

# job_state SIDE JOB
job_state() { S "$1" job "$2" --json | jq -r .state; }
job_is() { [ "$(job_state "$1" "$2")" = "$3" ]; }

# await_state SIDE JOB STATE SECONDS: fails at once when the job ends in another state
await_state() {
	local side=$1 job=$2 want=$3 deadline=$((SECONDS + $4)) state
	while :; do
		state=$(job_state "$side" "$job" 2>/dev/null || true)
		[ "$state" = "$want" ] && return 0
		case $state in
		BLOCKED | FAILED | CANCELLED | REJECTED | QUARANTINED)
			S "$side" job "$job" >&2 || true
			die "job $job on the $side is $state, not $want" ;;
		esac
		[ $SECONDS -lt $deadline ] || die "job $job on the $side is ${state:-unknown}, not $want, after $4 s"
		sleep 0.05
	done
}

site_keys() { # SIDE DAEMON ROLE…
	local side=$1 daemon=$2 role
	shift 2
	mkdir -p "$RUN/$side/etc/sallyport/keys/$daemon"
	for role in bus "$@"; do
		sallyctl key new "$role" --name "$daemon@$side" \
			--out "$RUN/$side/etc/sallyport/keys/$daemon/$role.key" >/dev/null
	done
}

site_conf() { # SIDE
	local etc=$RUN/$1/etc/sallyport
	mkdir -p "$etc/profiles.d" "$RUN/$1/run/sallyport" "$RUN/$1/var/lib/sallyport"
	cat >"$etc/sallyport.conf"
}

site_new() {
	RUN=$1
	local side threshold pub
	rm -rf "$RUN"
	mkdir -p "$RUN/log" "$RUN/offline" "$RUN/upstream"
	read -r P_HUB P_WIRE P_DIODE P_REGISTRY P_WEBHOOK < <(sp-e2e ports 5)
	printf '%s=%s\n' P_HUB "$P_HUB" P_WIRE "$P_WIRE" P_DIODE "$P_DIODE" P_REGISTRY "$P_REGISTRY" \
		P_WEBHOOK "$P_WEBHOOK" >"$RUN/ports"

	site_keys bastion ledgerd log
	site_keys bastion fetcherd fetch
	site_keys bastion quantd quantize
	site_keys bastion validatord gate
	site_keys bastion diode-txd release link
	site_keys enclave ledgerd log
	site_keys enclave diode-rxd
	site_keys enclave registryd registry
	site_keys enclave admissiond
	# the one secret that both ends of the wire share
	cp -p "$RUN/bastion/etc/sallyport/keys/diode-txd/link.key" \
		"$RUN/enclave/etc/sallyport/keys/diode-rxd/link.key"

	# root and operator keys never lie in clear
	PASSPHRASE=$RUN/offline/passphrase
	(umask 077 && head -c 16 /dev/urandom | base64 >"$PASSPHRASE")
	sallyctl key new root --name root@offline --out "$RUN/offline/root.key" \
		--passphrase-file "$PASSPHRASE" >/dev/null
	sallyctl key new operator --name anna --out "$RUN/offline/anna.key" \
		--passphrase-file "$PASSPHRASE" >/dev/null

	threshold=() pub=()
	for role in root log fetch quantize gate release operator registry; do
		threshold+=(--threshold "$role=1")
	done
	for f in "$RUN"/offline/*.pub "$RUN"/*/etc/sallyport/keys/*/{log,fetch,quantize,gate,release,registry}.key.pub; do
		[ -f "$f" ] && pub+=(--key "$f")
	done
	for f in "$RUN"/*/etc/sallyport/keys/*/bus.key.pub; do
		pub+=(--worker "$(basename "$(dirname "$f")"):-1:$f")
	done
	sallyctl trust new --version 1 --expires 2099-01-01T00:00:00.000Z "${threshold[@]}" "${pub[@]}" \
		--out "$RUN/offline/trust.payload" >/dev/null
	sallyctl trust sign "$RUN/offline/trust.payload" --key "$RUN/offline/root.key" \
		--passphrase-file "$PASSPHRASE" --out "$RUN/offline/trust.json" >/dev/null
	local fingerprint
	fingerprint=$(sha256sum "$RUN/offline/trust.payload" | cut -d' ' -f1)

	# what a daemon never does by itself: another sandbox, where the first cannot be made
	local sandbox
	sandbox=$(sp-e2e sandbox 2>"$RUN/log/sandbox.why") || die "no sandbox for generated programs works here"
	[ "$sandbox" = bubblewrap ] ||
		echo "NOTE: no user namespaces here: validatord.sandbox = \"$sandbox\" ($RUN/log/sandbox.why says why)"

	site_conf bastion <<-CONF
	side = "bastion";
	host = "gate";
	ledgerd: { heartbeat_ms = 250; lease_ms = 3000; backoff_ms = 250; };
	fetcherd: { endpoint = "http://127.0.0.1:$P_HUB"; };
	validatord: { sandbox = "$sandbox"; };
	diode-txd: { destination = "127.0.0.1:$P_WIRE"; rate_mbit_s = 200; };
	CONF
	site_conf enclave <<-CONF
	side = "enclave";
	host = "vault";
	ledgerd: { heartbeat_ms = 250; lease_ms = 3000; backoff_ms = 250; };
	diode-rxd: { listen = "127.0.0.1:$P_DIODE"; memory_max_mib = 128; };
	registryd: { listen = "127.0.0.1:$P_REGISTRY"; };
	admissiond: { listen = "127.0.0.1:$P_WEBHOOK"; };
	CONF
	mkdir -p "$RUN/bastion/usr/share/sallyport"
	cp -r "$TREE/tests/fixtures/mmlu" "$TREE/tests/fixtures/humaneval.jsonl.gz" \
		"$TREE/tests/fixtures/calibration.jsonl" "$RUN/bastion/usr/share/sallyport/"
	cp "$TREE/tests/e2e/fixture.conf" "$RUN/bastion/etc/sallyport/profiles.d/fixture.conf"

	for side in bastion enclave; do
		S $side trust init "$RUN/offline/trust.json" --fingerprint "$fingerprint" >/dev/null
	done

	mkdir -p "$RUN/upstream/etc/sallyport"
	cat >"$RUN/upstream/etc/sallyport/sallyport.conf" <<-CONF
	side = "bastion";
	registryd: {
	  listen = "127.0.0.1:$P_HUB"; standalone = true;
	  local: { fixture: { name = "fixture/qwen2-tiny"; dir = "/models/qwen2-tiny"; }; };
	};
	CONF
	mkdir -p "$RUN/upstream/models"
	cp -r "$TREE/tests/fixtures/model" "$RUN/upstream/models/qwen2-tiny"

	mkdir -p "$RUN/enclave/etc/sallyport/tls"
	site_certificate "$RUN/enclave/etc/sallyport/tls"
}

# site_load RUN: a site made before, its daemons stopped
site_load() {
	RUN=$1
	. "$RUN/ports"
}

site_certificate() { # DIR
	cat >"$1/template" <<-EOF2
	cn = "admissiond.sallyport.svc"
	dns_name = "localhost"
	ip_address = "127.0.0.1"
	tls_www_server
	expiration_days = 30
	EOF2
	certtool --generate-privkey --key-type ecdsa --outfile "$1/tls.key" 2>/dev/null
	chmod 0400 "$1/tls.key"
	certtool --generate-self-signed --load-privkey "$1/tls.key" --template "$1/template" \
		--outfile "$1/tls.crt" 2>/dev/null
}

# start SIDE DAEMON [PROGRAM]: in the background, its process id in RUN/SIDE-DAEMON.pid
start() {
	local side=$1 daemon=$2 program=${3:-$2}
	"$program" --root "$RUN/$side" -f >>"$RUN/log/$side-$daemon.log" 2>&1 &
	echo $! >"$RUN/$side-$daemon.pid"
}

pid_of() { cat "$RUN/$1-$2.pid"; }

# stop SIDE DAEMON [SIGNAL]
stop() {
	local pid
	pid=$(pid_of "$1" "$2")
	kill -"${3:-TERM}" "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	rm -f "$RUN/$1-$2.pid"
}

wire() { # LOSS: the link between the sides
	sp-e2e relay "127.0.0.1:$P_WIRE" "127.0.0.1:$P_DIODE" "$1" 7 "$RUN/wire.json" \
		>>"$RUN/log/wire.log" 2>&1 &
	echo $! >"$RUN/wire-relay.pid"
}

site_start() {
	start upstream registryd
	start bastion ledgerd
	start enclave ledgerd
	await 10 "ledgerd on the bastion" B jobs
	await 10 "ledgerd in the enclave" E jobs
	local d
	for d in fetcherd quantd validatord diode-txd; do start bastion $d; done
	for d in diode-rxd registryd admissiond; do start enclave $d; done
	wire "${LOSS:-0.01}"
	await 10 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main"
}

site_stop() {
	local f pids=()
	for f in "$RUN"/*.pid; do
		[ -f "$f" ] && pids+=("$(cat "$f")")
	done
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -f "$RUN"/*.pid
	site_check bastion
	site_check enclave
}

site_database() { echo "$RUN/$1/var/lib/sallyport/state/ledgerd/ledger.db"; }

# site_check SIDE: the side's database, its ledgerd stopped: replaying the log gives the job table. The
# side's own configuration may be one that a test has broken.
site_check() {
	[ -f "$(site_database "$1")" ] || return 0
	printf 'side = "%s";\n' "$1" >"$RUN/check.conf"
	sallyctl -c "$RUN/check.conf" log verify --trust "$RUN/$1/etc/sallyport/trust" \
		--database "$(site_database "$1")" >"$RUN/log/$1-database" 2>&1 ||
		die "the database of the $1: $(cat "$RUN/log/$1-database")"
}

review() { # NAME MODEL: an AdmissionReview for a Deployment that serves MODEL
	jq -n --arg name "$1" --arg model "$2" --arg uid "$(cat /proc/sys/kernel/random/uuid)" '{
	  apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview",
	  request: { uid: $uid, operation: "CREATE", namespace: "models", name: $name,
	    kind: {group: "apps", version: "v1", kind: "Deployment"},
	    resource: {group: "apps", version: "v1", resource: "deployments"},
	    userInfo: {username: "system:serviceaccount:models:deployer"},
	    object: { apiVersion: "apps/v1", kind: "Deployment", metadata: {name: $name, namespace: "models"},
	      spec: { replicas: 1, selector: {matchLabels: {app: $name}},
	        template: { metadata: {labels: {app: $name}}, spec: { containers: [ {
	          name: "vllm", image: "registry.local/vllm/vllm-openai:v0.32.0",
	          command: ["vllm", "serve"], args: [$model, "--port", "8000"],
	          env: [ {name: "HF_HUB_OFFLINE", value: "1"}, {name: "TRANSFORMERS_OFFLINE", value: "1"} ]
	        } ] } } } } } }' >"$RUN/review-$1.json"
	curl -sS --max-time 10 --cacert "$RUN/enclave/etc/sallyport/tls/tls.crt" \
		-H 'Content-Type: application/json' --data-binary @"$RUN/review-$1.json" \
		"https://localhost:$P_WEBHOOK/validate"
}

expect_review() { # NAME MODEL true|false
	local answer
	answer=$(review "$1" "$2")
	[ "$(jq -r .response.uid <<<"$answer")" = "$(jq -r .request.uid "$RUN/review-$1.json")" ] ||
		die "the answer for $1 carries another uid: $answer"
	[ "$(jq -r .response.allowed <<<"$answer")" = "$3" ] || die "Deployment $1 of $2: $answer"
	if [ "$3" = true ]; then
		echo "Deployment of $2: allowed"
	else
		echo "Deployment of $2: denied: $(jq -r .response.status.message <<<"$answer")"
	fi
}
