#!/usr/bin/env python3
"""How soon a change of a number is in force: from PostgreSQL's word that it is committed to the first INVITE that is answered
by it. The number is one of the demo, or any that a trunk for 127.0.0.1 may call.

    benches/load/number-change.py SIP_HOST:PORT POSTGRES_SOCKET_FOLDER [NUMBER] [CHANGES]
"""
import secrets
import socket
import statistics
import subprocess
import sys
import time


class Database:
    """One `psql` that stays connected: what is timed has no start of a program in it."""

    def __init__(self, folder):
        command = ["psql", "-h", folder, "-U", "tandem", "-qAtX", "-v", "ON_ERROR_STOP=1", "tandem"]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.run("SET ROLE tandem_node;")

    def run(self, text):
        self.process.stdin.write(f"{text}\n\\echo done\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != "done":
            sys.exit("psql failed")


class Phone:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.there = (host, int(port))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(2)
        self.here = "%s:%d" % self.socket.getsockname()

    def send(self, method, number, call, branch, to, sequence=1):
        lines = [
            f"{method} sip:{number}@{self.there[0]}:{self.there[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.here};branch=z9hG4bK{branch}",
            "Max-Forwards: 70",
            f"From: <sip:bench@{self.here}>;tag={call}",
            f"To: {to}",
            f"Call-ID: {call}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:bench@{self.here}>",
            "Content-Length: 0",
        ]
        self.socket.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), self.there)

    def answer(self, call, method):
        while True:
            text = self.socket.recv(65535).decode()
            head = dict(line.split(": ", 1) for line in text.split("\r\n\r\n")[0].split("\r\n")[1:])
            status = int(text.split(" ", 2)[1]) if text.startswith("SIP/2.0 ") else 0
            if head.get("Call-ID") == call and head["CSeq"].endswith(method) and status > 100:
                return status, head["To"]

    def is_known(self, number):
        """Whether a call to the number would be let in. One that is, is taken back."""
        call, to = secrets.token_hex(8), f"<sip:{number}@{self.there[0]}>"
        self.send("INVITE", number, call, call, to)
        status, tagged = self.answer(call, "INVITE")
        if status < 200:
            self.send("CANCEL", number, call, call, to)
            while status < 200:
                status, tagged = self.answer(call, "INVITE")
            self.send("ACK", number, call, call if status > 299 else call + "a", tagged)
            known = True
        else:
            known = status < 300
            self.send("ACK", number, call, call if status > 299 else call + "a", tagged)
        if status < 300:
            self.send("BYE", number, call, call + "b", tagged, 2)
            self.answer(call, "BYE")
        return known


def main():
    address, folder = sys.argv[1:3]
    number = sys.argv[3] if len(sys.argv) > 3 else "+15550104"
    changes = int(sys.argv[4]) if len(sys.argv) > 4 else 20
    database, phone, took = Database(folder), Phone(address), []
    for turn in range(changes):
        active = turn % 2 == 1
        database.run(f"UPDATE phone_numbers SET is_active = {active} WHERE first_number = '{number}';")
        committed = time.monotonic()
        while phone.is_known(number) != active:
            pass
        took.append((time.monotonic() - committed) * 1000)
        time.sleep(0.2)
    database.run(f"UPDATE phone_numbers SET is_active = true WHERE first_number = '{number}';")
    print(f"{changes} changes: {min(took):.1f} ms at best, {statistics.median(took):.1f} in the middle, {max(took):.1f} at worst")


main()
