"""Rows 18 to 20, 27 to 32 and 34 of the fault catalogue: hostile and vanishing clients, limits of the machine, reloads,
shutdowns and defects. `test_faults_catalogue.py` lists every row with its tests, those that live elsewhere too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import resource
import select
import signal
import socket
import statistics
import threading
import time
import zlib
from typing import Any, Callable, Iterator

import pytest

import harness
from rig import ANSWER, PATHS, Outcome, Rig, ask, body_of

dialects = pytest.mark.parametrize("dialect", list(PATHS))


def resident(pid: int) -> int:
    """Resident memory in bytes (proc(5))."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def most_files() -> int:
    """Raises the limit of open files, for this process and those that it starts, as far as it may; gives the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Small:
    """A gateway before one mock, with keys and times that a test may set."""

    def __init__(self, folder: pathlib.Path, server: dict[str, Any] | None = None, **sections: Any):
        self.folder = folder
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock")
        self.env = {"KEY": harness.new_secret(), "ROOT": harness.new_secret(), "VENDOR": harness.UPSTREAM_SECRET}
        base = f"{self.mock.url}/v1"
        config: dict[str, Any] = {
            "server": {"drain": "3s", **(server or {})},
            "providers": {"outer": {"kind": "openai", "base_url": base, "api_key": "${VENDOR}"},
                          "claude": {"kind": "anthropic", "base_url": base, "api_key": "${VENDOR}"}},
            "models": {"m": {"provider": "outer", "model": "v"}, "c": {"provider": "claude", "model": "v"}},
            "keys": [{"name": "caller", "key": "${KEY}", "scopes": ["*"]}, {"name": "root", "key": "${ROOT}", "scopes": ["admin:*"]}],
        }
        config |= sections
        self.gateway = harness.Gateway(folder / "gateway", config, self.env)

    def call(self, dialect: str = "chat", model: str = "m", stream: bool = False, text: str = "hello", **members: Any) -> Outcome:
        return ask(self.gateway.port, self.env["KEY"], dialect, model, text, stream, **members)

    def open(self, body: dict[str, Any], dialect: str = "chat") -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=harness.PATIENCE)
        connection.request("POST", PATHS[dialect], json.dumps(body), {
            "content-type": "application/json", "authorization": f"Bearer {self.env['KEY']}"})
        return connection

    def record(self, id: str) -> Any:
        def found() -> Any:
            reply = self.gateway.get(f"/admin/v1/requests/{id}", self.env["ROOT"])
            return reply.json() if reply.status == 200 else None

        return harness.until(found, f"a record of {id}", 20)

    def idle(self) -> None:
        harness.until(lambda: self.mock.stats()["in_flight"] == 0, "the upstream is idle", 20)


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Iterator[Callable[..., Small]]:
    """Starts a gateway of a test's own; it must live to the end."""
    with harness.scratch("clients") as folder, contextlib.ExitStack() as stack:
        def make(**sections: Any) -> Small:
            made = Small(folder, **sections)
            stack.callback(made.mock.kill)
            stack.callback(made.gateway.kill)
            return made

        yield make


def good_traffic(small: Small, seconds: float, rate: float) -> list[float]:
    """A steady stream of ordinary requests; gives how long each took. Any that fails fails the test."""
    took: list[float] = []
    due = time.monotonic()
    end = due + seconds
    connection = http.client.HTTPConnection("127.0.0.1", small.gateway.port, timeout=harness.PATIENCE)
    with contextlib.closing(connection):
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("POST", PATHS["chat"], json.dumps(body_of("chat", "m", "hello", False)), {
                "content-type": "application/json", "authorization": f"Bearer {small.env['KEY']}"})
            reply = connection.getresponse()
            assert reply.status == 200 and reply.read(), reply.status
            took.append(time.monotonic() - max(due, end - seconds))
            due += 1 / rate
    return took


