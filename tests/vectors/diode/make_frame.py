"""Writes frame.h: one datagram of every type, sealed by another implementation of
HKDF-SHA256 and AES-256-GCM (python3-cryptography). Run: python3 make_frame.py > frame.h"""
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LINK_KEY = bytes(range(32))
SESSION = bytes(range(0x40, 0x60))
SIZE = 64  # symbol


def header(kind, flags, pas, passes, counter, oid, size, block, index, k, parity):
    return (b"SPD\x01" + bytes([kind, flags, pas, passes]) + SESSION
            + struct.pack(">Q", counter) + oid + struct.pack(">QQ", size, block)
            + bytes([index, k, parity, 0]) + struct.pack(">HH", SIZE, 0))


def seal(head, counter, payload):
    key = HKDF(hashes.SHA256(), 32, SESSION, b"sallyport diode 1").derive(LINK_KEY)
    return head + AESGCM(key).encrypt(struct.pack(">IQ", 0, counter), payload, head)


def emit(name, data):
    print(f"static const uint8_t {name}[{len(data)}] = {{")
    for i in range(0, len(data), 12):
        print("\t" + " ".join(f"0x{b:02x}," for b in data[i:i + 12]))
    print("};")


print("/* Made by make_frame.py. */")
head = header(0, 1, 1, 3, 0, bytes(range(0xa0, 0xb0)), 1000, 2, 5, 4, 6)
emit("golden_symbol", seal(head, 0, bytes(i * 7 & 255 for i in range(SIZE))))
emit("golden_heartbeat", seal(header(1, 0, 0, 1, 1, bytes(16), 0, 0, 0, 0, 0), 1, bytes(SIZE)))
emit("golden_filler", seal(header(2, 0, 0, 1, 2, bytes(16), 0, 0, 0, 0, 0), 2, bytes(SIZE)))
