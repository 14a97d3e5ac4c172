"""How long a switch keeps what a caller says: from RTP in to WebSocket out, and from RTP in to RTP out.

    python3 benches/load/rtp-to-websocket.py SWITCH [CALLS [SECONDS]]

SWITCH is a `tandem`; its demo is started, called CALLS times at +15550108, whose bot is this program, and then as often at +15550101, the
echo. The callers send G.711 every 20 ms, each at another moment of the 20 ms, two seconds of noise and half a second of silence in turn, and each payload says
which packet of which call it is. Measured from the moment before a packet is sent to the kernel's stamp on it where it
arrives, so that this program may read late; what it sends late, and what a packet takes from one of its own sockets to itself, is printed
beside. The first five seconds, in which a buffer is primed and a session finds its phase, do not count.

The level of each call's jitter buffer is asked of the API by a process of its own, ten times a second for all calls in turn. It is told between two ticks, so
that a packet is played by the tick that is level / 20 ms after the one that reads it: what a packet takes beyond the level is its wait
for the tick that reads it, and the way behind the tick that plays it. The latter begins where the switch sends the same caller a packet, which it does in each
tick. A packet that left so late that it missed its tick is played with the others nevertheless: it waits less than nothing. One for which the
level was not the same before and after is not among those of which all this is told.
"""

import base64
import bisect
import collections
import concurrent.futures
import gc
import hashlib
import heapq
import http.client
import importlib.util
import json
import multiprocessing
import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

BOT, BOT_AT = "+15550108", ("127.0.0.1", 8765)
ECHO = "+15550101"
SWITCH_AT = ("127.0.0.1", 5060)
FRAME_NS = 20_000_000
PER_S = 50
WARM_UP = 5 * PER_S
# Packets at the end of a run that may not have arrived yet.
IN_FLIGHT = PER_S
POLLS_PER_S = 10
# SO_TIMESTAMPNS of Linux, which Python does not name: a timespec of CLOCK_REALTIME beside what is read.
SO_TIMESTAMPNS = 35
STAMP = struct.Struct("qq")

# A bit of a packet's number is 4 in a byte of µ-law: of silence that is 32 of 32124, of the noise its step at that level.
BIT, TIMES = 0x04, 5
SILENCE = b"\xff" * 160
NOISE = bytes(random.Random(7).choices((0xA4, 0x24), k=160))
TO_BITS = bytes.maketrans(b"01", bytes((0, BIT)))
FROM_BITS = bytes((ord("0") if byte & BIT else ord("1")) for byte in range(256))

spec = importlib.util.spec_from_file_location(
    "first_audio", os.path.join(os.path.dirname(os.path.abspath(__file__)), "first-audio.py")
)
first_audio = importlib.util.module_from_spec(spec)
spec.loader.exec_module(first_audio)


def exclusive_or(one, other):
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


def payload_of(caller, packet):
    bits = (f"{caller:08b}{packet:024b}" * TIMES).encode().translate(TO_BITS)
    return exclusive_or(bits, NOISE if packet % 125 < 100 else SILENCE)


def named_by(payload):
    """Which packet of which caller; `None`: it is none of them, or not whole."""
    bits = payload.translate(FROM_BITS)
    if len(bits) != 160 or bits != bits[:32] * TIMES:
        return None
    return int(bits[:8], 2), int(bits[8:32], 2)


def receive(of):
    """What came, and the kernel's stamp on it in ns."""
    got, beside, _, _ = of.recvmsg(65536, 128)
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanos = STAMP.unpack(data)
            return got, seconds * 1_000_000_000 + nanos
    if got:
        sys.exit("the kernel stamps nothing here")
    return got, 0


class Caller:
    """A telephone in a call; without a phone, a socket that sends to itself."""

    def __init__(self, number, phone=None):
        self.number, self.phone = number, phone
        if phone:
            self.socket, self.to = phone.rtp, phone.media
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind(("127.0.0.1", 0))
            self.to = self.socket.getsockname()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sent, self.late, self.heard = [], [], []

    def send(self, due):
        packet = len(self.sent)
        header = struct.pack("!BBHII", 0x80, 0, packet & 0xFFFF, 160 * packet, self.number + 1)
        datagram = header + payload_of(self.number, packet)
        now = time.time_ns()
        self.socket.sendto(datagram, self.to)
        self.sent.append(now)
        self.late.append(now - due)

    def hear(self):
        packet, stamp = receive(self.socket)
        # RTCP may come to the same port (RFC 5761 section 4).
        if packet[1] & 0x7F == 0:
            self.heard.append((stamp, packet[12:]))


