#!/bin/bash
# fetch_policy.sh -- what a profile lets in: data sets, repositories of which a part is wanted, what is
# refused and why; and what sallyctl says of each. Only ledgerd and fetcherd run on the bastion: a model
# that was fetched waits for quantd.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-policy.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"

upstream=$RUN/upstream/models
mkdir -p "$upstream/mixed/onnx" "$upstream/coded" "$upstream/questions/data"
cp "$TREE/tests/fixtures/model/config.json" "$upstream/mixed/"
echo weights >"$upstream/mixed/model.safetensors"
echo pickle >"$upstream/mixed/pytorch_model.bin"
echo graph >"$upstream/mixed/onnx/model.onnx"
jq '.auto_map = {AutoModel: "other/repo--modeling.Model"}' "$TREE/tests/fixtures/model/config.json" \
	>"$upstream/coded/config.json"
echo weights >"$upstream/coded/model.safetensors"
echo '{"question": "6 x 7", "answer": 42}' >"$upstream/questions/data/test.jsonl"
cat >"$RUN/upstream/etc/sallyport/sallyport.conf" <<-CONF
	side = "bastion";
	registryd: {
	  listen = "127.0.0.1:$P_HUB"; standalone = true;
	  local: {
	    mixed: { name = "fixture/mixed"; dir = "/models/mixed"; };
	    coded: { name = "coded"; dir = "/models/coded"; };
	    questions: { name = "fixture/questions"; dir = "/models/questions"; kind = "dataset"; };
	  };
	};
CONF
profile() { # NAME: the fixture's, and what is said on standard input
	cat "$TREE/tests/e2e/fixture.conf" - >"$RUN/bastion/etc/sallyport/profiles.d/$1.conf"
}
profile part <<<'fetch: { ignore = [ "*.bin", "onnx/" ]; };'
profile pickle <<<'fetch: { pickle = true; };'
profile code <<<'fetch: { remote_code = true; };'
profile licensed <<<'fetch: { licences = [ "apache-2.0" ]; };'
echo 'fetch: { max_files = 1; };' >"$RUN/bastion/etc/sallyport/profiles.d/data.conf"

start upstream registryd
start bastion ledgerd
await 10 "ledgerd" B jobs
# the endpoint from the environment, where the configuration names none
sed -i '/fetcherd:/d' "$RUN/bastion/etc/sallyport/sallyport.conf"
export HF_ENDPOINT=http://127.0.0.1:$P_HUB/
start bastion fetcherd
await 10 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/coded/revision/main"

detail() { # JOB KEY
	B job "$1" --json | jq -er --arg key "$2" '.details[] | select(.key == $key).value'
}
statement() { # JOB: what fetcherd signed
	B job "$1" --json | jq -er '.attestations[0].envelope.payload' | base64 -d
}
ends() { # CODE STATE WORD SUBMIT…: sallyctl waits, exits with CODE, and the job's reason holds WORD
	local code=$1 state=$2 word=$3 rc=0 out
	shift 3
	out=$(B submit "$@" --wait --json 2>"$RUN/said") || rc=$?
	[ $rc = "$code" ] || die "submit $* --wait exits with $rc, not $code: $out $(cat "$RUN/said")"
	job=$(jq -er .job <<<"$out")
	[ "$(jq -r .state <<<"$out")" = "$state" ] || die "$* is not $state: $out"
	[[ $(jq -r .reason <<<"$out") == *"$word"* ]] || die "the reason of $* does not say «$word»: $out"
}
fetched() { # SUBMIT…: the model is in fetcherd's store
	job=$(B submit "$@" --json | jq -er .job)
	await_state bastion "$job" FETCHED 30
}

# a data set stops where it is fetched
ends 0 FETCHED "" hf-dataset:fixture/questions@main --profile data
[ "$(detail "$job" files) $(detail "$job" left_out_files)" = "1 0" ] || die "details: $(B job "$job")"
[ "$(B job "$job" --json | jq -r '.kind + " " + .name')" = "dataset fixture/questions" ] ||
	die "the data set's job is something else: $(B job "$job")"
statement "$job" | jq -e '.predicate.buildDefinition | .resolvedDependencies[0].uri == "hf-dataset:fixture/questions"
	and .externalParameters.source == "hf-dataset:fixture/questions@main"
	and .externalParameters.fetch.max_files == 1' >/dev/null || die "$(statement "$job")"
blob=$(sha256sum "$upstream/questions/data/test.jsonl" | cut -d' ' -f1)
cmp "$upstream/questions/data/test.jsonl" \
	"$RUN/bastion/var/lib/sallyport/store/fetcherd/sha256/${blob:0:2}/${blob:2}" || die "not the bytes"
