"""How soon what a bot says over its WebSocket is on the wire as RTP.

    python3 benches/load/websocket-to-rtp.py HOST:PORT [NUMBER [UTTERANCES [BOT_HOST:PORT]]]

The switch (`tandem demo`: number +15550108, bot at 127.0.0.1:8765) is called once, and this program is caller and bot.
Half of the utterances come as one message of 200 ms, which is more than the pre-roll of 60 ms, the others in messages of
20 ms at the pace of speech; a pause of half a second is between them, and they begin at any moment of the switch's 20 ms.
Measured from the first message written to the first packet of RTP with a sound in it, at the sockets of this program.
"""

import base64
import hashlib
import importlib.util
import json
import os
import random
import socket
import sys
import threading
import time

PAUSE_S = 0.5
LENGTH_MS = 200
LOUD = bytes([0x10])

spec = importlib.util.spec_from_file_location(
    "first_audio", os.path.join(os.path.dirname(os.path.abspath(__file__)), "first-audio.py")
)
first_audio = importlib.util.module_from_spec(spec)
spec.loader.exec_module(first_audio)


class Bot:
    """The server of one stream: what comes by it is read and forgotten."""

    def __init__(self, address):
        self.listener = socket.create_server(address)
        self.stream = None
        self.lock = threading.Lock()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        stream, _ = self.listener.accept()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += stream.recv(4096)
        fields = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if ": " in line)
        key = next(value for name, value in fields.items() if name.lower() == "sec-websocket-key")
        # RFC 6455 section 4.2.2.
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        stream.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.stream = stream
        waiting = b""
        while got := stream.recv(65536):
            waiting = self.read(waiting + got)

    def read(self, waiting):
        """Answers pings; the rest is forgotten. Gives what is no whole frame yet (RFC 6455 section 5.2)."""
        while len(waiting) >= 6:
            length, start = waiting[1] & 0x7F, 6
            if length == 126:
                length, start = int.from_bytes(waiting[2:4], "big"), 8
            if len(waiting) < start + length:
                break
            payload = waiting[start : start + length]
            if waiting[0] & 0x0F == 0x9:
                mask = waiting[start - 4 : start]
                pong = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
                self.send(0x8A, pong)
            waiting = waiting[start + length :]
        return waiting

    def send(self, kind, payload):
        length = len(payload)
        head = bytes([kind, length]) if length < 126 else bytes([kind, 126]) + length.to_bytes(2, "big")
        with self.lock:
            self.stream.sendall(head + payload)

    def say(self, ms):
        payload = base64.b64encode(LOUD * 8 * ms).decode()
        text = json.dumps({"event": "media", "media": {"payload": payload}}).encode()
        self.send(0x81, text)


def utterance(phone, bot, is_paced):
    """From the first message to the first sound, in seconds."""
    begun = time.perf_counter()
    pieces = LENGTH_MS // 20 if is_paced else 1
    said, at = 0, None
    while at is None:
        while said < pieces and time.perf_counter() >= begun + 0.02 * said:
            bot.say(LENGTH_MS // pieces)
            said += 1
        heard = phone.hear()
        if heard and first_audio.has_sound(heard[0]):
            at = heard[1]
        if time.perf_counter() - begun > first_audio.PATIENCE_S:
            raise TimeoutError("no sound")
    while said < pieces:
        bot.say(LENGTH_MS // pieces)
        said += 1
    over = time.perf_counter() + LENGTH_MS / 1000 + PAUSE_S + random.random() * 0.02
    while time.perf_counter() < over:
        phone.hear()
    return at - begun


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    number = sys.argv[2] if len(sys.argv) > 2 else "+15550108"
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    bot = Bot(address(sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1:8765"))
    phone = first_audio.Phone(address(sys.argv[1]))
    phone.dial(number)
    over = time.perf_counter() + 1.0
    while time.perf_counter() < over:
        phone.hear()
    times = {False: [], True: []}
    for turn in range(count):
        times[turn % 2 == 1].append(utterance(phone, bot, turn % 2 == 1))
    phone.hang_up()
    print(f"{count} utterances over {number}, ms")
    first_audio.show("200 ms at once", times[False])
    first_audio.show("20 ms at a time", times[True])


main()
