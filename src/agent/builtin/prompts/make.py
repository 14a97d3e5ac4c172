"""Speaks the built-in prompts: μ-law at 8 kHz, one file each, with their hashes.

    python3 -m venv v && v/bin/pip install hibari-tts==0.2.1 scipy==1.17.1 && v/bin/python make.py

The voice is that of hibari-tts (Apache-2.0; LICENSE and NOTICE beside this file).
"""

import hashlib
import pathlib

import numpy as np
from hibari import SAMPLE_RATE, Hibari
from scipy.signal import butter, resample_poly, sosfiltfilt

PROMPTS = {
    "greeting": "Hello, and thank you for calling. How can I help you?",
    "more": "I see. Please tell me a little more about that.",
    "noted": "Thank you, I have noted it. Is there anything else I can do for you?",
    "there": "Are you still there?",
    "goodbye": "Thank you for your call. Goodbye.",
    "message": "Nobody can take your call at the moment. Please leave a message after the tone.",
    "wrong": "I am sorry, that is not a choice.",
}
PEAK = 0.5
HERE = pathlib.Path(__file__).parent


def ulaw(samples):
    """G.711 by its definition: sign, the segment of the biased magnitude, four bits below it, inverted."""
    linear = np.clip(np.round(samples * 32767), -32635, 32635).astype(int)
    biased = np.abs(linear) + 132
    segment = np.floor(np.log2(biased)).astype(int) - 7
    low = (biased >> (segment + 3)) & 15
    return (~(np.where(linear < 0, 128, 0) | segment << 4 | low) & 255).astype(np.uint8)


def main():
    tts = Hibari(voice="heart")
    band = butter(4, [250, 3450], "bandpass", fs=SAMPLE_RATE, output="sos")
    lines = []
    for name, text in PROMPTS.items():
        audio = np.asarray(tts(text, seed=1), dtype=float)
        audio = resample_poly(sosfiltfilt(band, audio), 8000, SAMPLE_RATE)
        audio = ulaw(audio * PEAK / np.abs(audio).max()).tobytes()
        (HERE / f"{name}.ulaw").write_bytes(audio)
        lines.append(f"{hashlib.sha256(audio).hexdigest()}  {name}.ulaw\n")
    (HERE / "SHA256SUMS").write_text("".join(lines))


main()