def test_a4_18_slow_sockets_are_closed_in_time_and_harm_nobody(small: Callable[..., Small]) -> None:
    wanted = min(5_000, (most_files() - 500) // 2)
    house = small(server={"header_timeout": "3s", "body_timeout": "3s"})
    quiet = good_traffic(house, 1.5, 100)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.env['KEY']}\r\n"
    says = (b"", head[:40].encode(), (head + "content-type: application/json\r\ncontent-length: 900\r\n\r\n{").encode())
    slow: list[socket.socket] = []
    try:
        for n in range(wanted):
            link = socket.create_connection(("127.0.0.1", house.gateway.port), timeout=10)
            link.sendall(says[n % 3])
            link.setblocking(False)
            slow.append(link)
        busy = good_traffic(house, 2.0, 100)
        waiting = {link.fileno(): link for link in slow}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        told = 0
        end = time.monotonic() + 15
        while waiting and time.monotonic() < end:
            for number, _ in poll.poll(1_000):
                try:
                    said = waiting[number].recv(4096)
                except ConnectionResetError:
                    said = b""
                told += said.startswith(b"HTTP/1.1 408")
                if not said:
                    poll.unregister(number)
                    del waiting[number]
        assert not waiting, f"{len(waiting)} of {wanted} slow sockets are still open"
        assert told >= wanted // 3, f"{told} of those who sent a head were told 408"
    finally:
        for link in slow:
            link.close()
    assert good_traffic(house, 0.5, 100)
    median, worst = statistics.median(busy), sorted(busy)[int(len(busy) * 0.98)]
    # Generous, for two cores also run the clients: behind slow sockets a request would wait for their header time, 3 s.
    assert median < max(10 * statistics.median(quiet), 0.25) and worst < 1.5, (statistics.median(quiet), median, worst)


def test_a4_19_oversize_requests_are_refused_before_they_are_held(small: Callable[..., Small]) -> None:
    house = small(server={"max_body": "8MiB"})
    key = {"authorization": f"Bearer {house.env['KEY']}"}
    url = f"{house.gateway.url}/v1/chat/completions"
    house.call()
    before = resident(house.gateway.child.pid)
    tools = b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[' + b",".join([b"{}"] * 1_000_000) + b"]}"
    for body, statuses in (
            # Valid to the letter and below the bound: the vendor may judge it.
            (tools, (200, 400, 413)),
            (b'{"model":"m","messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 200_000) + b"]}", (200, 400, 413)),
            (b'{"model":"m","max_tokens":2147483648,"messages":[{"role":"user","content":"x"}]}', (200, 400)),
            (b'{"model":"m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", (400,)),
            (b" " * (9 << 20), (413,))):
        for _ in range(3):
            reply = harness.http("POST", url, body, key)
            assert reply.status in statuses, (body[:60], reply.status, reply.text[:200])
            if reply.status != 200:
                assert reply.json()["error"]["code"] and reply.json()["error"]["message"]
    for size in (64 << 10, 1 << 20):
        with socket.create_connection(("127.0.0.1", house.gateway.port), timeout=20) as link:
            with contextlib.suppress(OSError):
                link.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * size + b"\r\n\r\n")
            said = b""
            with contextlib.suppress(OSError):
                said = link.recv(100)
            assert said.startswith(b"HTTP/1.1 431") or (size > 64 << 10 and not said), said
    assert resident(house.gateway.child.pid) < before + (150 << 20)
    assert house.call().text, "the next request is fine"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a4_20_a_compressed_body_is_refused_unread(small: Callable[..., Small], coding: str) -> None:
    house = small()
    house.call()
    before = resident(house.gateway.child.pid)
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(128)) + packer.flush()
    for _ in range(4):
        connection = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=harness.PATIENCE)
        with contextlib.closing(connection):
            # Who is refused early may not get rid of all of it, and reads the refusal all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", PATHS["chat"], bomb, {
                    "authorization": f"Bearer {house.env['KEY']}", "content-encoding": coding, "content-type": "application/json"})
            reply = connection.getresponse()
            assert (reply.status, json.loads(reply.read())["error"]["code"]) == (415, "unsupported_media_type")
    assert resident(house.gateway.child.pid) < before + (20 << 20)


