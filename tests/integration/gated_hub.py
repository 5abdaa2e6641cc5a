#!/usr/bin/env python3
"""gated_hub.py DIR PORT_FILE LOG -- a hub over TLS (DIR/tls.crt, DIR/tls.key) with the model org/gated,
whose one revision is refs/pr/7. It knows two tokens: hf_member has access, hf_stranger has none. The
port goes to PORT_FILE; LOG gets a line "STATUS PATH" for each request."""
import hashlib
import http.server
import json
import os
import ssl
import sys

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "sub dir/100%.txt": b"a name that needs escapes"}
PATHS = {
    "/api/models/org/gated/revision/refs%2Fpr%2F7": json.dumps(
        {"sha": COMMIT, "gated": "auto", "cardData": {"license": "other", "license_name": "members"}}),
    f"/api/models/org/gated/tree/{COMMIT}": json.dumps(
        [{"type": "directory", "path": "sub dir", "size": 0, "oid": COMMIT}]
        + [{"type": "file", "path": path, "size": len(data),
            "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
           for path, data in FILES.items()]),
    f"/org/gated/resolve/{COMMIT}/config.json": FILES["config.json"],
    f"/org/gated/resolve/{COMMIT}/sub%20dir/100%25.txt": FILES["sub dir/100%.txt"],
}


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, error=None):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        start, end, size = 0, len(body), len(body)
        wanted = self.headers.get("Range")
        if status == 206:
            start, end = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
            end = min(end + 1, size)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[start:end])
        with open(sys.argv[3], "a") as log:
            print(status, self.path, file=log)

    def do_GET(self):
        path = self.path.partition("?")[0]
        member = self.headers.get("Authorization")
        if path not in PATHS:
            self.answer(404, "", "EntryNotFound" if "/resolve/" in path else
                        "RevisionNotFound" if path.startswith("/api/models/org/gated/") else "RepoNotFound")
        elif member is None:
            self.answer(401, "", "GatedRepo")
        elif member == "Bearer hf_stranger":
            self.answer(403, "", "GatedRepo")
        elif member != "Bearer hf_member":
            self.answer(401, "")
        else:
            self.answer(206 if self.headers.get("Range", "").startswith("bytes=") else 200, PATHS[path])

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/tls.crt", f"{sys.argv[1]}/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[2] + ".new", "w") as file:
    print(server.server_address[1], file=file)
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
