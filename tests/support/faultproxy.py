"""A TCP proxy that misbehaves: toxiproxy's eight toxics, in the test's own process, on a free port.

`latency`, `down`, `bandwidth`, `slow_close`, `timeout`, `reset_peer`, `slicer` and `limit_data` mean what they mean there
(https://github.com/Shopify/toxiproxy), in milliseconds, kilobytes and bytes; each acts on one direction: `downstream` is what
the server says, `upstream` what the client says. `limit_data` may end with a reset instead of an orderly end.

    with FaultProxy(mock.port) as proxy:
        proxy.add("latency", latency=200)
        proxy.clear()

A test that wants a fault per request gives `choose`: it sees what the client sends, at most 64 KiB at a time, and returns the
toxics that hold from there on for that connection, or `None` to leave them as they are. With `tls` the proxy ends TLS before
the port, and `connections` are handshakes that the client brought to their end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import ssl
import struct
import threading
from typing import Any, Callable, Coroutine, Iterator

CHUNK = 64 * 1024
DEFAULTS: dict[str, dict[str, Any]] = {
    "latency": {"latency": 0, "jitter": 0},
    "down": {},
    "bandwidth": {"rate": 1},
    "slow_close": {"delay": 1000},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 1, "size_variation": 0, "delay": 0},
    "limit_data": {"bytes": 0, "reset": False},
}


@dataclasses.dataclass(frozen=True)
class Toxic:
    """One fault: its kind, its direction and its numbers."""

    kind: str
    stream: str
    of: dict[str, Any]


def toxic(kind: str, stream: str = "downstream", **of: Any) -> Toxic:
    """A fault with the numbers that are not given at their defaults."""
    unknown = set(of) - set(DEFAULTS[kind])
    assert not unknown and stream in ("downstream", "upstream"), (kind, stream, unknown)
    return Toxic(kind, stream, {**DEFAULTS[kind], **of})


Choose = Callable[[bytes], "list[Toxic] | None"]


class Link:
    """One connection through the proxy: two pumps, and the faults that are its own."""

    def __init__(self, proxy: FaultProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter):
        self.proxy, self.writers = proxy, (client, server)
        self.pumps: list[asyncio.Task[None]] = []
        self.own: list[Toxic] | None = None
        self.sent = 0

    def toxics(self, stream: str) -> list[Toxic]:
        held = self.proxy.toxics if self.own is None else self.own
        return [one for one in held if one.stream == stream]

    def reset(self) -> None:
        """Closes both sides so that both read a reset (RFC 9293, 3.10.7; SO_LINGER 0)."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: str) -> None:
        """Carries one direction until somebody ends it."""
        while True:
            data = await reader.read(CHUNK)
            if stream == "upstream" and data and self.proxy.choose is not None:
                chosen = self.proxy.choose(data)
                if chosen is not None:
                    self.own, self.sent = chosen, 0
            if not data:
                for one in self.toxics(stream):
                    if one.kind == "slow_close":
                        await asyncio.sleep(one.of["delay"] / 1e3)
                with contextlib.suppress(OSError):
                    # TLS has no half-closed connections.
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                return
            if not await self.carry(data, writer, stream):
                return

    async def carry(self, data: bytes, writer: asyncio.StreamWriter, stream: str) -> bool:
        """Writes a piece under the faults of its direction. False when the connection was broken."""
        for one in self.toxics(stream):
            if one.kind == "latency":
                spread = random.uniform(-1, 1) * one.of["jitter"]
                await asyncio.sleep(max(0.0, one.of["latency"] + spread) / 1e3)
            elif one.kind in ("timeout", "reset_peer"):
                if one.kind == "timeout" and not one.of["timeout"]:
                    await asyncio.Event().wait()
                await asyncio.sleep(one.of["timeout"] / 1e3)
                self.reset() if one.kind == "reset_peer" else self.close()
                return False
            elif one.kind == "limit_data":
                room = one.of["bytes"] - self.sent
                if len(data) > room:
                    writer.write(data[:room])
                    await writer.drain()
                    self.reset() if one.of["reset"] else self.close()
                    return False
        self.sent += len(data) if stream == "downstream" else 0
        for piece, pause in self.pieces(data, stream):
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        return True

    def pieces(self, data: bytes, stream: str) -> Iterator[tuple[bytes, float]]:
        """The pieces that `slicer` and `bandwidth` cut, with the pause after each."""
        for one in self.toxics(stream):
            at = 0
            if one.kind == "slicer":
                while at < len(data):
                    size = one.of["average_size"] + random.randint(-one.of["size_variation"], one.of["size_variation"])
                    yield data[at:at + max(1, size)], one.of["delay"] / 1e6
                    at += max(1, size)
                return
            if one.kind == "bandwidth":
                # A tenth of a second at a time, as toxiproxy does it.
                size = max(1, int(one.of["rate"] * 100))
                for at in range(0, len(data), size):
                    piece = data[at:at + size]
                    yield piece, len(piece) / (one.of["rate"] * 1000)
                return
        yield data, 0.0


class FaultProxy:
    """A proxy before one port of this machine. Its event loop lives in a thread of its own."""

    def __init__(self, upstream: int, choose: Choose | None = None, tls: ssl.SSLContext | None = None):
        self.upstream, self.choose, self.tls = upstream, choose, tls
        self.toxics: list[Toxic] = []
        self.connections = 0
        self.links: set[Link] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server: asyncio.Server | None = None
        self.port = self.call(self.listen(0))
        self.url = f"http://127.0.0.1:{self.port}"

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def listen(self, port: int) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=1024, ssl=self.tls)
        found: int = self.server.sockets[0].getsockname()[1]
        return found

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            other, into = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, into)
        self.links.add(link)
        pumps = link.pumps = [asyncio.ensure_future(link.pump(reader, into, "upstream")),
                              asyncio.ensure_future(link.pump(other, writer, "downstream"))]
        # A side that ended may still read; a connection that broke takes both pumps along.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        broken = any(pump.done() and (pump.cancelled() or pump.exception()) for pump in pumps)
        if not (broken or writer.transport.is_closing() or into.transport.is_closing()):
            await asyncio.wait(pumps)
        for pump in pumps:
            pump.cancel()
        for result in await asyncio.gather(*pumps, return_exceptions=True):
            assert result is None or isinstance(result, (OSError, asyncio.CancelledError)), result
        link.close()
        self.links.discard(link)

    def add(self, kind: str, stream: str = "downstream", **of: Any) -> None:
        """Adds a fault for every connection, those that are open included. `down` breaks them and takes no new ones."""
        self.toxics = [*self.toxics, toxic(kind, stream, **of)]
        if kind == "down":
            self.call(self.down())

    def clear(self) -> None:
        """Takes every fault away; after `down` the proxy listens on its port again."""
        was_down = any(one.kind == "down" for one in self.toxics)
        self.toxics = []
        if was_down:
            self.call(self.listen(self.port))

    async def down(self) -> None:
        if self.server:
            self.server.close()
        for link in list(self.links):
            link.reset()

    async def stop(self) -> None:
        await self.down()
        for link in list(self.links):
            for pump in link.pumps:
                pump.cancel()
        mine = asyncio.current_task()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not mine), return_exceptions=True)

    def kill(self) -> None:
        self.call(self.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