def test_a4_20_a_vendors_compressed_answer_is_no_bomb(small: Callable[..., Small]) -> None:
    house = small()
    assert house.call().text
    before = resident(house.gateway.child.pid)
    reply = house.call(mock={"raw_body": "\x1f\x8b\x08" + "x" * 30_000, "headers": {"content-encoding": "gzip"}})
    assert (reply.status, reply.code) == (502, "upstream_bad_response"), reply
    seen = dict(harness.http("GET", f"{house.mock.url}/mock/requests").json()[-1]["headers"])
    assert seen.get("accept-encoding", "identity") == "identity", "nobody asked for it"
    assert resident(house.gateway.child.pid) < before + (20 << 20)


def test_a4_27_clients_of_vendors_that_a_reload_replaces_finish_what_they_began(small: Callable[..., Small]) -> None:
    house = small()
    stop = threading.Event()
    bad: list[Any] = []
    done = [0]

    def work(stream: bool) -> None:
        while not stop.is_set():
            outcome = house.call(stream=stream, mock={"text": ANSWER, "inter_token_ms": 10})
            done[0] += 1
            if not (outcome.complete and outcome.text == ANSWER):
                bad.append(outcome)

    threads = [threading.Thread(target=work, args=(n % 2 == 0,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    config = json.loads(json.dumps(house.gateway.config))
    for n in range(30):
        # Other times are another client: the pool of the one before goes while its answers are on their way.
        config["providers"]["outer"]["timeouts"] = {"idle": f"{30 + n}s"}
        config["models"][f"seen-{n}"] = {"provider": "outer", "model": "v"}
        house.gateway.write(config)
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: house.gateway.get(f"/v1/models/seen-{n}", house.env["KEY"]).status == 200, "the reload", 30)
    stop.set()
    for thread in threads:
        thread.join(harness.PATIENCE)
    assert not bad and done[0] > 30, (done, bad[:3])


@dialects
def test_a4_28_sigterm_lets_those_finish_who_can_and_tells_the_others(small: Callable[..., Small], dialect: str) -> None:
    house = small()
    model = "c" if dialect == "messages" else "m"

    def stream(tokens: int) -> tuple[Any, list[Any]]:
        return harness.in_background(
            lambda: house.call(dialect, model, True, mock={"tokens": tokens, "inter_token_ms": 50}))

    short, long = [stream(20) for _ in range(20)], [stream(4_000) for _ in range(20)]
    harness.until(lambda: house.mock.stats()["streams_started"] == 40, "forty streams")
    harness.until(lambda: house.mock.stats()["completion_tokens"] >= 80, "content in all of them")
    began = time.monotonic()
    house.gateway.signal(signal.SIGTERM)
    assert house.gateway.wait() == 0
    assert time.monotonic() - began < 3 + 1 + 2, "the grace and a second, and what a busy machine adds"
    for group, complete in ((short, True), (long, False)):
        for thread, box in group:
            thread.join(harness.PATIENCE)
            outcome = box[0]
            assert outcome.complete == complete and outcome.broken is None, outcome
            assert outcome.code == (None if complete else "server_shutdown"), outcome
    house.idle()


def test_a4_28_a_second_sigterm_ends_streams_at_once_and_properly(small: Callable[..., Small]) -> None:
    house = small(server={"drain": "60s"})
    thread, box = harness.in_background(lambda: house.call(stream=True, mock={"tokens": 4_000, "inter_token_ms": 50}))
    harness.until(lambda: house.mock.stats()["completion_tokens"] > 2, "content")
    house.gateway.signal(signal.SIGTERM)
    harness.until(lambda: not harness.can_connect(house.gateway.port), "the listener is closed")
    assert house.gateway.alive()
    house.gateway.signal(signal.SIGTERM)
    assert house.gateway.wait(20) == 0
    thread.join(harness.PATIENCE)
    assert box[0].code == "server_shutdown" and not box[0].complete, box


MUTATIONS: dict[str, Callable[[str], str]] = {
    "half of it": lambda text: text[:len(text) // 2],
    "nothing": lambda text: "",
    "no YAML": lambda text: text.replace("{", "[", 1),
    "an unknown key": lambda text: text.replace('"providers"', '"provders"', 1),
    "an unknown kind": lambda text: text.replace('"openai"', '"opnai"', 1),
    "a missing provider": lambda text: text.replace('"provider": "outer"', '"provider": "gone"', 1),
    "a missing secret": lambda text: text.replace("${VENDOR}", "${NOT_THERE}", 1),
    "a wrong type": lambda text: text.replace('"version": 1', '"version": "one"', 1),
    "a wrong time": lambda text: text.replace('"3s"', '"3 parsecs"', 1),
    "a bad address": lambda text: text.replace("127.0.0.1:", "127.0.0.256:", 1),
    "another version": lambda text: text.replace('"version": 1', '"version": 99', 1),
    "a binary file": lambda text: "\x00\x01\x02" + text,
    "a key twice": lambda text: text.replace('"version": 1,', '"version": 1, "version": 1,', 1),
    "a bad scope": lambda text: text.replace('"admin:*"', '"admni:*:*:*:*"', 1),
}


def test_a4_29_no_damaged_file_changes_anything_or_fails_a_request(small: Callable[..., Small]) -> None:
    house = small()
    sound = house.gateway.path.read_text()
    stop = threading.Event()
    seen: list[Outcome] = []

    def work() -> None:
        while not stop.is_set():
            seen.append(house.call(stream=len(seen) % 2 == 0))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name, mutate in MUTATIONS.items():
        damaged = mutate(sound)
        assert damaged != sound, name
        before = len(house.gateway.log())
        # Not written as a careful editor does: in place, as a crash leaves it.
        house.gateway.path.write_text(damaged)
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: "penstock.yaml" in house.gateway.log()[before:], f"{name}: the log names the refused file", 30)
    stop.set()
    for thread in threads:
        thread.join(harness.PATIENCE)
    assert len(seen) > 20 and all(one.complete and one.code is None for one in seen)
    house.gateway.path.write_text(sound.replace('"m": {', '"after": {"provider": "outer", "model": "v"}, "m": {'))
    house.gateway.signal(signal.SIGHUP)
    harness.until(lambda: house.gateway.get("/v1/models/after", house.env["KEY"]).status == 200, "a mended file is taken up", 30)


def test_a4_30_without_file_descriptors_what_is_open_lives_and_the_rest_waits(small: Callable[..., Small]) -> None:
    house = small()
    pid = house.gateway.child.pid
    thread, box = harness.in_background(lambda: house.call(stream=True, mock={"tokens": 60, "inter_token_ms": 50}))
    harness.until(lambda: house.mock.stats()["completion_tokens"] > 2, "content")
    limit = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())) + 8
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    crowd: list[socket.socket] = []
    try:
        for _ in range(100):
            crowd.append(socket.create_connection(("127.0.0.1", house.gateway.port), timeout=10))
        thread.join(harness.PATIENCE)
        assert box[0].complete and box[0].broken is None, "what was open goes on to its end"
        assert house.gateway.alive() and len(house.gateway.log()) < 1 << 20, "no line for every accept in vain"
        last = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=harness.PATIENCE)
        # Behind all the others: the only one who still wants something.
        last.sock = crowd.pop()
        last.sock.settimeout(harness.PATIENCE)
        last.request("GET", "/v1/models", headers={"authorization": f"Bearer {house.env['KEY']}"})
        while crowd:
            crowd.pop().close()
        with contextlib.closing(last):
            assert last.getresponse().status == 200, "who was taken by the system waits, and is answered"
    finally:
        for link in crowd:
            link.close()
    harness.until(lambda: house.call().status == 200, "those who wait get their turn", 30)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert "panicked" not in house.gateway.log()


