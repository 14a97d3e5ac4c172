"""What a thousand calls cost in processor time, next to what the least that answers them costs on the same machine.

    python3 benches/load/call-cost.py SWITCH RESPONDER [RATE [CALLS [ROUNDS]]]

SWITCH and RESPONDER are programs: a `tandem` and an `examples/bare_responder` of the same profile. SIPp calls the demo's tone
(+15550102) and hangs up at once, and calls the responder likewise, in turn. The processor time of all threads of the program that
answers is read from /proc before and after; PostgreSQL's and SIPp's are not in it. Seconds differ between machines, and between hours of a
shared one, by more than a factor of two; how many times the responder's it is differs less.
"""

import glob
import statistics
import subprocess
import sys
import tempfile
import time

CALLED = "+15550102"


def processor_s(pid):
    """By name of the threads."""
    spent = {}
    for task in glob.glob(f"/proc/{pid}/task/*"):
        try:
            with open(f"{task}/comm") as name, open(f"{task}/schedstat") as times:
                name = name.read().strip()
                spent[name] = spent.get(name, 0) + int(times.read().split()[0]) / 1e9
        except FileNotFoundError:
            pass
    return spent


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
        programs = [
            subprocess.Popen([switch, "demo", "--rtp-ports", "2000-32767"], cwd=folder, stdout=subprocess.DEVNULL),
            subprocess.Popen([responder, "127.0.0.1:5080"], cwd=folder, stdout=subprocess.DEVNULL),
        ]
        try:
            time.sleep(15)
            sums = ([], [])
            for _ in range(rounds):
                for program, port, all_of_it in zip(programs, (5060, 5080), sums):
                    spent = calls(program.pid, port, rate, count, folder)
                    all_of_it.append(sum(spent.values()))
                    dearest = sorted(spent.items(), key=lambda each: -each[1])[:4]
                    print(f"{program.args[0]}: {all_of_it[-1]:.3f} CPU s per 1000 calls",
                          ", ".join(f"{name} {value:.3f}" for name, value in dearest), flush=True)
            own, floor = map(statistics.median, sums)
            print(f"in the middle {own:.3f} and {floor:.3f}: {own / floor:.1f} times the responder")
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


main()
