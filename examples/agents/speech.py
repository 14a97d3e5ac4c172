"""Ears and a mouth for the bots: pocketsphinx hears, hibari speaks. Both bring their models along."""

import desk
import numpy as np
from hibari import SAMPLE_RATE, Hibari
from pocketsphinx import Decoder

RATE = 8000
EAR_RATE = 16000
PEAK = 0.5


def filtered(samples, cut_hz, rate):
    """Without what lies above `cut_hz`."""
    n = np.arange(-48, 49)
    kernel = np.sinc(2 * cut_hz / rate * n) * np.hamming(len(n))
    return np.convolve(samples, kernel / kernel.sum(), mode="same")


class Mouth:
    """Says texts: 16 bits at 8 kHz. What was said once is kept."""

    def __init__(self):
        self.voice = Hibari(voice="heart")
        self.said = {}
        for text in desk.texts():
            self.say(text)

    def say(self, text):
        if text not in self.said:
            audio = np.asarray(self.voice(text, seed=1), dtype=float)
            audio = filtered(audio, 3400, SAMPLE_RATE)[:: SAMPLE_RATE // RATE]
            audio = audio * PEAK / max(np.abs(audio).max(), 1e-6)
            self.said[text] = np.round(audio * 32767).astype(np.int16)
        return self.said[text]


class Ear:
    """Finds out what was said, of what the desk's grammar knows."""

    def __init__(self):
        self.decoder = Decoder(samprate=EAR_RATE, logfn="/dev/null", lm=None)
        self.decoder.add_jsgf_string("desk", desk.GRAMMAR)
        self.decoder.activate_search("desk")

    def understand(self, samples):
        """16 bits at 16 kHz; of 8 kHz see `doubled`. Empty: nothing that it knows."""
        self.decoder.start_utt()
        self.decoder.process_raw(samples.tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return found.hypstr if found else ""


def doubled(samples):
    """The same at 16 kHz."""
    twice = np.zeros(2 * len(samples))
    twice[::2] = samples
    return np.clip(2 * filtered(twice, 3700, EAR_RATE), -32768, 32767).astype(np.int16)
