/* sandbox_py.h -- the two Python programs of the sandbox, as text for `python3 -c`. */
#ifndef SP_SANDBOX_PY_H
#define SP_SANDBOX_PY_H

/*
 * File descriptors of both: 0 the input (a memory file), 1 and 2 output that nobody trusts, 3 what
 * the other side writes, 4 what it reads; of the tests also 5, the verdict (eval/verdict.h).
 *
 * The pipes carry one JSON text a line. Requests: {"load": ENTRY}, then {"call": [ARGS, KWARGS]}.
 * Replies: {"up": 1} at the start, then {"ok": VALUE} or {"raised": NAME}. Values: null, true,
 * false, strings and lists stand for themselves; else one of {"i": hex} {"f": hex} {"c": [f, f]}
 * {"b": hex} {"t": [..]} {"s": [..]} {"z": [..]} {"r": [i, i, i]} {"d": [[k, v], ..]} for int,
 * float, complex, bytes, tuple, set, frozenset, range, dict; {"g": [..]} the items of an iterator
 * or view;
 * {"o": NAME} anything else, which equals nothing on the other side and cannot go back. A
 * StopIteration arrives as RuntimeError, as PEP 479 has it: it would end the loops of the tests.
 */
extern const char sp_sandbox_py_program[];
extern const char sp_sandbox_py_tests[];

#endif
