"""A bot that talks on the telephone, in plain Python: it hears with pocketsphinx and speaks with hibari, both of
which bring their models along. It speaks Twilio Media Streams, as Tandem does.

    examples/agents/run plain [--host 127.0.0.1] [--port 8765]
"""

import argparse
import asyncio
import base64
import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import websockets

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import desk  # noqa: E402
from speech import Ear, Mouth, doubled  # noqa: E402

FRAME = 160  # samples of 20 ms
LOUD_ABOVE_NOISE = 4.0  # speech is so much louder than what is heard otherwise
LOUDNESS_MIN = 200.0
ONSET_FRAMES = 4  # 80 ms of it begin an utterance
SILENCE_FRAMES = 35  # 700 ms of silence end it
PRE_ROLL_FRAMES = 15  # so much is heard from before its begin
UTTERANCE_FRAMES_MAX = 750
PATIENCE_FRAMES = 400  # 8 s of nothing, and we ask

# Recognising and speaking take tens of milliseconds of a processor: beside the calls, one after the other.
workers = ThreadPoolExecutor(max_workers=1)


def ulaw_tables():
    """G.711 by its definition: both ways."""
    codes = np.arange(256)
    inverted = 255 - codes
    magnitude = (((inverted & 15) << 3) + 132 << (inverted >> 4 & 7)) - 132
    decoded = np.where(codes < 128, -magnitude, magnitude).astype(np.int16)
    linear = np.arange(-32768, 32768)
    biased = np.minimum(np.abs(linear), 32635) + 132
    segment = np.floor(np.log2(biased)).astype(int) - 7
    encoded = ~(np.where(linear < 0, 128, 0) | segment << 4 | (biased >> segment + 3) & 15) & 255
    return decoded, encoded.astype(np.uint8)


DECODED, ENCODED = ulaw_tables()


class Endpointer:
    """Cuts what the caller says out of what is heard: by loudness, against the noise of the line."""

    def __init__(self):
        self.noise = 50.0
        self.loud_frames = 0
        self.silent_frames = 0
        self.frames = []
        self.speaks = False

    def hear(self, frame):
        """20 ms. "began", "ended", or None."""
        loudness = float(np.sqrt(np.mean(frame.astype(float) ** 2)))
        loud = loudness > max(LOUDNESS_MIN, self.noise * LOUD_ABOVE_NOISE)
        self.noise = min(loudness, self.noise * 1.01) if not self.speaks else self.noise
        self.noise = max(self.noise, 10.0)
        self.frames.append(frame)
        if not self.speaks:
            self.loud_frames = self.loud_frames + 1 if loud else 0
            del self.frames[:-PRE_ROLL_FRAMES]
            self.speaks = self.loud_frames >= ONSET_FRAMES
            self.silent_frames = 0
            return "began" if self.speaks else None
        self.silent_frames = 0 if loud else self.silent_frames + 1
        if self.silent_frames < SILENCE_FRAMES and len(self.frames) < UTTERANCE_FRAMES_MAX:
            return None
        self.speaks, self.loud_frames = False, 0
        return "ended"

    def take(self):
        said, self.frames = np.concatenate(self.frames), []
        return said


class Call:
    """One call: from its stream's begin to its end."""

    def __init__(self, socket, ear, mouth):
        self.socket, self.ear, self.mouth = socket, ear, mouth
        self.stream = None
        self.endpointer = Endpointer()
        self.playing = None  # the mark behind what is being said
        self.marks = 0
        self.quiet_frames = 0
        self.asked = False
        self.is_last = False
        self.thinking = None

    async def run(self):
        async for text in self.socket:
            message = json.loads(text)
            event = message.get("event")
            if event == "start":
                self.stream = message["streamSid"]
                await self.say(desk.GREETING)
            elif event == "media":
                await self.hear(base64.b64decode(message["media"]["payload"]))
            elif event == "dtmf":
                await self.key(message["dtmf"]["digit"])
            elif event == "mark" and message["mark"]["name"] == self.playing:
                print(f"PLAYED {self.playing}", flush=True)
                self.playing = None
                if self.is_last:
                    # Closing is hanging up.
                    return
            elif event == "stop":
                return

    async def send(self, event, **more):
        await self.socket.send(json.dumps({"event": event, "streamSid": self.stream, **more}))

    async def say(self, text, is_last=False):
        loop = asyncio.get_running_loop()
        audio = await loop.run_in_executor(workers, self.mouth.say, text)
        audio = ENCODED[audio.astype(int) + 32768].tobytes()
        print(f"SAID {text}", flush=True)
        self.marks += 1
        self.playing, self.is_last = str(self.marks), is_last
        # All at once: the switch has the clock.
        await self.send("media", media={"payload": base64.b64encode(audio).decode()})
        await self.send("mark", mark={"name": self.playing})

    async def hush(self):
        if self.playing and not self.is_last:
            self.playing = None
            await self.send("clear")

    async def hear(self, ulaw):
        for at in range(0, len(ulaw) - FRAME + 1, FRAME):
            frame = DECODED[np.frombuffer(ulaw[at : at + FRAME], dtype=np.uint8)]
            change = self.endpointer.hear(frame)
            if change == "began":
                await self.hush()
            if change == "ended" and not self.is_last:
                said = self.endpointer.take()
                if self.thinking:
                    self.thinking.cancel()
                self.thinking = asyncio.create_task(self.reply(said))
        await self.count_quiet()

    async def count_quiet(self):
        busy = self.playing or self.endpointer.speaks or (self.thinking and not self.thinking.done())
        self.quiet_frames = 0 if busy else self.quiet_frames + 1
        if self.quiet_frames >= PATIENCE_FRAMES:
            self.quiet_frames = 0
            await self.say(desk.GOODBYE if self.asked else desk.STILL_THERE, self.asked)
            self.asked = True

    async def reply(self, said):
        loop = asyncio.get_running_loop()
        heard = await loop.run_in_executor(workers, self.ear.understand, doubled(said))
        print(f"HEARD {heard}", flush=True)
        self.asked = False
        await self.say(*desk.answer(heard))

    async def key(self, key):
        await self.hush()
        await self.say(*desk.answer_key(key))


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    ear, mouth = Ear(), Mouth()

    async def take(socket):
        call = Call(socket, ear, mouth)
        try:
            await call.run()
        except websockets.ConnectionClosed:
            pass
        finally:
            if call.thinking:
                call.thinking.cancel()

    async with websockets.serve(take, args.host, args.port) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"LISTENING ws://{args.host}:{port}/", flush=True)
        await server.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
