#!/usr/bin/env python3
"""flood.py RUN -- operators who ask without a pause do not put the checkpoint off.

A job is submitted while questions that change nothing keep the bastion's ledgerd busy. The checkpoint
that covers the job's entry must be published while they go on; exits with 1 when it is not. What is
counted is questions, not time: a busy machine answers few.
"""
import ctypes
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1]) / "bastion"
PATIENCE_S = 20
UNDER_WAY = 200  # questions at once
QUESTIONS_MAX = 4000  # after the job is there; far more than ledgerd answers in its 10 ms
# zmq.h
SUB, DEALER, DONTWAIT, LINGER, SUBSCRIBE, RCVTIMEO = 2, 5, 1, 17, 6, 27
# OperatorRequest { version: 1, seq: 1, jobs: {} }, proto/operator.proto
QUESTION = b"\x08\x01\x10\x01\x5a\x00"

zmq = ctypes.CDLL("libzmq.so.5")
zmq.zmq_ctx_new.restype = zmq.zmq_socket.restype = ctypes.c_void_p
zmq.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
zmq.zmq_connect.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
zmq.zmq_setsockopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
zmq.zmq_send.argtypes = zmq.zmq_recv.argtypes = \
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
context = zmq.zmq_ctx_new()
frame = ctypes.create_string_buffer(1 << 20)


def connect(kind, name):
    socket = zmq.zmq_socket(context, kind)
    for option, value in (LINGER, 0), (RCVTIMEO, 1000 * PATIENCE_S):
        number = ctypes.c_int(value)
        zmq.zmq_setsockopt(socket, option, ctypes.byref(number), ctypes.sizeof(number))
    if kind == SUB:
        zmq.zmq_setsockopt(socket, SUBSCRIBE, b"checkpoint", 10)
    if zmq.zmq_connect(socket, f"ipc://{ROOT}/run/sallyport/{name}".encode()) != 0:
        sys.exit(f"flood: no connection to {name}")
    return socket


def receive(socket, flags=0):
    """A frame, or None."""
    size = zmq.zmq_recv(socket, frame, len(frame), flags)
    return None if size < 0 else ctypes.string_at(frame, size)


def published(socket, flags=0):
    """How many entries a checkpoint that was published covers; None when none was."""
    if receive(socket, flags) is None:
        return None
    return int(receive(socket).split(b"\n")[1])


def main():
    snapshots, operators = connect(SUB, "snapshots.sock"), connect(DEALER, "operators.sock")
    covered = published(snapshots)
    if covered is None:
        sys.exit("flood: ledgerd publishes no checkpoint")
    for _ in range(UNDER_WAY):
        zmq.zmq_send(operators, QUESTION, len(QUESTION), 0)
    asked = 0
    submit = subprocess.Popen(
        ["sallyctl", "--root", ROOT, "submit", "hf:org/name@flood", "--profile", "fixture"],
        stdout=subprocess.DEVNULL)
    while (size := published(snapshots, DONTWAIT) or covered) == covered:
        if receive(operators) is None:
            sys.exit("flood: ledgerd does not answer")
        zmq.zmq_send(operators, QUESTION, len(QUESTION), 0)
        asked += submit.poll() is not None
        if asked > QUESTIONS_MAX:
            sys.exit(f"flood: no checkpoint over a new job in {asked} questions")
    if submit.wait(PATIENCE_S) != 0:
        sys.exit("flood: the submit fails")
    print(f"flood: a checkpoint of {size} entries after {asked} questions")


main()
