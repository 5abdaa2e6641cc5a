#!/bin/bash
# run.sh TEST... -- runs tests, shows the output of those that fail, ends with a count.
#
# Programs (unit tests) run in parallel, one a processor; scripts (*.sh) one after the other behind
# them, where they are executable (the others are parts that scripts read). A script may ask for
# another time limit than the usual by a line "# limit: SECONDS"; all limits are TEST_SLOWER (1) times
# that. Each runs in the repository's root with B, the build directory; its output is kept in
# $B/test/NAME.log.
set -euo pipefail

limit_s=300
slower=${TEST_SLOWER:-1}

cd "$(dirname "$0")/.."
: "${B:?the build directory}"
export B ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
logs=$B/test
mkdir -p "$logs"

# skips NAME: how many of its cases were skipped
skips() { sed -n 's/^\[  SKIPPED \] \([0-9]\+\) test(s), listed below:$/\1/p' "$logs/$1.log" | awk '{n += $1} END {print n + 0}'; }

# run_one TEST NAME LIMIT_S: a line when it is over, the status in NAME.status
run_one() {
	local test=$1 name=$2 limit_s=$(($3 * slower)) status=0 start=$EPOCHREALTIME took
	mkdir -p "$logs/$(dirname "$name")"
	timeout --kill-after=10 "$limit_s" "$test" >"$logs/$name.log" 2>&1 </dev/null || status=$?
	took=$(((${EPOCHREALTIME/[.,]/} - ${start/[.,]/}) / 1000))
	echo "$status" >"$logs/$name.status"
	if [ "$status" -eq 0 ]; then
		local skipped
		skipped=$(skips "$name")
		[ "$skipped" -eq 0 ] && skipped= || skipped="  ($skipped skipped: see $logs/$name.log)"
		printf '  ok      %-32s %6d ms%s\n' "$name" "$took" "$skipped"
	else
		local why="status $status"
		case $status in
		124 | 137) why="stopped after $limit_s s" ;;
		13[0-9]) why="signal $((status - 128))" ;;
		esac
		# one printf, so that the outputs of parallel tests do not mix
		printf '  FAILED  %s: %s; its output (%s):\n%s\n' "$name" "$why" "$logs/$name.log" \
			"$(tail -n 100 "$logs/$name.log" | sed 's/^/    | /')"
	fi
}

names=()
running=0
for test in "$@"; do
	[[ $test == *.sh ]] && continue
	name=unit/$(basename "$test")
	names+=("$name")
	rm -f "$logs/$name.status"
	run_one "$test" "$name" "$limit_s" &
	running=$((running + 1))
	if [ "$running" -ge "$(nproc)" ]; then
		wait -n || true
		running=$((running - 1))
	fi
done
wait

for test in "$@"; do
	[[ $test == *.sh && -x $test ]] || continue
	name=${test#tests/}
	name=${name%.sh}
	names+=("$name")
	rm -f "$logs/$name.status"
	own_s=$(sed -n 's/^# limit: \([0-9]\+\)$/\1/p' "$test" | head -n 1)
	run_one "$test" "$name" "${own_s:-$limit_s}"
done

passed=0
failed=()
for name in "${names[@]}"; do
	if [ "$(cat "$logs/$name.status" 2>/dev/null)" = 0 ]; then
		passed=$((passed + 1))
	else
		failed+=("$name")
	fi
done
cases=0
skipped=0
for name in "${names[@]}"; do
	skipped=$((skipped + $(skips "$name")))
	n=$(sed -n 's/^\[  PASSED  \] \([0-9]\+\) test(s)\.$/\1/p' "$logs/$name.log" 2>/dev/null |
		awk '{n += $1} END {print n + 0}')
	cases=$((cases + n))
done
echo "tests: $passed passed, ${#failed[@]} failed ($cases cases of unit tests passed, $skipped skipped)"
if [ "${#failed[@]}" -gt 0 ]; then
	echo "tests: failed: ${failed[*]}"
	exit 1
fi
# a run of nothing proves nothing
[ "$passed" -gt 0 ]
