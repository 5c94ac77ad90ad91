"""Rows 30 and 32 of the fault catalogue, as far as they are about load: more work than there is room for, and HTTP/2 clients who
leave no room for their answers. `test_faults_catalogue.py` lists every row with its tests.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import select
import socket
import struct
import time
from typing import Any, Callable, Iterator

import harness
from rig import PATHS, body_of
from test_faults_clients import Small, most_files, resident, small  # noqa: F401

KIB, MIB = 1 << 10, 1 << 20


def keys() -> list[dict[str, Any]]:
    return [{"name": "caller", "key": "${KEY}", "scopes": ["*"], "priority": "batch"},
            {"name": "desk", "key": "${ROOT}", "scopes": ["*"], "priority": "interactive"}]


def posted(key: str, body: bytes, path: str = PATHS["chat"]) -> bytes:
    return (f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode() + body


class Crowd:
    """Connections that have each sent the same request, answered or not."""

    def __init__(self, port: int, request: bytes, count: int):
        def send(_: int) -> socket.socket:
            link = socket.create_connection(("127.0.0.1", port), timeout=harness.PATIENCE)
            with contextlib.suppress(ConnectionError):  # Refused before all of it was written.
                link.sendall(request)
            return link

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            self.links = list(pool.map(send, range(count)))
        self.answers: dict[int, bytes] = {}

    def read(self, quiet: float) -> None:
        """Reads what comes, until nothing has come for a while."""
        waiting = {link.fileno(): link for n, link in enumerate(self.links) if n not in self.answers}
        numbers = {link.fileno(): n for n, link in enumerate(self.links)}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        while waiting and (events := poll.poll(quiet * 1_000)):
            for number, _ in events:
                try:
                    said = waiting[number].recv(64 * KIB)
                except ConnectionError:
                    said = b""
                known = self.answers.get(numbers[number], b"")
                self.answers[numbers[number]] = known + said
                if not said:
                    poll.unregister(number)
                    del waiting[number]

    def close(self) -> None:
        for link in self.links:
            link.close()


@contextlib.contextmanager
def crowd(port: int, request: bytes, count: int) -> Iterator[Crowd]:
    made = Crowd(port, request, count)
    try:
        yield made
    finally:
        made.close()


def test_a4_30_thousands_of_large_bodies_hold_a_bounded_memory_and_people_get_through(small: Callable[..., Small]) -> None:  # noqa: F811
    bound, size = 64 * MIB, 256 * KIB
    count = min(4_000, most_files() - 500)
    house = small(server={"max_in_flight_bytes": "64MiB"}, keys=keys())
    batch, desk = house.env["KEY"], house.env["ROOT"]
    slow = body_of("chat", "m", "x" * size, False, mock={"latency_ms": 600_000})
    quick = lambda: house.gateway.post(PATHS["chat"], body_of("chat", "m", "hello", False), desk)  # noqa: E731
    assert quick().status == 200
    before = resident(house.gateway.child.pid)
    with crowd(house.gateway.port, posted(batch, json.dumps(slow).encode()), count) as many:
        most = resident(house.gateway.child.pid)
        took = []
        for _ in range(30):
            begin = time.monotonic()
            reply = quick()
            took.append(time.monotonic() - begin)
            assert reply.status == 200, reply.text
            most = max(most, resident(house.gateway.child.pid))
        for path in ("/livez", "/readyz", "/metrics"):
            assert house.gateway.get(path).status == 200, path
        assert house.gateway.get("/admin/v1/requests?limit=1", desk).status == 200
        many.read(quiet=3.0)
        most = max(most, resident(house.gateway.child.pid))
        told = [answer for answer in many.answers.values() if answer.startswith(b"HTTP/1.1 503")]
        inside = count - len(many.answers)
        assert all(b'"overloaded"' in answer and b"\r\nx-should-retry: true\r\n" in answer.lower() for answer in told)
        assert all(b"\r\nretry-after: 5\r\n" in answer.lower() for answer in told)
        # Batch work may fill 70 % of the bound; what is inside is exactly what fits there.
        assert 0.6 * bound / size < inside <= 0.7 * bound / size, inside
        assert house.mock.stats()["in_flight"] == inside
        # A reset may overtake a refusal that a client has not read yet.
        assert len(told) > 0.9 * (count - inside), (len(told), count, inside)
        assert sorted(took)[len(took) // 2] < 2.0, took
    # Offered were 1,000 MiB. Beside the bodies stand connections, what goes to the vendor, and records.
    print(f"{inside} bodies of {size // KIB} KiB inside; {(most - before) / MIB:.0f} MiB more; {len(told)} of {count} told")
    assert most - before < 4 * bound, f"{(most - before) / MIB:.0f} MiB more"
    house.idle()
    again = house.gateway.post(PATHS["chat"], body_of("chat", "m", "y" * size, False), batch)
    assert again.status == 200, "what was held is given back"


def test_a4_30_requests_in_flight_are_bounded_and_each_dialect_says_so_in_its_own_words(small: Callable[..., Small]) -> None:  # noqa: F811
    house = small(server={"max_in_flight": 10}, keys=keys())
    batch, desk = house.env["KEY"], house.env["ROOT"]
    slow = json.dumps(body_of("chat", "m", "hello", True, mock={"tokens": 100, "inter_token_ms": 60_000})).encode()
    with crowd(house.gateway.port, posted(batch, slow), 12) as many:
        many.read(quiet=2.0)
        said = sorted(answer.split(b"\r\n", 1)[0] for answer in many.answers.values())
        assert [line for line in said if b"503" in line] == [b"HTTP/1.1 503 Service Unavailable"] * 5, said
        for dialect in PATHS:
            reply = house.gateway.post(PATHS[dialect], body_of(dialect, "c" if dialect == "messages" else "m", "hello", False), batch)
            assert reply.status == (529 if dialect == "messages" else 503), (dialect, reply.text)
            assert reply.headers["retry-after"] == "5" and reply.headers["x-should-retry"] == "true"
            assert "overloaded" in reply.text, reply.text
            urgent = house.gateway.post(PATHS[dialect], body_of(dialect, "c" if dialect == "messages" else "m", "hello", False), desk)
            assert urgent.status == 200, (dialect, urgent.text)
    house.idle()
    refused = harness.until(
        lambda: [row for row in house.gateway.get("/admin/v1/requests?limit=50", desk).json()["data"] if row["code"] == "overloaded"],
        "records of what was turned away", 20)
    assert refused


# HTTP/2 by hand (RFC 9113): the frames that a client needs who wants to be slow.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header that nobody keeps (RFC 7541, 6.2.2), its lengths below 127."""
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Narrow:
    """An HTTP/2 client that never opens a window beyond the first."""

    def __init__(self, port: int, window: int):
        self.link = socket.create_connection(("127.0.0.1", port), timeout=harness.PATIENCE)
        setting = struct.pack(">HI", 4, window)
        self.link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, payload=setting))
        self.kept = b""

    def ask(self, stream: int, key: str, body: dict[str, Any]) -> None:
        sent = json.dumps(body).encode()
        head = b"".join(literal(name, value) for name, value in (
            (":method", "POST"), (":scheme", "http"), (":path", PATHS["chat"]), (":authority", "x"),
            ("content-type", "application/json"), ("authorization", f"Bearer {key}"), ("content-length", str(len(sent)))))
        self.link.sendall(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, sent))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What the gateway sends, pings and settings answered."""
        while True:
            while len(self.kept) < 9 or len(self.kept) < 9 + int.from_bytes(self.kept[:3], "big"):
                piece = self.link.recv(64 * KIB)
                if not piece:
                    return
                self.kept += piece
            length = int.from_bytes(self.kept[:3], "big")
            kind, flags = self.kept[3], self.kept[4]
            stream = struct.unpack(">I", self.kept[5:9])[0]
            payload, self.kept = self.kept[9:9 + length], self.kept[9 + length:]
            if kind in (PING, SETTINGS) and not flags & ACK:
                self.link.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            yield kind, flags, stream, payload


def test_a4_32_an_http_2_client_who_opens_no_window_is_cut_in_time_and_billed_for_what_it_got(small: Callable[..., Small]) -> None:  # noqa: F811
    house = small(server={"write_timeout": "2s"}, models={
        "m": {"provider": "outer", "model": "v", "price": {"input": 1, "output": 2}}}, keys=[
        {"name": "caller", "key": "${KEY}", "scopes": ["*"], "limits": {"concurrent_requests": 1}},
        {"name": "root", "key": "${ROOT}", "scopes": ["admin:*"]}])
    key, window = house.env["KEY"], 20_000
    narrow = Narrow(house.gateway.port, window)
    with contextlib.closing(narrow.link):
        narrow.ask(1, key, body_of("chat", "m", "hello", True, mock={"tokens": 150_000}))
        received, filled, reset = 0, 0.0, None
        for kind, flags, stream, payload in narrow.frames():
            if kind == DATA and stream == 1:
                received += len(payload)
                assert not flags & END_STREAM, "what is cut does not end like a whole answer"
                filled = time.monotonic()
            if kind == RST_STREAM and stream == 1:
                reset = time.monotonic()
                break
        assert reset is not None, "the stream is reset, the connection stays"
        assert received == window, "the window is filled, and nothing beyond it is sent"
        assert 1.5 < reset - filled < 20, reset - filled
        house.idle()
        assert house.mock.stats()["completion_tokens"] < 150_000 * 0.5, "the vendor is not read for nobody"
        # The place of the key is free again, on the same connection.
        narrow.ask(3, key, body_of("chat", "m", "hello", False))
        statuses = [payload[:1] for kind, _, stream, payload in _first(narrow, 3) if kind == HEADERS and stream == 3]
        assert statuses == [b"\x88"], "status 200, from the static table"
    row = harness.until(lambda: next((row for row in house.gateway.get("/admin/v1/requests?limit=9", house.env["ROOT"]).json()["data"]
                                      if row["code"] == "cancelled"), None), "the record of the stream that was cut", 20)
    record = house.record(row["id"])
    call = next(call for call in harness.http("GET", f"{house.mock.url}/mock/calls").json() if call["aborted"])
    tokens = record["tokens"]
    assert received / 400 < tokens["output"] <= house.mock.stats()["completion_tokens"], (tokens, call)
    assert record["estimated"], "the vendor never told how many tokens it was"
    assert record["cost"]["micro_usd"] == tokens["input"] + 2 * tokens["output"], record


def _first(narrow: Narrow, stream: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Frames up to the first of this stream."""
    for one in narrow.frames():
        yield one
        if one[2] == stream:
            return
