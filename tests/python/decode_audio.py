"""Decodes a file with FFmpeg's libraries (PyAV): interleaved 16-bit stereo at the rate given, to stdout."""

import sys

import av


def main() -> None:
    path, rate = sys.argv[1], int(sys.argv[2])
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=rate)
    out = sys.stdout.buffer
    with av.open(path) as source:
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                out.write(bytes(piece.planes[0])[: piece.samples * 4])
    for piece in resampler.resample(None):
        out.write(bytes(piece.planes[0])[: piece.samples * 4])


main()
