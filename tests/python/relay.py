"""Passes connections to ADDRESS PORT on to the unix socket PATH, as a host of its own would have it."""

import asyncio
import sys

ADDRESS, PORT, PATH = sys.argv[1:]


async def carry(reader, writer):
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def relay(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_unix_connection(PATH)
    except OSError:
        writer.close()
        return
    await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))


async def main():
    server = await asyncio.start_server(relay, ADDRESS, int(PORT))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
