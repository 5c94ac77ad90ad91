"""Row 3 of the fault catalogue, to the letter: a vendor's stream is cut at every byte of every protocol, and no part is ever
taken for the whole.

The cut is made on the wire, behind a proxy: status line, headers, chunk sizes and events, byte by byte from the first to the
last. A plain reader looks at every offset; the official SDKs look at a comb of them and must raise every time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import pytest

import harness
from converse import Speaker
from faultproxy import FaultProxy, Toxic, toxic
from rig import KINDS, PATHS, RAISED, Outcome, Rig, body_of, read, say

SAID = "to be"
MARK = re.compile(rb"\[cut-(\d+)-(fin|reset)\]")
# Most of the time each of them waits: the gateway pauses before it asks a lone vendor again.
WORKERS = 32
# Every protocol that a vendor speaks, met by an asker of the same dialect, and by others who need a translation.
PROTOCOLS = (("chat", "openai"), ("responses", "openai"), ("messages", "anthropic"), ("chat", "gemini"), ("chat", "bedrock"))
TRANSLATED = (("messages", "openai"), ("chat", "anthropic"), ("responses", "anthropic"), ("messages", "gemini"),
              ("responses", "gemini"), ("messages", "bedrock"), ("responses", "bedrock"))


class Cutting(Rig):
    """A rig whose vendors stand behind proxies that cut where the prompt says; models are used again and again."""

    def providers(self, ports: dict[str, int]) -> dict[str, Any]:
        self.speaker = Speaker({"content": [{"text": SAID}]})
        self.proxies = [FaultProxy(port, choose) for port in (self.mocks["a"].port, self.speaker.server_port)]
        found = super().providers({**ports, "a": self.proxies[0].port})
        bedrock = {"kind": "bedrock", "region": "eu-central-1", "base_url": f"http://127.0.0.1:{self.proxies[1].port}",
                   "api_key": "${VENDOR}", "timeouts": self.timeouts}
        return {name: one for name, one in found.items() if name.startswith("a-")} | {"a-bedrock": bedrock}

    def models(self) -> dict[str, Any]:
        return {kind: {"provider": f"a-{kind}", "model": "cut"} for kind in (*KINDS, "bedrock")}

    def close(self) -> None:
        super().close()
        for proxy in self.proxies:
            proxy.kill()
        self.speaker.shutdown()
        self.speaker.server_close()


def choose(sent: bytes) -> list[Toxic] | None:
    """The cut that a request asks for in its prompt."""
    found = MARK.search(sent)
    if found:
        return [toxic("limit_data", bytes=int(found[1]), reset=found[2] == b"reset")]
    return [] if sent.startswith(b"POST ") else None


@pytest.fixture(scope="module")
def rig() -> Iterator[Cutting]:
    with harness.scratch("cuts") as folder:
        made = Cutting(folder)
        made.script("a", text=SAID)
        yield made
        alive, log = made.gateway.alive(), made.gateway.log()
        made.close()
        assert alive and "panicked" not in log, log[-3000:]


def length(rig: Cutting, dialect: str, kind: str, stream: bool) -> int:
    """How many bytes the vendor sends for one answer: cuts beyond it change nothing, so the first offset that lets one
    through is found by halving."""
    def whole(at: int) -> bool:
        return rig.call(dialect, kind, f"[cut-{at}-fin]", stream=stream).complete

    low, high = 0, 1 << 14
    assert whole(high), rig.call(dialect, kind, f"[cut-{high}-fin]", stream=stream)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if whole(middle) else (middle, high)
    return high


def every(rig: Cutting, dialect: str, kind: str, stream: bool, offsets: list[int], how: str) -> dict[int, Outcome]:
    """Asks once for each offset, over a few connections that are kept as long as they live."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for at in offsets:
        todo.put(at)
    found: dict[int, Outcome] = {}
    headers = {"content-type": "application/json", "authorization": f"Bearer {rig.env['KEY']}"}

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", rig.gateway.port, timeout=harness.PATIENCE)
        with contextlib.closing(connection), contextlib.suppress(queue.Empty):
            while True:
                at = todo.get_nowait()
                body = json.dumps(body_of(dialect, kind, f"[cut-{at}-{how}]", stream))
                connection.request("POST", PATHS[dialect], body, headers)
                reply = connection.getresponse()
                came = {name.lower(): value for name, value in reply.getheaders()}
                found[at] = read(reply, came, dialect, time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(offsets), "a worker died"
    return found


def judge(found: dict[int, Outcome]) -> tuple[int, int, int]:
    """Counts refusals before content, broken streams that say so, and whole answers; anything else is a silent truncation."""
    refused = broken = whole = 0
    for at, outcome in found.items():
        assert outcome.broken is None, (at, outcome)
        if outcome.complete:
            assert outcome.code is None and outcome.text == SAID and outcome.begun == 1, (at, outcome)
            whole += 1
        else:
            assert outcome.code, (at, "it neither ended nor failed", outcome)
            assert SAID.startswith(outcome.text), (at, outcome)
            refused += outcome.status != 200
            broken += outcome.status == 200
    return refused, broken, whole


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize(("dialect", "kind"), PROTOCOLS)
def test_a4_03_a_stream_cut_at_every_byte_is_never_taken_for_a_whole_one(rig: Cutting, dialect: str, kind: str, how: str) -> None:
    end = length(rig, dialect, kind, True)
    refused, broken, whole = judge(every(rig, dialect, kind, True, list(range(end + 1)), how))
    assert refused > 100, "the head and the opening fail with a status"
    assert broken > 10, "the content and what follows fail inside the stream"
    # The end of the body may be lost when the protocol's own end was read: the answer is complete.
    assert 1 <= whole <= 40, (refused, broken, whole)


@pytest.mark.parametrize(("dialect", "kind"), TRANSLATED)
def test_a4_03_a_translated_stream_cut_at_every_byte_is_never_taken_for_a_whole_one(rig: Cutting, dialect: str, kind: str) -> None:
    end = length(rig, dialect, kind, True)
    refused, broken, whole = judge(every(rig, dialect, kind, True, list(range(end + 1)), "reset"))
    assert refused > 100 and broken > 10 and 1 <= whole <= 40, (refused, broken, whole)


@pytest.mark.parametrize(("dialect", "kind"), PROTOCOLS)
def test_a4_11_a_whole_answer_cut_at_every_byte_is_never_a_200(rig: Cutting, dialect: str, kind: str) -> None:
    end = length(rig, dialect, kind, False)
    for how in ("fin", "reset"):
        refused, broken, whole = judge(every(rig, dialect, kind, False, list(range(end + 1)), how))
        assert (refused, broken, whole) == (end, 0, 1), (how, refused, broken, whole)


@pytest.mark.parametrize(("dialect", "kind"), [*PROTOCOLS, ("messages", "openai"), ("chat", "anthropic"), ("responses", "anthropic")])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a4_03_the_official_clients_raise_every_time(rig: Cutting, dialect: str, kind: str, stream: bool) -> None:
    end = length(rig, dialect, kind, stream)
    # A prime stride meets every phase of events and chunks.
    offsets = [*range(0, end, 61 if stream else 41), *range(max(0, end - 60), end, 13)]
    with rig.sdk(dialect) as client, ThreadPoolExecutor(WORKERS) as pool:
        def ask(at: int) -> bool:
            try:
                said = say(client, dialect, kind, f"[cut-{at}-{'reset' if at % 2 else 'fin'}]", stream)
            except RAISED:
                return False
            assert said == SAID, f"cut at byte {at}: a part was given as the whole"
            return True

        whole = sum(pool.map(ask, offsets))
        assert say(client, dialect, kind, f"[cut-{end}-fin]", stream) == SAID
    assert whole <= 5, (whole, "of", len(offsets))
