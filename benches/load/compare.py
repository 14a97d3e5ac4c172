"""Which of several builds answers calls for less processor time, and by how much.

    python3 benches/load/compare.py ROUNDS CALLS RATE NAME=PROGRAM NAME=PROGRAM...

Every PROGRAM is a `tandem`, with words before it if need be (`NAME="env LD_PRELOAD=... target/release/tandem"`). All of them run at
once, each as a demo with a database and ports of its own, and SIPp calls the tone (+15550102) of one after the other, CALLS times at RATE
a second, and hangs up at once. Hours of a shared machine differ by more than a factor of two, and so do its seconds; what a round
says is how many times the first one's processor time the others took beside it, and what the rounds say is the mean of that with its
standard error. Twenty rounds of 1000 calls tell builds apart that differ by 5 %. The same program given twice shows what the order does.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from processor_time import processor_s

CALLED = "+15550102"
# Upload and clean-up of the last calls are of them as well.
REST_S = 0.5


def start(number, command, folder):
    """The demo of the program, on the ports of its number."""
    sip, http, rtp = 5060 + 100 * number, 8080 + number, 10000 + 5000 * number
    demo = ["demo", "--sip", f"127.0.0.1:{sip}", "--http", f"127.0.0.1:{http}", "--data-dir", f"{folder}/{number}",
            "--rtp-ports", f"{rtp}-{rtp + 4999}"]
    return sip, subprocess.Popen(shlex.split(command) + demo, cwd=folder, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)


def burst(pid, port, count, rate, folder):
    """CPU seconds per 1000 calls, of all threads."""
    before = sum(processor_s(pid).values())
    sipp = ["sipp", "-sn", "uac", "-i", "127.0.0.1", "-p", "7060", "-s", CALLED, "-d", "0", "-m", str(count), "-r", str(rate),
            "-l", "3000", "-nostdin", f"127.0.0.1:{port}"]
    done = subprocess.run(sipp, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, text=True)
    if done.returncode != 0:
        sys.exit(f"SIPp ended with {done.returncode}: a call failed\n{done.stdout[-3000:]}")
    time.sleep(REST_S)
    return (sum(processor_s(pid).values()) - before) * 1000 / count


def main():
    rounds, count, rate = map(int, sys.argv[1:4])
    named = dict(argument.split("=", 1) for argument in sys.argv[4:])
    named = {name: " ".join(os.path.abspath(word) if os.path.isfile(word) else word for word in shlex.split(command))
             for name, command in named.items()}
    started = {}
    with tempfile.TemporaryDirectory() as folder:
        # The databases of the demos run as another user.
        os.chmod(folder, 0o755)
        try:
            for number, (name, command) in enumerate(named.items()):
                started[name] = start(number, command, folder)
            time.sleep(20)
            first, *others = started
            spent = {name: [] for name in started}
            # The first bursts open connections and fill pools.
            for turn in range(-1, rounds):
                for name, (port, program) in started.items():
                    each = burst(program.pid, port, count, rate, folder)
                    if turn >= 0:
                        spent[name].append(each)
            for name, values in spent.items():
                print(f"{name}: {statistics.median(values):.3f} CPU s per 1000 calls in the middle,"
                      f" {min(values):.3f} to {max(values):.3f}")
            for name in others:
                ratios = [value / base for value, base in zip(spent[name], spent[first])]
                error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
                print(f"{name} is {statistics.mean(ratios):.3f} times {first}, standard error {error:.3f}")
        finally:
            for _, program in started.values():
                program.terminate()
            for _, program in started.values():
                program.wait()


main()
