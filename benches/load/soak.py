#!/usr/bin/env python3
"""Runs 10,000 calls and half an hour of mixed ones against a demo, and prints what it takes over time.

    benches/load/soak.py [--binary target/release/tandem] [--calls 10000] [--rate 200] [--minutes 30]

Two parts. First --calls calls with media sessions and an agent each, as fast as --rate says. Then --minutes of 20 short calls
a second beside 50 that stay for two minutes each and send RTP all the time, to an echo. A line every few seconds has the
resident memory, its anonymous part, descriptors and threads of the switch, and the calls that ended by then. At the end it
rests, and says how much memory grew within each part after its first fifth.
The switch keeps no trace of signalling (TANDEM_TRACE_MEGABYTES=0), which would grow on purpose. `tandem demo` takes no such
variable: it fills the database, and `tandem run` goes on with that.
Needs SIPp; everything is on loopback. Exit code 1: a call failed, the long calls sent less than they should, or something grew
more than its bound, which is printed.
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
import urllib.request

PERIOD = 10.0
REST = 60.0
ECHO = "+15550101"
# A call that sends RTP from its answer to its end. SIPp looks for the audio where it is started.
SCENARIOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/scenarios")
SENDING = os.path.join(SCENARIOS, "load-calls.xml")
LONG_S = 115
PACKETS_A_SECOND = 50
# What a call of the first part may leave behind, in KB: less than the least that one has while it runs, its task of 3.7 KB.
KEPT_KB_MAX = 3.0
# By how much anonymous memory may grow in the second part, in percent.
GROWTH_MAX = 10.0


class Switch:
    """A switch with the numbers of the demo, and what it takes."""

    def __init__(self, binary, folder):
        # The database runs as another user where this one is root.
        os.chmod(folder, 0o755)
        data, config = os.path.join(folder, "data"), os.path.join(folder, "soak.toml")
        address = "127.0.0.1:0"
        subprocess.run([binary, "demo", "--once", "--sip", address, "--http", address, "--data-dir", data],
                       check=True, stdout=subprocess.DEVNULL)
        with open(config, "w") as file:
            file.write(f"""
                database = "private"
                data_dir = {json.dumps(data)}
                [[listener]]
                name = "demo"
                bind = "{address}"
                transports = ["udp"]
                [log]
                level = "warn"
                [media]
                ports = [2000, 32767]
                threads = 1
                [http]
                bind = "{address}"
                [agents]
                allow_networks = ["127.0.0.0/8", "::1"]
                [secrets]
                key_ref = {json.dumps("file:" + os.path.join(data, "demo-seal.key"))}
            """)
        environment = {**os.environ, "TANDEM_TRACE_MEGABYTES": "0"}
        self.process = subprocess.Popen([binary, "run", "--config", config], env=environment, stdout=subprocess.PIPE)
        self.sip, self.http = self._ready()

    def _ready(self):
        for line in self.process.stdout:
            try:
                ready = json.loads(line)
            except ValueError:
                continue
            if ready.get("sip"):
                return ready["sip"][0]["address"], ready["http"]
        raise SystemExit("the switch did not start")

    def received(self):
        """Packets of RTP that were played, of calls that are over."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(r"^media_packets_received_total (\d+)$", text, re.M)
        return int(found.group(1)) if found else 0

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
    """SIPp: so many calls of so many ms, so many in so many seconds. Its RTP has an address of its own: all ports may be the switch's."""

    def __init__(self, folder, sip, name, calls, rate, hold_ms, scenario=("-sn", "uac")):
        # A file of its own for what SIPp counts, read while it runs.
        self.counts = os.path.join(folder, f"{name}.csv")
        rate, period_s = rate
        command = ["sipp", *scenario, "-i", "127.0.0.1", "-mi", "127.0.0.2", "-timer_resol", "10",
                   "-s", ECHO, "-d", str(hold_ms), "-m", str(calls),
                   "-r", str(rate), "-rp", str(1_000 * period_s), "-l", "3000", "-nostdin", "-trace_stat", "-stf", self.counts, "-fd", "1", sip]
        self.process = subprocess.Popen(command, cwd=SCENARIOS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

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


def watch(switch, part, callers, period=PERIOD, until=None):
    """Prints a line every few seconds while callers call; the lines, and what became of the calls."""
    lines, began = [], time.monotonic()
    while True:
        time.sleep(period if until is None else min(period, max(0.1, until - time.monotonic())))
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
    """By how much anonymous memory grew after the first fifth, by a straight line through the rest: KB, percent, and KB a call."""
    kept = lines[len(lines) // 5:]
    count = len(kept)
    if count < 3:
        raise SystemExit("too few lines to judge by: let it run for longer")
    middle, mean = (count - 1) / 2, sum(line[2] for line in kept) / count
    slope = sum((at - middle) * (line[2] - mean) for at, line in enumerate(kept))
    slope /= sum((at - middle) ** 2 for at in range(count))
    grown = slope * (count - 1)
    return grown, 100.0 * grown / mean, grown / max(1, kept[-1][0] - kept[0][0])


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
            # Some dozens of lines, however many calls.
            period = min(PERIOD, max(0.5, options.calls / options.rate / 25))
            rush, _, bad = watch(switch, "calls", [calls], period)
            failed, grown, short_of = bad, {"calls": growth(rush)}, 0
            if options.minutes > 0:
                seconds = options.minutes * 60
                short = Callers(folder, switch.sip, "short", max(1, int(20 * seconds)), (20, 1), 2_000)
                rounds = max(1, int(seconds // 120))
                before = switch.received()
                long = Callers(folder, switch.sip, "long", 50 * rounds, (50, 120), 1_000 * LONG_S, ("-sf", SENDING))
                soak, _, bad = watch(switch, "soak", [short, long])
                # As long as calls begin: what is given back behind them would hide what grew before.
                failed, grown["soak"] = failed + bad, growth(soak[:int(seconds / PERIOD)])
            watch(switch, "rest", [], until=time.monotonic() + options.rest)
            if options.minutes > 0:
                packets, wanted = switch.received() - before, 50 * rounds * LONG_S * PACKETS_A_SECOND
                short_of = packets < 0.9 * wanted
                print(f"{packets} packets of RTP were played of the {wanted} that the long calls had time for (at least 90 %)")
            last = switch.figures()
        finally:
            switch.stop()
    bounds = {"calls": f"at most {KEPT_KB_MAX} KB a call", "soak": f"at most {GROWTH_MAX} %"}
    for part, (kb, percent, a_call) in grown.items():
        print(f"{part}: anonymous memory grew by {kb:.0f} KB, {percent:.1f} %, {a_call:.2f} KB a call, after its first fifth "
              f"({bounds[part]})")
    print(f"after the rest: {last[0]} KB resident ({100 * (last[0] / first[0] - 1):.0f} % above the start), "
          f"{last[2]} descriptors ({last[2] - first[2]:+}), {last[3]} threads ({last[3] - first[3]:+})")
    leaks = (last[2] > first[2] + 20 or last[3] > first[3] + 8 or grown["calls"][2] > KEPT_KB_MAX
             or "soak" in grown and grown["soak"][1] > GROWTH_MAX)
    print(f"{failed} calls failed" + (", and something grew more than it may" if leaks else ""))
    return 1 if failed or leaks or short_of else 0


if __name__ == "__main__":
    sys.exit(main())