[[ $(B job "$job") == *"sallyctl fetched ${job:0:8} DIR"* ]] || die "what next? $(B job "$job")"
B fetched "${job:0:8}" "$RUN/laid/" --json | jq -e --arg tree "$(B job "$job" --json | jq -r '.artifacts[0].digest')" \
	'.files == 1 and .tree == $tree and .name == "fixture/questions"' >/dev/null || die "fetched says something else"
cmp "$upstream/questions/data/test.jsonl" "$RUN/laid/data/test.jsonl" || die "the data set that was laid out"
[ "$(find "$RUN/laid" -type f | wc -l)" = 1 ] || die "more was laid out: $(find "$RUN/laid")"
out=$(B fetched "$job" "$RUN/laid" 2>&1) && die "a directory was laid over another"
[[ $out == *"$RUN/laid is not empty"* ]] || die "fetched says: $out"
chmod u+w "$RUN/bastion/var/lib/sallyport/store/fetcherd/sha256/${blob:0:2}/${blob:2}"
sed -i s/42/43/ "$RUN/bastion/var/lib/sallyport/store/fetcherd/sha256/${blob:0:2}/${blob:2}"
out=$(B fetched "$job" "$RUN/again" 2>&1) && die "changed bytes were laid out"
[[ $out == *test.jsonl* && ! -e $RUN/again ]] || die "fetched says: $out"
ends 1 FAILED "hf-dataset:fixture/mixed@main" hf-dataset:fixture/mixed --profile data
ends 1 FAILED "hf:fixture/questions@main" hf:fixture/questions --profile fixture

# a part of a repository
ends 3 BLOCKED 'pytorch_model.bin' hf:fixture/mixed --profile fixture
[[ $(B job "$job" --json | jq -r .reason) == *fetch.ignore*fetch.pickle* ]] ||
	die "the reason does not say what lets it in: $(B job "$job")"
[[ $(B job "$job") == *'in profile "fixture"'*"submit it anew"* ]] || die "what next? $(B job "$job")"
out=$(B fetched "$job" "$RUN/none" 2>&1) && die "a job that was blocked has fetched something"
[[ $out == *"it has fetched nothing"* ]] || die "fetched says: $out"
fetched hf:fixture/mixed --profile part
[ "$(detail "$job" files) $(detail "$job" left_out_files) $(detail "$job" left_out_bytes)" = "2 2 13" ] ||
	die "details: $(B job "$job")"
statement "$job" | jq -e '.predicate.buildDefinition.externalParameters.fetch |
	.ignore == ["*.bin", "onnx/"] and .allow == [] and (.pickle or .remote_code | not)' >/dev/null ||
	die "$(statement "$job")"
fetched hf:fixture/mixed --profile pickle
[ "$(detail "$job" files)" = 4 ] || die "details: $(B job "$job")"

# code that a configuration names; licences
ends 3 BLOCKED auto_map hf:coded --profile fixture
fetched hf:coded --profile code
ends 3 BLOCKED fetch.licences hf:coded --profile licensed

# as long as a profile's lists can be, with what JSON has to quote: it crosses the bus and is signed
long=$(python3 -c 'print(", ".join("\"" + ("\\\"" * 253) + "%02d*\"" % i for i in range(64)))')
licences=$(python3 -c 'print(", ".join("\"" + ("\\\"" * 254) + "%02d\"" % i for i in range(63)))')
profile long <<<"fetch: { remote_code = true; allow = [ \"*.json\" ]; ignore = [ $long ]; licences = [ $licences, \"mit\" ]; };"
ends 3 BLOCKED fetch.licences hf:coded --profile long
profile long <<<"fetch: { remote_code = true; allow = [ \"*.json\" ]; ignore = [ $long ]; };"
fetched hf:coded --profile long
[ "$(detail "$job" files) $(detail "$job" left_out_files)" = "1 1" ] || die "details: $(B job "$job")"
statement "$job" | jq -e '.predicate.buildDefinition.externalParameters.fetch.ignore | length == 64' >/dev/null ||
	die "$(statement "$job")"

# a profile's mistakes are found at once
profile bad <<<'fetch: { ignore = [ "/etc" ]; };'
out=$(B submit hf:coded --profile bad 2>&1) && die "a pattern that matches nothing was taken"
[[ $out == *bad.conf*fetch.ignore* ]] || die "its error does not say where: $out"

B log verify >/dev/null
echo "fetch_policy: a data set, parts, refusals: all as the profiles say"