@pytest.mark.parametrize("phase", ["mid-stream", "stream-before-content", "whole-before-headers"])
def test_a4_31_a_client_who_vanishes_cancels_the_vendors_call_within_100_ms(small: Callable[..., Small], phase: str) -> None:
    house = small()
    script: dict[str, Any] = {"mid-stream": {"tokens": 4_000, "inter_token_ms": 20}, "stream-before-content": {"first_token_ms": 60_000},
                              "whole-before-headers": {"latency_ms": 60_000}}[phase]
    took = []
    for _ in range(7):
        harness.http("POST", f"{house.mock.url}/mock/reset")
        connection = house.open(body_of("chat", "m", "hello", phase != "whole-before-headers", mock=script))
        if phase == "mid-stream":
            reply = connection.getresponse()
            reply.read(200)
        else:
            harness.until(lambda: house.mock.stats()["in_flight"] == 1, "the vendor has it")
        left = time.monotonic()
        assert connection.sock is not None or phase == "mid-stream"
        if phase == "mid-stream":
            reply.close()
        connection.close()
        while house.mock.stats()["in_flight"]:
            assert time.monotonic() - left < 5, "the vendor's call goes on behind a client who left"
        took.append(time.monotonic() - left)
        call = harness.http("GET", f"{house.mock.url}/mock/calls").json()[-1]
        assert call["aborted"], call
    assert statistics.median(took) < 0.1, took
    found = house.gateway.get("/admin/v1/requests?limit=1", house.env["ROOT"]).json()["data"]
    harness.until(lambda: house.gateway.get("/admin/v1/requests?limit=7", house.env["ROOT"]).json()["data"], "records")
    assert not found or found[0]["code"] == "cancelled", found


