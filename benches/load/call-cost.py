"""What a thousand calls cost in processor time, next to what the least that answers them costs on the same machine.

    python3 benches/load/call-cost.py SWITCH RESPONDER [RATE [CALLS [ROUNDS]]]

SWITCH and RESPONDER are programs: a `tandem` and an `examples/bare_responder` of the same profile. SIPp calls the demo's tone
(+15550102) and hangs up at once, and calls the responder, a SIPp that answers, and a Kamailio that answers and keeps nothing likewise, in turn. The processor time of all threads of the program that is called (of all processes
of Kamailio) is read from /proc before and after; PostgreSQL's and the calling SIPp's are not in it. Seconds differ between machines, and between hours of a
shared one, by more than a factor of two; how many times the others' it is differs less.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from processor_time import family_processor_s
from processor_time import processor_s

CALLED = "+15550102"

# Debian has it in /usr/sbin, which need not be in PATH.
KAMAILIO = shutil.which("kamailio") or "/usr/sbin/kamailio"


def spent(pid, port):
    """CPU seconds of a program by thread. Only Kamailio works in several processes; a switch has PostgreSQL beside it."""
    return {"all": family_processor_s(pid)} if port == 5070 else processor_s(pid)


def calls(pid, port, rate, count, folder):
    """CPU seconds per 1000 calls, by thread."""
    before = spent(pid, port)
    sipp = ["sipp", "-sn", "uac", "-i", "127.0.0.1", "-s", CALLED, "-d", "0", "-m", str(count), "-r", str(rate),
            "-l", "3000", "-nostdin", f"127.0.0.1:{port}"]
    done = subprocess.run(sipp, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, text=True)
    if done.returncode != 0:
        sys.exit(f"SIPp ended with {done.returncode}: a call failed\n{done.stdout[-3000:]}")
    # What is written of the last calls is of them as well.
    time.sleep(2)
    after = spent(pid, port)
    return {name: (after[name] - before.get(name, 0)) * 1000 / count for name in after}


def main():
    switch, responder = sys.argv[1:3]
    rate, count, rounds = [*map(int, sys.argv[3:6]), *(500, 8000, 3)[len(sys.argv) - 3:]]
    with tempfile.TemporaryDirectory() as folder:
        stateless = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stateless.cfg")
        started = {}
        peers = {
            "the switch": (5060, [switch, "demo", "--data-dir", f"{folder}/demo", "--rtp-ports", "2000-32767"]),
            "the responder": (5080, [responder, "127.0.0.1:5080"]),
            "SIPp's server": (5090, ["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", "5090", "-nostdin"]),
            "Kamailio": (5070, [KAMAILIO, "-f", stateless, "-DD", "-E", "-Y", folder]),
        }
        # The database of the demo runs as another user.
        os.chmod(folder, 0o755)
        try:
            for name, (_, command) in peers.items():
                started[name] = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(15)
            sums = {name: [] for name in peers}
            for _ in range(rounds):
                for name, (port, _) in peers.items():
                    each = calls(started[name].pid, port, rate, count, folder)
                    sums[name].append(sum(each.values()))
                    dearest = sorted(each.items(), key=lambda thread: -thread[1])[:4]
                    print(f"{name}: {sums[name][-1]:.3f} CPU s per 1000 calls",
                          ", ".join(f"{thread} {value:.3f}" for thread, value in dearest), flush=True)
            middle = {name: statistics.median(sums[name]) for name in peers}
            own = middle.pop("the switch")
            others = ", ".join(f"{own / value:.1f} times {name} ({value:.3f})" for name, value in middle.items())
            print(f"in the middle {own:.3f}: {others}")
        finally:
            for program in started.values():
                program.terminate()
            for program in started.values():
                program.wait()


main()
