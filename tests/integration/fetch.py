#!/usr/bin/env python3
"""fetch.py proxy PORTFILE LOG USER:PASSWORD      an HTTP proxy that wants credentials
fetch.py tls PORTFILE CERT KEY HOST:PORT       TLS in front of a plain server

Each listens on a free port of 127.0.0.1, writes it to PORTFILE, and runs until it is killed. The
proxy appends a line to LOG for every request and every 64 KiB that it passes on to a client:
"CONNECT host:port", "GET url", "refused", "bytes N" (so far, of all connections).
"""
import base64
import os
import socket
import ssl
import sys
import threading
import urllib.parse

lock = threading.Lock()
passed = 0
log = None


def say(text):
    with lock:
        log.write(text + "\n")
        log.flush()


def pump(source, sink, count):
    global passed
    try:
        while data := source.recv(65536):
            sink.sendall(data)
            if count:
                with lock:
                    passed += len(data)
                    log.write(f"bytes {passed}\n")
                    log.flush()
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def join(client, server, count):
    other = threading.Thread(target=pump, args=(client, server, False), daemon=True)
    other.start()
    pump(server, client, count)
    other.join()
    client.close()
    server.close()


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(1)
        if not data or len(head) > 65536:
            return None
        head += data
    return head.decode("latin-1")


def serve_proxy(client, want):
    head = read_head(client)
    if head is None:
        return client.close()
    lines = head.split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    fields = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if ": " in line)}
    if fields.get("proxy-authorization") != want:
        say("refused")
        client.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
        return client.close()
    say(f"{method} {target}")
    if method == "CONNECT":
        host, port = target.rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
    else:
        url = urllib.parse.urlsplit(target)
        server = socket.create_connection((url.hostname, url.port or 80))
        path = target.split(url.netloc, 1)[1]
        kept = [line for line in lines[1:] if line and not line.lower().startswith(("proxy-", "connection:"))]
        server.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1"))
    join(client, server, True)


def serve_tls(client, context, host, port):
    try:
        client = context.wrap_socket(client, server_side=True)
        server = socket.create_connection((host, port))
    except OSError:
        return client.close()
    join(client, server, False)


def main():
    global log
    kind, portfile = sys.argv[1:3]
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    if kind == "proxy":
        log = open(sys.argv[3], "a")
        serve = serve_proxy
        args = ("Basic " + base64.b64encode(sys.argv[4].encode()).decode(),)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        host, port = sys.argv[5].rsplit(":", 1)
        serve, args = serve_tls, (context, host, int(port))
    with open(portfile + ".new", "w") as f:
        f.write(str(listener.getsockname()[1]))
    os.rename(portfile + ".new", portfile)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, *args), daemon=True).start()


main()