def test_a4_32_a_client_who_stops_reading_stops_the_vendor_and_costs_no_memory(small: Callable[..., Small]) -> None:
    house = small()
    house.call(stream=True)
    before = resident(house.gateway.child.pid)
    tokens = 150_000
    body = json.dumps(body_of("chat", "m", "hello", True, mock={"tokens": tokens})).encode()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
        link.settimeout(harness.PATIENCE)
        link.connect(("127.0.0.1", house.gateway.port))
        link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
                     b"authorization: Bearer " + house.env["KEY"].encode() + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        said = [0, -1]

        def stands_still() -> bool:
            now = house.mock.stats()["completion_tokens"]
            said[0], said[1] = said[1], now
            time.sleep(0.3)
            return now > 100 and said[0] == said[1]

        harness.until(stands_still, "the vendor is not read any further", 60)
        stats = house.mock.stats()
        grown = resident(house.gateway.child.pid) - before
        assert stats["in_flight"] == 1 and stats["completion_tokens"] < tokens * 0.9, stats
        assert grown < 32 << 20, f"{grown >> 20} MiB are held for one who does not read"
        received = 0
        last = b""
        while piece := link.recv(1 << 20):
            received += len(piece)
            last = (last + piece)[-100:]
    assert b"data: [DONE]" in last and received > tokens * 20, "who reads again gets all of it"


def test_a4_34_a_defect_is_contained_and_everything_is_given_back(small: Callable[..., Small]) -> None:
    inner = {"kind": "mock", "rules": [{"when": {"model": "bad-call"}, "do": {"panic": "call"}},
                                       {"when": {"model": "bad-stream"}, "do": {"panic": "stream", "text": ANSWER}}]}
    house = small(providers={"inner": inner}, models={
        "m": {"provider": "inner", "model": "good"}, "bad-call": {"provider": "inner", "model": "bad-call"},
        "bad-stream": {"provider": "inner", "model": "bad-stream"}}, keys=[
        {"name": "caller", "key": "${KEY}", "scopes": ["*"], "limits": {"concurrent_requests": 1}},
        {"name": "root", "key": "${ROOT}", "scopes": ["admin:*"]}])
    for dialect in PATHS:
        for model in ("bad-call", "bad-stream"):
            for stream in (False, True):
                outcome = house.call(dialect, model, stream)
                late = stream and model == "bad-stream"
                assert outcome.status == (200 if late else 500), (dialect, model, stream, outcome)
                assert outcome.code == "internal_error" and not outcome.complete and outcome.broken is None, outcome
                record = house.record(outcome.id)
                assert record["code"] == "internal_error" and record["status"] != "ok", record
                # The only slot of this key was given back, and no lock is poisoned.
                good = house.call(dialect, "m", stream)
                assert good.complete and good.code is None, good
    text = house.gateway.get("/metrics").text
    in_flight = [line for line in text.splitlines() if "in_flight" in line and not line.startswith("#")]
    assert all(float(line.split()[-1]) == 0 for line in in_flight), in_flight
    assert house.gateway.stop() == 0
