"""What a call with a bot takes of memory: while its caller is silent, in a conversation, and while it speaks without end.

    python3 benches/load/memory.py SWITCH BOT [CALLS [AFTER_S]]

SWITCH and BOT are programs: a `tandem` and an `examples/media_streams_bot` of the same profile. SIPp calls the number of the demo whose
agent is the bot (+15550108), CALLS times, and CALLS times more while those go on. Silent callers send no RTP. The others send what the built-in
agents say: with as long a pause behind it as it took, or without. The calls begin at 50 a second, so that they do not all speak at once. Resident
memory is of /proc/PID/smaps_rollup; of the program with all calls that are open 12 s after the last one began, less what it was at its start, by the
number of calls. AFTER_S seconds after the calls it is read once more. Each way has a switch of its own.
"""

import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = os.path.join(HERE, "../../src/agent/builtin/prompts")
SENDING = os.path.join(HERE, "../../tests/scenarios/load-calls.xml")
NUMBER = "+15550108"
RATE = 50
SILENCE = b"\xff"


def resident_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return int(next(line for line in file if line.startswith("Rss")).split()[1])


def speech(pauses):
    """Prompts of the built-in agents, u-law at 8 kHz, each with as much silence behind it, or none."""
    said = b""
    for name in sorted(os.listdir(PROMPTS)):
        if name.endswith(".ulaw"):
            with open(os.path.join(PROMPTS, name), "rb") as file:
                prompt = file.read()
            said += prompt + (SILENCE * len(prompt) if pauses else b"")
    return said


def callers(folder, calls, held_s, sends):
    scenario = ["-sf", SENDING] if sends else ["-sn", "uac"]
    # The RTP of SIPp has an address of its own: all ports may be the switch's.
    command = ["sipp", *scenario, "-i", "127.0.0.1", "-mi", "127.0.0.2", "-s", NUMBER, "-d", str(1000 * held_s), "-m", str(calls),
               "-r", str(RATE), "-l", str(calls), "-nostdin", "127.0.0.1:5060"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(name, switch, bot, calls, after_s, audio):
    with tempfile.TemporaryDirectory() as folder:
        # The database of the demo runs as another user.
        os.chmod(folder, 0o755)
        # SIPp looks for what it sends where it is started.
        with open(os.path.join(folder, "tone.ulaw"), "wb") as file:
            file.write(audio)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        started = [
            subprocess.Popen([bot, "127.0.0.1:8765"], **quiet),
            subprocess.Popen([switch, "demo", "--data-dir", f"{folder}/demo", "--rtp-ports", "2000-32767"], **quiet),
        ]
        pid = started[1].pid
        try:
            time.sleep(15)
            resident, open_calls = [resident_kb(pid)], []
            begun_s = calls // RATE + 12
            for more in (2, 1):
                open_calls.append(callers(folder, calls, more * (begun_s + 2), bool(audio)))
                time.sleep(begun_s)
                resident.append(resident_kb(pid))
            if any(each.wait() != 0 for each in open_calls):
                sys.exit("SIPp had calls that failed")
            time.sleep(after_s)
            begin, first, both, rest = *resident, resident_kb(pid)
            print(f"{name}: {(first - begin) / calls:.1f} KB a call of {calls}, {(both - first) / calls:.1f} of as many more; "
                  f"{begin} KB at the start, {rest} ({100 * (rest / begin - 1):+.1f} %) {after_s} s after the calls", flush=True)
        finally:
            for program in started:
                program.terminate()
            for program in started:
                program.wait()


def main():
    switch, bot = sys.argv[1:3]
    calls, after_s = [*map(int, sys.argv[3:5]), *(250, 60)[len(sys.argv) - 3:]]
    measure("silent", switch, bot, calls, after_s, b"")
    measure("speaking half of the time", switch, bot, calls, after_s, speech(True))
    measure("speaking without end", switch, bot, calls, after_s, speech(False))


main()
