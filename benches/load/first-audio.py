"""How soon a switch says 100, and how soon after its ACK a caller hears something: one call after the other.

    python3 benches/load/first-audio.py HOST:PORT [NUMBER [CALLS]]

The caller sends audio from its ACK on, as telephones do. Everything is measured at the caller's sockets: from the INVITE written to the first 100 read, from the ACK written to
the first packet of RTP with a sound in it (a sample of more than 1 % of full scale), and to the first packet at all.
"""

import os
import select
import socket
import statistics
import struct
import sys
import time

SOUND = 327
PATIENCE_S = 5.0


def decoded(code):
    code = 255 - code
    magnitude = (((code & 15) << 3) + 132 << (code >> 4 & 7)) - 132
    return magnitude


LOUD = bytes(code for code in range(256) if decoded(code) > SOUND)


def has_sound(payload):
    return any(byte in LOUD for byte in payload)


class Phone:
    def __init__(self, switch):
        self.switch = switch
        self.sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for each in (self.sip, self.rtp):
            each.bind(("127.0.0.1", 0))

    def request(self, method, cseq, to_tag="", body=""):
        host, port = self.sip.getsockname()
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} {self.target} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{os.urandom(8).hex()}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:+15550177@{host}>;tag={self.call[:8]}\r\nTo: <{self.called}>{to_tag}\r\n"
            f"Call-ID: {self.call}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{host}:{port}>\r\n{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def until(self, wanted, since):
        while True:
            left = PATIENCE_S - (time.perf_counter() - since)
            if not select.select([self.sip], [], [], max(left, 0))[0]:
                raise TimeoutError(f"no {wanted}")
            text = self.sip.recv(65535).decode()
            at = time.perf_counter()
            status = text.split(" ", 2)[1]
            if status == wanted:
                return at, text
            if status >= "300":
                raise RuntimeError(text.split("\r\n")[0])

    def dial(self, number):
        """Dials and is answered: when the INVITE left, the 100 came, and the ACK left."""
        self.called = self.target = f"sip:{number}@{self.switch[0]}:{self.switch[1]}"
        self.call = os.urandom(12).hex()
        host, port = self.rtp.getsockname()
        offer = (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        )
        begun = time.perf_counter()
        self.sip.sendto(self.request("INVITE", 1, body=offer), self.switch)
        trying, _ = self.until("100", begun)
        _, answer = self.until("200", begun)
        headers = dict(line.split(": ", 1) for line in answer.split("\r\n\r\n")[0].split("\r\n")[1:])
        self.tag = headers["To"][headers["To"].index(";tag="):]
        self.target = headers["Contact"].split("<")[1].split(">")[0]
        described = answer.split("\r\n\r\n", 1)[1]
        port = int(described.split("m=audio ")[1].split(" ")[0])
        self.media = (described.split("c=IN IP4 ")[1].split("\r\n")[0], port)
        self.sip.sendto(self.request("ACK", 1, self.tag), self.switch)
        self.acked, self.sent = time.perf_counter(), 0
        return begun, trying, self.acked

    def hear(self):
        """The next packet and when it came, or None within 5 ms; sends what is due meanwhile, as a telephone does."""
        while time.perf_counter() >= self.acked + 0.02 * self.sent:
            header = struct.pack("!BBHII", 0x80, 0, self.sent & 0xFFFF, 160 * self.sent, 7)
            self.rtp.sendto(header + bytes([0xFF] * 160), self.media)
            self.sent += 1
        if not select.select([self.rtp], [], [], 0.005)[0]:
            return None
        packet = self.rtp.recv(2048)
        return packet[12:], time.perf_counter()

    def hang_up(self):
        self.sip.sendto(self.request("BYE", 2, self.tag), self.switch)
        self.until("200", time.perf_counter())
        # What still came of this call is not of the next one.
        while select.select([self.rtp], [], [], 0.03)[0]:
            self.rtp.recv(2048)

    def place(self, number):
        begun, trying, acked = self.dial(number)
        first = None
        while True:
            heard = self.hear()
            if time.perf_counter() - acked > PATIENCE_S:
                raise TimeoutError("no sound")
            if heard:
                payload, at = heard
                first = first or at
                if has_sound(payload):
                    break
        self.hang_up()
        return trying - begun, first - acked, at - acked


def show(name, values):
    cuts = statistics.quantiles(values, n=100)
    p50, p90, p99 = (1000 * cuts[n - 1] for n in (50, 90, 99))
    print(f"{name:<24} p50 {p50:6.1f}  p90 {p90:6.1f}  p99 {p99:6.1f}  at most {1000 * max(values):6.1f}")


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    number = sys.argv[2] if len(sys.argv) > 2 else "+15550102"
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 300
    phone = Phone((host, int(port)))
    calls = [phone.place(number) for _ in range(count)]
    names = ("INVITE to 100", "ACK to the first packet", "ACK to the first sound")
    print(f"{count} calls to {number}, ms")
    for name, values in zip(names, zip(*calls)):
        show(name, values)


if __name__ == "__main__":
    main()
