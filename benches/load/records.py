#!/usr/bin/env python3
"""How fast call records reach PostgreSQL: while SIPp brings refused calls, each of which leaves one, and from the journal
after the database took none for a while.

    benches/load/records.py SIP_HOST:PORT POSTGRES_SOCKET_FOLDER [RATE] [SECONDS]
"""
import pathlib
import subprocess
import sys
import time

SCENARIO = pathlib.Path(__file__).parents[2] / "tests/scenarios/unknown-number.xml"


def sql(folder, text):
    command = ["psql", "-h", folder, "-U", "tandem", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text, "tandem"]
    return subprocess.run(command, text=True, check=True, capture_output=True).stdout.strip()


def records(folder):
    return int(sql(folder, "SET ROLE tandem_node; SELECT count(*) FROM calls").splitlines()[-1])


# One SIPp does not come to 1000 calls a second beside a switch on the same processors.
SIPPS = 4


def sipp(address, rate, calls):
    return [
        subprocess.Popen(
            ["sipp", "-sf", str(SCENARIO), "-s", "+15559999", "-i", "127.0.0.1", "-r", str(rate // SIPPS),
             "-m", str(calls // SIPPS), "-l", "15000", "-nostdin", "-recv_timeout", "30000", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(SIPPS)
    ]


def stored(folder, before):
    """Waits until no more come, and answers how many came and when the last did. SIPp gives up a few calls."""
    count, last = 0, time.monotonic()
    while time.monotonic() - last < 3:
        now = records(folder) - before
        if now > count:
            count, last = now, time.monotonic()
        time.sleep(0.05)
    return count, last


def main():
    address, folder = sys.argv[1:3]
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    seconds = int(sys.argv[4]) if len(sys.argv) > 4 else 30
    calls = rate * seconds
    before, begun = records(folder), time.monotonic()
    for load in sipp(address, rate, calls):
        load.wait()
    offered, there = time.monotonic() - begun, records(folder) - before
    count, last = stored(folder, before)
    took = last - begun
    print(
        f"{calls} calls in {offered:.1f} s ({calls / offered:.0f} a second): {there} records there with the last answer, "
        f"{count} after {max(took - offered, 0):.2f} s more"
    )
    before = records(folder)
    sql(folder, "ALTER DATABASE tandem SET default_transaction_read_only = on")
    cut = ("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
           "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
    sql(folder, cut)
    for load in sipp(address, rate, calls):
        load.wait()
    sql(folder, "BEGIN READ WRITE; ALTER DATABASE tandem SET default_transaction_read_only = off; COMMIT")
    sql(folder, cut)
    begun, left = time.monotonic(), records(folder)
    while records(folder) == left:
        time.sleep(0.01)
    begun = time.monotonic()
    count, last = stored(folder, left)
    print(f"{count} records out of the journal in {last - begun:.2f} s: {count / (last - begun):.0f} a second")


main()
