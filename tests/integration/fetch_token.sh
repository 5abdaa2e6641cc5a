#!/bin/bash
# fetch_token.sh -- a gated model behind TLS: without a token, with one that has expired, one without
# access, one from a file and one from systemd's credentials; each refusal says what to do. And a
# revision with slashes, file names that need escapes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-token.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
conf=$RUN/bastion/etc/sallyport/sallyport.conf
mkdir -p "$RUN/hub" "$RUN/credentials"
site_certificate "$RUN/hub"
python3 "$TREE/tests/integration/gated_hub.py" "$RUN/hub" "$RUN/hub/port" "$RUN/hub/requests" \
	>"$RUN/log/hub.log" 2>&1 &
echo $! >"$RUN/upstream-hub.pid"
await 20 "the gated hub" test -s "$RUN/hub/port"
port=$(cat "$RUN/hub/port")
start bastion ledgerd
await 10 "ledgerd" B jobs
# it is never read, whatever else is
export HF_TOKEN=hf_member

configure() { # LINE…: of the group fetcherd
	sed -i '/^fetcherd:/d' "$conf"
	echo "fetcherd: { endpoint = \"https://localhost:$port\"; ca_file = \"/ca.crt\"; $* };" >>"$conf"
}
cp "$RUN/hub/tls.crt" "$RUN/bastion/ca.crt"
refused() { # WORD SUBMIT…: the job fails, and its reason holds WORD
	local word=$1 rc=0 out
	shift
	out=$(B submit "$@" --profile fixture --wait --json 2>/dev/null) || rc=$?
	[ $rc = 1 ] && [ "$(jq -r .state <<<"$out")" = FAILED ] || die "$* ends with $rc: $out"
	[[ $(jq -r .reason <<<"$out") == *"$word"* ]] || die "the reason does not say «$word»: $out"
}
source=hf:org/gated@refs/pr/7

configure ''
start bastion fetcherd
refused 'accept its conditions there, and set fetcherd.token_file' "$source"
refused 'no such repository, or it is private' hf:org/none
refused 'but not this revision' hf:org/gated@refs/pr/8
stop bastion fetcherd

(umask 077 && echo hf_old >"$RUN/bastion/token")
configure 'token_file = "/token";'
start bastion fetcherd
refused 'it may have expired' "$source"
(umask 077 && echo hf_stranger >"$RUN/bastion/token")
refused "the token's account has no access" "$source"
chmod 0644 "$RUN/bastion/token"
refused 'chmod it to 0600' "$source"
# the file is read for each job
(umask 077 && echo hf_member >"$RUN/bastion/token.new" && mv "$RUN/bastion/token.new" "$RUN/bastion/token")
job=$(B submit "$source" --profile fixture --json | jq -er .job)
await_state bastion "$job" FETCHED 30
[ "$(B job "$job" --json | jq -r '[.details[] | select(.key == "licence" or .key == "gated" or .key == "files").value] | join("; ")')" = \
	"other (members); auto; 2" ] || die "details: $(B job "$job")"
grep -q 'resolve/.*/sub%20dir/100%25.txt$' "$RUN/hub/requests" || die "$(cat "$RUN/hub/requests")"
stop bastion fetcherd

(umask 077 && echo hf_stranger >"$RUN/credentials/hf-token")
configure ''
export CREDENTIALS_DIRECTORY=$RUN/credentials
start bastion fetcherd
refused "the token's account has no access" "$source"
(umask 077 && echo hf_member >"$RUN/credentials/hf-token")
again=$(B submit "$source" --profile fixture --json | jq -er .job)
await_state bastion "$again" FETCHED 30
[ "$(B job "$again" --json | jq -r '.artifacts[0].digest')" = "$(B job "$job" --json | jq -r '.artifacts[0].digest')" ] ||
	die "the same commit is another tree"
stop bastion fetcherd

grep -rq hf_member "$RUN/log" && die "a token stands in a log"
sed -i '/^fetcherd:/d' "$conf"
echo 'fetcherd: { endpoint = "http://localhost:1"; };' >>"$conf"
out=$(fetcherd --root "$RUN/bastion" -n 2>&1) && die "a token would be sent in clear"
[[ $out == *hf-token*https* ]] || die "fetcherd -n says: $out"
B log verify >/dev/null
echo "fetch_token: a gated model, by file and by credential; each refusal says what to do"
