"""A TCP proxy that spreads connections over targets, and whose network can be made to fail."""

import asyncio
import contextlib
import dataclasses
import itertools
import random
import threading

CHUNK_BYTES = 64 * 1024

# How often a connection looks whether it carries bytes again.
STALL_SECONDS = 0.02

# What happens to a connection on which something is sent.
CUT_BEFORE, CUT_IN_REQUEST, CUT_BEFORE_ANSWER, CUT_IN_ANSWER = "before", "in request", "before answer", "in answer"
CUTS = (CUT_BEFORE, CUT_IN_REQUEST, CUT_BEFORE_ANSWER, CUT_IN_ANSWER)


class Loop:
    """Runs all proxies, in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


LOOP = Loop()


@dataclasses.dataclass(eq=False)
class Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: str | None = None

    def abort(self):
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own. All attributes may be changed while it runs."""

    def __init__(self, targets, cut_share=0.0, seed=1):
        # Addresses, each a pair of host and port.
        self.targets = list(targets)
        # The share of what clients send that meets one of CUTS.
        self.cut_share = cut_share
        self.random = random.Random(seed)
        self.delay_seconds = 0.0
        # If one is off, its bytes wait, as if the network were cut in one direction.
        self.carries_requests = self.carries_answers = True
        self.counts = dict.fromkeys(CUTS, 0)
        self.turn = itertools.count()
        self.connections = set()
        self.server = LOOP.run(asyncio.start_server(self.accept, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self):
        self.cut_all()
        LOOP.loop.call_soon_threadsafe(self.server.close)

    def cut_all(self):
        async def cut():
            for connection in list(self.connections):
                connection.abort()

        LOOP.run(cut())

    async def connect(self):
        """A connection to the next target that accepts one."""
        first, targets = next(self.turn), list(self.targets)
        for number in range(len(targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*targets[(first + number) % len(targets)])
        return None

    async def accept(self, reader, writer):
        connected = await self.connect()
        if not connected:
            writer.transport.abort()
            return
        answers, server = connected
        connection = Connection(writer, server)
        self.connections.add(connection)
        try:
            await asyncio.gather(
                self.requests(reader, connection), self.answers(answers, connection)
            )
        except OSError:
            pass
        finally:
            self.connections.discard(connection)
            connection.abort()

    async def requests(self, reader, connection):
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.delay_seconds)
            while not self.carries_requests:
                await asyncio.sleep(STALL_SECONDS)
            if self.random.random() < self.cut_share:
                connection.cut = self.random.choice(CUTS)
                self.counts[connection.cut] += 1
            if connection.cut == CUT_IN_REQUEST:
                chunk = chunk[: self.random.randrange(len(chunk))]
            if connection.cut != CUT_BEFORE:
                connection.server.write(chunk)
                await connection.server.drain()
            if connection.cut in (CUT_BEFORE, CUT_IN_REQUEST):
                # What was written before still arrives.
                connection.server.close()
                connection.client.transport.abort()
                return
        connection.server.write_eof()

    async def answers(self, reader, connection):
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.delay_seconds)
            while not self.carries_answers:
                await asyncio.sleep(STALL_SECONDS)
            if connection.cut == CUT_IN_ANSWER:
                connection.client.write(chunk[: self.random.randrange(len(chunk))])
                await connection.client.drain()
            if connection.cut:
                connection.abort()
                return
            connection.client.write(chunk)
            await connection.client.drain()
        connection.client.close()
