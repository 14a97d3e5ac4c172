#!/usr/bin/env python3
"""Runs 10,000 calls and half an hour of mixed ones against a demo, and prints what it takes over time.

    benches/load/soak.py [--binary target/release/tandem] [--calls 10000] [--rate 200] [--minutes 30]

Two parts. First --calls calls with media sessions and an agent each, as fast as --rate says. Then --minutes of 20 short calls
a second beside 50 that stay for two minutes each. A line every ten seconds has the resident memory, its anonymous part,
descriptors and threads of the switch, and the calls that ended by then. At the end it rests, and says how much
memory grew within each part after its first fifth. The first part fills what is kept on purpose, most of all the demo's trace
of 32 MB; the second has to be flat.
Needs SIPp; everything is on loopback. Exit code 1: a call failed, or something grew that should not.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

PERIOD = 10.0
REST = 60.0
ECHO = "+15550101"
# Without media a call that is not on hold ends after a minute.
SCENARIO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "call.xml")


class Switch:
    """A demo of its own, and what it takes."""

    def __init__(self, binary, folder):
        address = "127.0.0.1:0"
        command = [binary, "demo", "--sip", address, "--http", address,
                   "--rtp-ports", "2000-32767", "--data-dir", folder]
        log = open(os.path.join(folder, "log"), "wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        self.sip = self._ready()

    def _ready(self):
        for line in self.process.stdout:
            try:
                ready = json.loads(line)
            except ValueError:
                continue
            if ready.get("sip"):
                return ready["sip"][0]["address"]
        raise SystemExit("the demo did not start; its log is in the data folder")

    def figures(self):
        """Resident and anonymous KB, descriptors, threads."""
        base = f"/proc/{self.process.pid}"
        with open(f"{base}/smaps_rollup") as file:
            text = file.read()
        kb = lambda name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))
        return (kb("Rss"), kb("Anonymous"), len(os.listdir(f"{base}/fd")),
                len(os.listdir(f"{base}/task")))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Callers:
    """SIPp: so many calls of so many ms, so many in so many seconds."""

    def __init__(self, folder, sip, name, calls, rate, hold_ms, scenario=("-sn", "uac")):
        # A file of its own for what SIPp counts, read while it runs.
        self.counts = os.path.join(folder, f"{name}.csv")
        rate, period_s = rate
        command = ["sipp", *scenario, "-i", "127.0.0.1", "-s", ECHO, "-d", str(hold_ms), "-m", str(calls),
                   "-r", str(rate), "-rp", str(1_000 * period_s), "-l", "3000", "-nostdin", "-trace_stat", "-stf", self.counts, "-fd", "5", sip]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ended(self):
        """Calls that succeeded, and that failed."""
        try:
            with open(self.counts) as file:
                lines = file.read().splitlines()
        except OSError:
            return 0, 0
        if len(lines) < 2:
            return 0, 0
        names, last = lines[0].split(";"), lines[-1].split(";")
        value = lambda name: int(last[names.index(name)] or 0)
        return value("SuccessfulCall(C)"), value("FailedCall(C)")

    def runs(self):
        return self.process.poll() is None


def watch(switch, part, callers, until=None):
    """Prints a line every ten seconds while callers call; the lines, and what became of the calls."""
    lines, began = [], time.monotonic()
    while True:
        time.sleep(PERIOD if callers or until is None else min(PERIOD, max(0.1, until - time.monotonic())))
        ended = [caller.ended() for caller in callers]
        good, bad = sum(one for one, _ in ended), sum(other for _, other in ended)
        rss, anonymous, files, threads = switch.figures()
        lines.append((good, rss, anonymous, files, threads))
        print(f"{part:8} {time.monotonic() - began:7.0f} s {good:8} calls {bad:5} failed {rss:9} KB resident "
              f"{anonymous:9} KB anonymous {files:6} descriptors {threads:4} threads", flush=True)
        over = until is not None and time.monotonic() >= until
        if over or (callers and not any(caller.runs() for caller in callers)):
            return lines, good, bad


def growth(lines):
    """By how much anonymous memory grew after the first fifth, in percent, by a straight line through the rest."""
    kept = lines[len(lines) // 5:]
    count = len(kept)
    if count < 3:
        return 0.0
    middle, mean = (count - 1) / 2, sum(line[2] for line in kept) / count
    slope = sum((at - middle) * (line[2] - mean) for at, line in enumerate(kept))
    slope /= sum((at - middle) ** 2 for at in range(count))
    return 100.0 * slope * (count - 1) / mean


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/tandem")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rest", type=float, default=REST, help="seconds of quiet at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        switch = Switch(options.binary, folder)
        try:
            time.sleep(3)
            first = switch.figures()
            print(f"start    {first[0]} KB resident, {first[2]} descriptors, {first[3]} threads", flush=True)
            calls = Callers(folder, switch.sip, "calls", options.calls, (options.rate, 1), 500)
            rush, good, bad = watch(switch, "calls", [calls])
            failed, grown = bad, {"calls": growth(rush)}
            if options.minutes > 0:
                seconds = options.minutes * 60
                short = Callers(folder, switch.sip, "short", max(1, int(20 * seconds)), (20, 1), 2_000)
                rounds = max(1, int(seconds // 120))
                long = Callers(folder, switch.sip, "long", 50 * rounds, (50, 120), 115_000,
                               ("-sf", SCENARIO, "-key", "media", "inactive"))
                soak, _, bad = watch(switch, "soak", [short, long])
                failed, grown["soak"] = failed + bad, growth(soak)
            rest, _, _ = watch(switch, "rest", [], time.monotonic() + options.rest)
            last = switch.figures()
        finally:
            switch.stop()
    for part, percent in grown.items():
        print(f"{part}: anonymous memory grew by {percent:.1f} % after its first fifth")
    print(f"after the rest: {last[0]} KB resident ({100 * (last[0] / first[0] - 1):.0f} % above the start), "
          f"{last[2]} descriptors ({last[2] - first[2]:+}), {last[3]} threads ({last[3] - first[3]:+})")
    leaks = last[2] > first[2] + 20 or last[3] > first[3] + 8 or grown.get("soak", 0.0) > 10
    print(f"{failed} calls failed" + (", and something grew" if leaks else ""))
    return 1 if failed or leaks else 0


if __name__ == "__main__":
    sys.exit(main())
