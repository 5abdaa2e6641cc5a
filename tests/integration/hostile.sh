#!/bin/bash
# hostile.sh -- what comes from outside and is malformed is refused, logged, and changes nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-hostile.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
LOSS=0 site_start
await 10 "the enclave's registry" curl -so /dev/null "http://127.0.0.1:$P_REGISTRY/"
webhook() { curl -sS --max-time 10 --cacert "$RUN/enclave/etc/sallyport/tls/tls.crt" "$@"; }
await 10 "the webhook" webhook "https://localhost:$P_WEBHOOK/healthz"

alive() {
	local f
	for f in "$RUN"/*.pid; do
		kill -0 "$(cat "$f")" 2>/dev/null || die "$(basename "$f" .pid) is dead after $1"
	done
}

# before the receiver listens, a datagram is lost, and nobody sends it again
await 20 "diode-rxd to hear the heartbeats" grep -q "the link is up" "$RUN/log/enclave-diode-rxd.log"

# datagrams: noise, and a well-formed transfer under another link key
for i in 1 2 3 4 5 6 7 8; do
	head -c $((i * 180)) /dev/urandom >"/dev/udp/127.0.0.1/$P_DIODE"
done
sallyctl key new link --name nobody --out "$RUN/other.key" >/dev/null
stranger=$(printf '%032d' 7)
sp-e2e forge "$RUN/other.key" "127.0.0.1:$P_DIODE" "$stranger" -1 "$RUN/bastion/etc/sallyport/sallyport.conf"
alive "foreign datagrams"

# a transfer under the right key whose release is no release at all
junk=$(printf '%032d' 8)
sp-e2e forge "$RUN/bastion/etc/sallyport/keys/diode-txd/link.key" "127.0.0.1:$P_DIODE" "$junk" -1 \
	"$RUN/bastion/etc/sallyport/sallyport.conf"
await 20 "the junk transfer's job" E job "$junk"
await_state enclave "$junk" QUARANTINED 30
E job "$stranger" >/dev/null 2>&1 && die "datagrams under another key became a job"
alive "a junk release"

# AdmissionReviews
for body in '' '{' '[]' '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}' \
	"$(head -c 100000 /dev/zero | tr '\0' '[')"; do
	code=$(webhook -o /dev/null -w '%{http_code}' --data-binary @- "https://localhost:$P_WEBHOOK/validate" <<<"$body")
	[ "$code" = 400 ] || die "the webhook answers $code to ${body:0:60}"
done
code=$(head -c 9000000 /dev/zero | webhook -o /dev/null -w '%{http_code}' -H 'Expect:' --data-binary @- \
	"https://localhost:$P_WEBHOOK/validate" || true)
[ "$code" = 413 ] || die "the webhook answers $code to 9 MB"
alive "malformed AdmissionReviews"

# the hub protocol
for path in /api/models/../../etc/passwd/revision/main /api/models/a/b/c/d/revision/main \
	/fixture/qwen2-tiny/resolve/main/..%2f..%2fetc%2fpasswd /api/models/%00/revision/main \
	/fixture/qwen2-tiny/resolve/main/%ff; do
	code=$(curl -s -o "$RUN/answer" -w '%{http_code}' --path-as-is "http://127.0.0.1:$P_HUB$path")
	[[ $code == 4?? ]] || die "the hub answers $code to $path"
	grep -q root: "$RUN/answer" && die "the hub gave away a file for $path"
done
alive "malformed paths"

# a source that does not exist fails with a reason, and the bastion goes on
bad=$(B submit hf:fixture/no-such-model --profile fixture --json | jq -er .job)
await_state bastion "$bad" FAILED 30
B job "$bad" --json | jq -er .reason | grep -q 'no-such-model' || die "the reason does not name the model"
B submit nonsense --profile fixture >/dev/null 2>&1 && die "a source without a scheme was taken"
B submit hf:fixture/qwen2-tiny --profile nonsense >/dev/null 2>&1 && die "an unknown profile was taken"
alive "all of it"

# unsafe safetensors: the header says more than the file has
mkdir -p "$RUN/upstream/models/qwen2-tiny"
stop upstream registryd
head -c 100000 "$TREE/tests/fixtures/model/model.safetensors" >"$RUN/upstream/models/qwen2-tiny/model.safetensors"
start upstream registryd
await 10 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main"
cut=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)
await_state bastion "$cut" FAILED 60
B job "$cut" --json | jq -er .reason | grep -q 'model.safetensors' || die "the reason does not name the file: $(B job "$cut" --json | jq -r .reason)"
alive "a cut model"
B log verify >/dev/null
E log verify >/dev/null
echo "hostile: everything malformed was refused; all daemons live"
