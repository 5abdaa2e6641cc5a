#!/bin/bash
# cli.sh -- every command of sallyctl answers --json with documents and a known exit status, with
# ledgerd, without it, and called wrongly; and bash completes what the table of commands says.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-cli.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
mkdir "$RUN/work" && cd "$RUN/work"
cp "$RUN/offline/trust.payload" "$RUN/offline/trust.json" "$RUN/offline/root.key" .

# one WANT ARGS…: stdout is documents, one a line, the last of them tells of an error when it ends
# with one; WANT: the exit statuses that it may have
one() {
	local want=$1 rc=0
	shift
	timeout 60 sallyctl --root "$RUN/bastion" "$@" --json >out 2>err </dev/null || rc=$?
	[[ " $want " == *" $rc "* ]] || die "sallyctl $* --json ends with $rc, not $want: $(cat out err)"
	jq -es --argjson rc $rc --argjson lines "$(wc -l <out)" 'length > 0 and length == $lines
		and all(.[]; type == "object") and ($rc == 0 or (last | .findings or
			(.error | (.code | length > 0) and (.message | length > 0))))' out >/dev/null ||
		die "sallyctl $* --json ends with $rc and prints: $(cat out)"
	[ $rc = 0 ] || [ -s err ] || die "sallyctl $* fails without a word for people"
}

sallyctl --help --json | jq -r '.commands[].name' >commands
[ "$(wc -l <commands)" -ge 25 ] || die "the table has $(wc -l <commands) commands"
# arguments for each; a new command without a line here fails
arguments() {
	case $1 in
	submit) echo "hf:org/name --profile fixture" ;;
	jobs | models | "log show" | "log verify" | "log checkpoint" | "trust show" | doctor) ;;
	watch) echo "$done_job" ;;
	job | reject | cancel | retry) echo "$job" ;;
	approve) echo "$job --key root.key --yes" ;;
	"log export") echo "exported" ;;
	"log prove") echo 0 ;;
	model | chain) echo "org/name@1" ;;
	pull) echo "org/name pulled" ;;
	fetched) echo "$job fetched" ;;
	reproduce) echo "$job --work again" ;;
	quantize) echo "no-model quantized" ;;
	verify) echo . ;;
	"key new") echo "operator --name anna --out anna$RANDOM.key" ;;
	"key show") echo root.key.pub ;;
	"trust new") echo "--version 1 --expires 2099-01-01 --threshold root=1 --key root.key.pub" ;;
	"trust sign") echo "trust.payload --key root.key --passphrase-file $PASSPHRASE" ;;
	"trust init") echo "trust.json --fingerprint $(sha256sum trust.payload | cut -d' ' -f1)" ;;
	"trust update") echo trust.json ;;
	completion) echo bash ;;
	gc) ;;
	*) die "this test knows no arguments for the command $1" ;;
	esac
}
cp "$RUN/offline/root.key.pub" .
job=$(printf '%032d' 1) done_job=$job
while read -r command; do arguments "$command" >/dev/null; done <commands
needs_ledgerd() { case $1 in key* | trust* | completion | doctor | quantize | verify | "log verify "*) return 1 ;; esac; }

each() { # each WANT: every command with its arguments
	local command
	while read -r command; do
		# shellcheck disable=SC2046,SC2086
		one "$1" $command $(arguments "$command")
	done <commands
}
each "0 1 2 3 4"
while read -r command; do
	# shellcheck disable=SC2046,SC2086
	if needs_ledgerd "$command"; then one 4 $command $(arguments "$command"); fi
	# shellcheck disable=SC2086
	one 2 $command --no-such-option
	# shellcheck disable=SC2086
	one 2 $command a b c d e f g
	# shellcheck disable=SC2086
	sallyctl $command --help | grep -q "^usage: sallyctl $command" || die "$command --help: no usage"
	# shellcheck disable=SC2086
	one 0 $command --help
done <commands
one 2
one 2 submt hf:org/name
one 2 watch --until NEVER
one 0 --version

start bastion ledgerd
await 10 "ledgerd" B jobs
done_job=$(B submit hf:org/name --profile fixture --json | jq -er .job)
B cancel "$done_job" --reason "not that one" >/dev/null
job=$(B submit hf:org/name --profile fixture --json | jq -er .job)
each "0 1 2 3"

# --- completion: in a bash of its own, as after `source`
comp() { # comp WORD…: what is offered for the last one
	bash -c '
		set -u
		source ./completion.bash
		COMP_WORDS=(sallyctl "$@") COMP_CWORD=$#
		_sallyctl sallyctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
		printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" " "' bash "$@" 2>comp.err
	[ -s comp.err ] && die "completion of «$*» complains: $(cat comp.err)"
	return 0
}
expect() { # expect WANT WORD…
	local want=$1 got
	shift
	got=$(comp "$@")
	[ "$got" = "$want" ] || die "«$*» is completed by «$got», not «$want»"
}
sallyctl completion bash >completion.bash
expect "reject reproduce retry " re
expect "log " lo
expect "checkpoint export prove show verify " log ""
expect "init new show sign update " trust ""
expect "--passphrase-file " key new --pa
expect "operator " key new op
expect "quantize= " trust new --threshold qu
expect "hf " pull x y --layout h
expect "hf " pull x y --layout = h
expect "AWAITING_APPROVAL " watch --until AW
expect "bash " completion ""
expect "hf-dataset: hf: " submit ""
expect " " jobs x
mkdir trust.dir
expect "trust.dir " verify trus
expect "trust.dir trust.json trust.payload " trust sign trus
# jobs come from ledgerd: first those under way, then the others
third=$(B submit hf:org/name@third --profile fixture --json | jq -er .job)
B cancel "$third" >/dev/null
job=$(B jobs --json | jq -r '.jobs[0].job')
expect "$job " --root "$RUN/bastion" watch "${job:0:6}"
expect "$third " --root "$RUN/bastion" job "${third:0:6}"
expect "fixture " --root "$RUN/bastion" submit x --profile fix
site_stop
expect " " --root "$RUN/bastion" job "${job:0:6}"
echo "cli: $(wc -l <commands) commands answer with documents; completion offers what there is"
