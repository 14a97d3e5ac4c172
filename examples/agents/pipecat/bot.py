"""A Pipecat bot that talks on the telephone: stock Pipecat, with pocketsphinx as its ears and hibari as its mouth, so
that no key and no network is needed. Any other services of Pipecat go in their places.

    examples/agents/run pipecat [--host 127.0.0.1] [--port 8765]

With TANDEM, TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN set it hangs up by Tandem's REST API, as it would by Twilio's;
without, by closing the stream.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    EndWorkerFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputTransportMessageFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import desk  # noqa: E402
from speech import EAR_RATE, RATE, Ear, Mouth  # noqa: E402

# 40 ms, as much as Pipecat sends at once.
CHUNK = RATE // 25
# A call's audio never pauses: where some comes late, a machine is busy, and what follows still belongs to it.
WITHOUT_GAPS = {"resampler_clear_after_secs": None}


def tell(what, text):
    print(f"{what} {text}", flush=True)


class SphinxSTT(SegmentedSTTService):
    """Ears: what the voice detector cut out is understood beside the pipeline."""

    def __init__(self, ear):
        settings = STTSettings(model=None, language=None)
        super().__init__(sample_rate=EAR_RATE, settings=settings, ttfs_p99_latency=1.0)
        self.ear = ear

    @property
    def wants_wav_segments(self):
        return False

    async def run_stt(self, audio):
        samples = np.frombuffer(audio, dtype=np.int16)
        heard = await asyncio.to_thread(self.ear.understand, samples)
        tell("HEARD", heard)
        yield TranscriptionFrame(heard or "?", "caller", time_now_iso8601())


class HibariTTS(TTSService):
    """A mouth."""

    def __init__(self, mouth):
        super().__init__(
            sample_rate=RATE,
            push_start_frame=True,
            push_stop_frames=True,
            stop_frame_timeout_s=0.2,
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self.mouth = mouth

    async def run_tts(self, text, context_id):
        audio = await asyncio.to_thread(self.mouth.say, text)
        for at in range(0, len(audio), CHUNK):
            chunk = audio[at : at + CHUNK].tobytes()
            yield TTSAudioRawFrame(chunk, RATE, 1, context_id=context_id)


class Desk(FrameProcessor):
    """Answers what was heard and what was pressed."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            await self.say(*desk.answer(frame.text))
        elif isinstance(frame, InputDTMFFrame):
            tell("KEY", frame.button.value)
            await self.say(*desk.answer_key(frame.button.value))
        else:
            await self.push_frame(frame, direction)
            if isinstance(frame, StartFrame):
                await self.say(desk.GREETING)

    async def say(self, text, is_last=False):
        tell("SAID", text)
        await self.push_frame(TTSSpeakFrame(text))
        if is_last:
            # Everything before it is said first; then the serializer hangs up.
            await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)


class Marks(FrameProcessor):
    """A mark behind each utterance, which comes back once the caller heard it."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.count = stream, 0

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, TTSStoppedFrame):
            self.count += 1
            mark = {"event": "mark", "streamSid": self.stream, "mark": {"name": f"said-{self.count}"}}
            await self.push_frame(OutputTransportMessageFrame(message=mark))


class Serializer(TwilioFrameSerializer):
    """Pipecat's own; it also tells of marks that came back, which that one reads over, and of clears."""

    async def serialize(self, frame):
        if isinstance(frame, InterruptionFrame):
            tell("CLEARED", "")
        return await super().serialize(frame)

    async def deserialize(self, data):
        message = json.loads(data)
        if message.get("event") == "mark":
            tell("PLAYED", message["mark"]["name"])
        return await super().deserialize(data)


def serializer(call):
    api, account = os.environ.get("TANDEM"), os.environ.get("TWILIO_ACCOUNT_SID")
    if not (api and account):
        return Serializer(call["stream_id"], params=Serializer.InputParams(auto_hang_up=False, **WITHOUT_GAPS))
    return Serializer(
        call["stream_id"],
        params=Serializer.InputParams(**WITHOUT_GAPS),
        call_sid=call["call_id"],
        account_sid=account,
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        # The one line that is not as with Twilio.
        base_url=api,
    )


async def converse(socket, ear, mouth):
    _, call = await parse_telephony_websocket(socket)
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=serializer(call))
    transport = FastAPIWebsocketTransport(websocket=socket, params=params)
    voice = SileroVADAnalyzer(params=VADParams(confidence=0.6, start_secs=0.15, stop_secs=0.5, min_volume=0.3))
    turns = UserTurnStrategies(
        start=[VADUserTurnStartStrategy(enable_interruptions=True)],
        stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.1, wait_for_transcript=False)],
    )
    pipeline = Pipeline([
        transport.input(),
        # Nor did anybody stop speaking then.
        VADProcessor(vad_analyzer=voice, audio_idle_timeout=0),
        UserTurnProcessor(user_turn_strategies=turns),
        SphinxSTT(ear),
        Desk(),
        HibariTTS(mouth),
        Marks(call["stream_id"]),
        transport.output(),
    ])
    rates = PipelineParams(audio_in_sample_rate=EAR_RATE, audio_out_sample_rate=RATE)
    worker = PipelineWorker(pipeline, params=rates, enable_rtvi=False)

    @transport.event_handler("on_client_disconnected")
    async def gone(_transport, _socket):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    tell("OVER", call["call_id"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level=os.environ.get("LOGURU_LEVEL", "WARNING"))
    # Once for all calls: they take seconds to load.
    ear, mouth = Ear(), Mouth()
    app = FastAPI()

    @app.websocket("/{path:path}")
    async def take(socket: WebSocket):
        await socket.accept()
        await converse(socket, ear, mouth)

    server = uvicorn.Server(uvicorn.Config(app, host=args.host, port=args.port, log_level="warning"))

    async def serve():
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.05)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            tell("LISTENING", f"ws://{args.host}:{port}/")
        await serving

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


main()