class Stream:
    """What comes to the bot by one WebSocket, to be understood when all is over (RFC 6455 section 5.2)."""

    def __init__(self, connection):
        self.socket, self.waiting = connection, b""
        self.frames, self.lags = [], []
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", request)[1]
        # RFC 6455 section 4.2.2.
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def hear(self):
        got, stamp = receive(self.socket)
        if not got:
            sys.exit("the switch closed a stream")
        self.lags.append(time.time_ns() - stamp)
        waiting = self.waiting + got
        while len(waiting) >= 4:
            length, start = waiting[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(waiting[2:4], "big"), 4
            end = start + 4 + length
            if len(waiting) < end:
                break
            kind, mask, text = waiting[0] & 0x0F, waiting[start : start + 4], waiting[start + 4 : end]
            if kind == 0x9:
                pong = exclusive_or(text, (mask * (length // 4 + 1))[:length])
                self.socket.sendall(bytes((0x8A, length)) + pong)
            elif kind == 0x1:
                self.frames.append((stamp, mask, text))
            waiting = waiting[end:]
        self.waiting = waiting

    def heard(self):
        """When which payload came."""
        for stamp, mask, text in self.frames:
            said = json.loads(exclusive_or(text, (mask * (len(text) // 4 + 1))[: len(text)]))
            if said.get("event") == "media":
                yield stamp, base64.b64decode(said["media"]["payload"])


class Bot:
    def __init__(self):
        self.streams = []
        self.listener = socket.create_server(BOT_AT)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            self.streams.append(Stream(self.listener.accept()[0]))


def watch(api, calls, seconds):
    """How each call stood, and when that was: (ns, SIP's name of the call, level, target, audio that waits for the caller, in ms)."""
    address, key, tenant = api
    connection = http.client.HTTPConnection(address, timeout=10)

    def ask(path):
        connection.request("GET", f"/api/v1/tenants/{tenant}/calls{path}", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body.decode()}")
        return json.loads(body)

    running = {call["sip_call_id"]: call["id"] for call in ask("?live=true&limit=200")["calls"]}
    seen, begun = [], time.monotonic()
    for turn in range(seconds * POLLS_PER_S):
        time.sleep(max(0, begun + turn / POLLS_PER_S - time.monotonic()))
        call = calls[turn % len(calls)]
        asked = time.time_ns()
        legs = ask(f"/{running[call]}")["live"]["legs"]
        at = (asked + time.time_ns()) // 2
        near = next(leg for leg in legs if leg["leg"] == "near")
        target = near["quality"]["in"]["jitter_buffer_ms"]
        seen.append((at, call, near["jitter_buffer_ms"], target, near["playout_queue_ms"]))
    return seen


def talk(callers, streams, packets):
    """All callers send so many packets, and all that comes is taken."""
    begun = time.time_ns() + FRAME_NS
    # By the golden section: spread over the 20 ms, and over each 5 ms of them.
    due = [(begun + int(n * 0.618034 % 1 * FRAME_NS), n) for n in range(len(callers))]
    heapq.heapify(due)
    over = begun + packets * FRAME_NS + FRAME_NS
    ears = {each.socket: each for each in (*callers, *streams)}
    gc.disable()
    while (now := time.time_ns()) < over:
        while due and due[0][0] <= now:
            at, n = due[0]
            callers[n].send(at)
            if len(callers[n].sent) < packets:
                heapq.heapreplace(due, (at + FRAME_NS, n))
            else:
                heapq.heappop(due)
            now = time.time_ns()
        until = due[0][0] if due else over
        for ready in select.select(ears, [], [], max(0, until - now) / 1e9)[0]:
            ears[ready].hear()
    gc.enable()


def quantile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


def show(name, values_ns):
    """How many ms the values are, from the least to the most."""
    values = sorted(value / 1e6 for value in values_ns)
    if not values:
        return print(f"  {name:<44} none")
    cuts = "  ".join(f"{what} {quantile(values, share):7.2f}"
                     for what, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)))
    print(f"  {name:<44} least {values[0]:6.2f}  {cuts}  most {values[-1]:7.2f}")


def shares(values):
    counted = collections.Counter(values)
    return ", ".join(f"{value} ms {100 * count / len(values):.0f} %" for value, count in sorted(counted.items()))


def every(of):
    return [value for values in of.values() for value in values]


def steady(seen, at):
    """What was seen of a call both before and after a moment; `None`: not the same."""
    behind = bisect.bisect(seen, (at,))
    if not 0 < behind < len(seen) or seen[behind - 1][1] != seen[behind][1]:
        return None
    return seen[behind][1]


def report(title, callers, heard, seen, counts_queue):
    """`heard`: when which payload came, of all calls. `counts_queue`: what the caller hears goes by the audio that waits for it."""
    whole, beyond, waits, behind = ({each.number: [] for each in callers} for _ in range(4))
    ticks = {each.number: sorted(stamp for stamp, _ in each.heard) for each in callers}
    sent = {each.number: each.sent for each in callers}
    known = {each.number: [] for each in callers}
    named = {each.phone.call: each.number for each in callers}
    for at, call, level, _, queue in seen:
        known[named[call]].append((at, (level, queue if counts_queue else 0)))
    counted, unreadable, unsteady = set(), 0, 0
    for stamp, payload in heard:
        name = named_by(payload)
        if name is None:
            # What the switch makes for want of a packet, and its silence before the first one.
            unreadable += 1
            continue
        caller, packet = name
        if not WARM_UP <= packet < len(sent[caller]) - IN_FLIGHT or name in counted:
            continue
        counted.add(name)
        began = sent[caller][packet]
        whole[caller].append(stamp - began)
        stands = steady(known[caller], began)
        if stands is None:
            unsteady += 1
            continue
        beyond[caller].append(stamp - began - sum(stands) * 1_000_000)
        if tick := bisect.bisect(ticks[caller], stamp):
            behind[caller].append(stamp - ticks[caller][tick - 1])
            waits[caller].append(beyond[caller][-1] - behind[caller][-1])
    wanted = sum(len(each.sent) - WARM_UP - IN_FLIGHT for each in callers)
    print(f"{title}: {len(callers)} calls, {wanted} packets, {wanted - len(counted)} of them never came; "
          f"{unreadable} payloads were none of theirs, the first seconds' included; ms")
    show("all of it", every(whole))
    of = "the level and the caller's queue" if counts_queue else "the level"
    show(f"beyond {of}", every(beyond))
    if not counts_queue:
        show("  of that, the wait for its tick", every(waits))
        show("  of that, from the tick to the bot", every(behind))
    print(f"  {unsteady} packets came while the level changed")
    counts = [each for each in seen if callers[0].sent[WARM_UP] <= each[0] <= callers[0].sent[-1]]
    print(f"  jitter buffers: level {shares([each[2] for each in counts])}; target {shares([each[3] for each in counts])}")
    if counts_queue:
        print(f"  audio that waits for the caller: {shares([each[4] for each in counts])}")
    for each in callers:
        values = sorted(value / 1e6 for value in beyond[each.number])
        levels = shares([level for _, call, level, _, _ in counts if call == each.phone.call])
        if values:
            print(f"    call {each.number:2}: beyond {of}: least {values[0]:6.2f}  p50 {quantile(values, 0.5):6.2f}  "
                  f"p99 {quantile(values, 0.99):6.2f}; level {levels}")


def measure(number, api, bot, count, seconds, pool):
    phones = [first_audio.Phone(SWITCH_AT) for _ in range(count)]
    for phone in phones:
        phone.dial(number)
    while number == BOT and len(bot.streams) < count:
        time.sleep(0.01)
    callers = [Caller(n, phone) for n, phone in enumerate(phones)]
    loop = Caller(count)
    packets = WARM_UP + seconds * PER_S + IN_FLIGHT
    watched = pool.submit(watch, api, [phone.call for phone in phones], packets // PER_S + 1)
    talk([*callers, loop], bot.streams if number == BOT else [], packets)
    seen = watched.result()
    for phone in phones:
        phone.hang_up()
    if number == BOT:
        heard = [each for stream in bot.streams for each in stream.heard()]
        report("RTP in to WebSocket out", callers, heard, seen, False)
    else:
        heard = [each for caller in callers for each in caller.heard]
        report("RTP in to RTP out, by the echo", callers, heard, seen, True)
    print("  the program itself")
    show("from a socket of its own to itself", [at - loop.sent[named_by(payload)[1]] for at, payload in loop.heard])
    show("packets left after they were due by", [late for each in callers for late in each.late[WARM_UP:]])
    if number == BOT:
        show("messages were read after their stamp by", [lag for stream in bot.streams for lag in stream.lags])
        for stream in bot.streams:
            stream.socket.close()
    sys.stdout.flush()


def ready(switch):
    """Address of the API, a key, and the tenant, as the demo says them once it runs."""
    for line in switch.stdout:
        if found := re.search(r"TANDEM_API=http://(\S+) TANDEM_API_KEY=(\S+) TANDEM_TENANT=(\S+)", line):
            return found.groups()
    sys.exit("the demo did not start")


def main():
    count, seconds = [*map(int, sys.argv[2:4]), *(10, 60)[len(sys.argv) - 2:]]
    if not 1 <= count <= 100:
        sys.exit("1 to 100 calls")
    bot = Bot()
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ProcessPoolExecutor(1, spawned) as pool:
        # The database of the demo runs as another user.
        os.chmod(folder, 0o755)
        switch = subprocess.Popen([sys.argv[1], "demo", "--data-dir", f"{folder}/demo"], stdout=subprocess.PIPE, text=True)
        try:
            api = ready(switch)
            measure(BOT, api, bot, count, seconds, pool)
            measure(ECHO, api, bot, count, seconds, pool)
        finally:
            switch.terminate()
            switch.wait(timeout=20)


if __name__ == "__main__":
    main()
