#!/usr/bin/env python3
"""Opens idle event sockets at a running switch and prints what they cost it in resident memory.

    tandem demo --http 127.0.0.1:8080 &
    KEY=$(tandem keys create --role tenant-operator --tenant TENANT --in-database --config ...)
    benches/load/event-sockets.py HTTP_HOST:PORT TENANT KEY PID [SOCKETS]
"""
import base64
import os
import re
import socket
import sys
import time


def resident(pid):
    """Bytes of the process that are in memory."""
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M).group(1)) * 1024


def open_socket(address, tenant, key):
    one = socket.create_connection(address)
    nonce = base64.b64encode(os.urandom(16)).decode()
    one.sendall(
        (
            f"GET /api/v1/tenants/{tenant}/events HTTP/1.1\r\nHost: {address[0]}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\nAuthorization: Bearer {key}\r\n\r\n"
        ).encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        more = one.recv(4096)
        if not more:
            sys.exit(f"closed: {head!r}")
        head += more
    if not head.startswith(b"HTTP/1.1 101"):
        sys.exit(head.decode(errors="replace"))
    return one


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    tenant, key, pid = sys.argv[2], sys.argv[3], int(sys.argv[4])
    count = int(sys.argv[5]) if len(sys.argv) > 5 else 1000
    before = resident(pid)
    sockets = []
    for n in range(count):
        sockets.append(open_socket((host, int(port)), tenant, key))
        # Of one key so many requests a second.
        if n % 50 == 49:
            time.sleep(1)
    time.sleep(5)
    after = resident(pid)
    print(
        f"{count} idle event sockets: {(after - before) / 1e6:.1f} MB more, "
        f"{(after - before) / count / 1e3:.1f} KB each"
    )


main()
