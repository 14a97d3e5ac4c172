"""What the WebSocket of a bot costs a call in processor time, both ways, next to what the bot at its other end costs.

    python3 benches/load/agent-cost.py SWITCH BOT [CALLS [SECONDS [ROUNDS]]]

SWITCH and BOT are programs: a `tandem` and an `examples/media_streams_bot` of the same profile. SIPp calls the demo's tone (+15550102),
then the number whose agent is the bot (+15550108), and keeps CALLS calls open; the processor time of all threads of both programs is read from /proc at
the beginning and the end of SECONDS. What a call with the bot takes more than one with the tone is what its WebSocket adds. On a
shared machine one round differs from the next by half of that: the mean of ROUNDS is what counts.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from processor_time import processor_s

FRAMES_PER_S = 50


def main():
    switch, bot = sys.argv[1:3]
    calls, seconds, rounds = [*map(int, sys.argv[3:6]), *(200, 10, 5)[len(sys.argv) - 3:]]
    with tempfile.TemporaryDirectory() as folder:
        # The database of the demo runs as another user.
        os.chmod(folder, 0o755)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        started = [
            subprocess.Popen([bot, "127.0.0.1:8765"], **quiet),
            subprocess.Popen([switch, "demo", "--data-dir", f"{folder}/demo", "--rtp-ports", "2000-32767"], **quiet),
        ]
        try:
            time.sleep(14)
            taken = {"tone": [], "bot": []}
            for number, agent in (("+15550102", "tone"), ("+15550108", "bot")) * rounds:
                rate = 50
                open_ms = 1000 * (calls // rate + seconds + 6)
                sipp = subprocess.Popen(
                    ["sipp", "-sn", "uac", "-i", "127.0.0.1", "-s", number, "-d", str(open_ms), "-m", str(calls), "-r", str(rate),
                     "-l", str(calls), "-nostdin", "127.0.0.1:5060"], cwd=folder, **quiet)
                time.sleep(calls / rate + 3)
                before = [processor_s(each.pid) for each in started]
                time.sleep(seconds)
                after = [processor_s(each.pid) for each in started]
                of_bot, of_switch = (
                    {name: (b[name] - a.get(name, 0)) * 1e6 / calls / seconds / FRAMES_PER_S for name in b}
                    for a, b in zip(before, after))
                taken[agent].append(sum(of_switch.values()))
                threads = ", ".join(f"{name} {spent:.2f}" for name, spent in sorted(of_switch.items(), key=lambda each: -each[1])
                                    if spent > 0.05)
                print(f"{agent}: {taken[agent][-1]:.2f} us a call and 20 ms ({threads}); the bot itself {sum(of_bot.values()):.2f}", flush=True)
                if sipp.wait() != 0:
                    sys.exit("SIPp had calls that failed")
                time.sleep(3)
            added = [bot - tone for bot, tone in zip(taken["bot"], taken["tone"])]
            print(f"added by the WebSocket, both ways: {statistics.mean(added):.2f} us in the mean of {rounds} rounds "
                  f"({min(added):.2f} to {max(added):.2f})")
        finally:
            for each in started:
                each.terminate()
            for each in started:
                each.wait(timeout=20)


if __name__ == "__main__":
    main()
