"""What a thousand calls cost in processor time, next to what the least that answers them costs on the same machine.

    python3 benches/load/call-cost.py SWITCH RESPONDER [RATE [CALLS [ROUNDS]]]

SWITCH and RESPONDER are programs: a `tandem` and an `examples/bare_responder` of the same profile. SIPp calls the demo's tone
(+15550102) and hangs up at once, and calls the responder and a SIPp that answers likewise, in turn. The processor time of all threads of the program that
answers is read from /proc before and after; PostgreSQL's and SIPp's are not in it. Seconds differ between machines, and between hours of a
shared one, by more than a factor of two; how many times the responder's it is differs less.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from processor_time import processor_s

CALLED = "+15550102"


def calls(pid, port, rate, count, folder):
    """CPU seconds per 1000 calls, by thread."""
    before = processor_s(pid)
    sipp = ["sipp", "-sn", "uac", "-i", "127.0.0.1", "-s", CALLED, "-d", "0", "-m", str(count), "-r", str(rate),
            "-l", "3000", "-nostdin", f"127.0.0.1:{port}"]
    done = subprocess.run(sipp, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, text=True)
    if done.returncode != 0:
        sys.exit(f"SIPp ended with {done.returncode}: a call failed\n{done.stdout[-3000:]}")
    # What is written of the last calls is of them as well.
    time.sleep(2)
    after = processor_s(pid)
    return {name: (after[name] - before.get(name, 0)) * 1000 / count for name in after}


def main():
    switch, responder = sys.argv[1:3]
    rate, count, rounds = [*map(int, sys.argv[3:6]), *(500, 8000, 3)[len(sys.argv) - 3:]]
    with tempfile.TemporaryDirectory() as folder:
        peers = {
            5060: [switch, "demo", "--data-dir", f"{folder}/demo", "--rtp-ports", "2000-32767"],
            5080: [responder, "127.0.0.1:5080"],
            5090: ["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", "5090", "-nostdin"],
        }
        # The database of the demo runs as another user.
        os.chmod(folder, 0o755)
        started = {
            port: subprocess.Popen(peer, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for port, peer in peers.items()
        }
        try:
            time.sleep(15)
            sums = {port: [] for port in peers}
            for _ in range(rounds):
                for port, program in started.items():
                    spent = calls(program.pid, port, rate, count, folder)
                    sums[port].append(sum(spent.values()))
                    dearest = sorted(spent.items(), key=lambda each: -each[1])[:4]
                    print(f"{peers[port][0]}: {sums[port][-1]:.3f} CPU s per 1000 calls",
                          ", ".join(f"{name} {value:.3f}" for name, value in dearest), flush=True)
            own, floor, sipp = (statistics.median(sums[port]) for port in peers)
            print(f"in the middle {own:.3f}: {own / floor:.1f} times the responder ({floor:.3f}), "
                  f"{own / sipp:.1f} times SIPp's own server ({sipp:.3f})")
        finally:
            for program in started.values():
                program.terminate()
            for program in started.values():
                program.wait()


main()
