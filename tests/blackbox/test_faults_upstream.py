"""Rows 1 to 17 of the fault catalogue, without 14: what goes wrong at a vendor is not the caller's failure, or is told truly.

`test_faults_catalogue.py` lists every row with its tests, those that live elsewhere too. After each fault the record of the
request is held against the mocks' own count (`Rig.settle`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from typing import Any, Iterator

import pytest

import harness
from authority import Authority
from faultproxy import FaultProxy
from rig import ANSWER, LANES, RAISED, Outcome, Rig, say

# A whole answer has no first token: only its total time bounds it.
QUICK = {"first_token": "400ms", "idle": "400ms", "total": "3s"}
lanes = pytest.mark.parametrize(("dialect", "kind"), LANES)
ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with harness.scratch("faults") as folder:
        made = Rig(folder, timeouts=QUICK)
        yield made
        alive, log = made.gateway.alive(), made.gateway.log()
        made.close()
        assert alive and "panicked" not in log, log[-3000:]


def taken_over(rig: Rig, outcome: Outcome, attempts: int | None = 2) -> None:
    """The spare answered, and the client saw one clean answer and nothing of the fault."""
    assert (outcome.status, outcome.text, outcome.complete) == (200, ANSWER, True), outcome
    assert outcome.code is None and outcome.broken is None and outcome.begun == 1, outcome
    if attempts is not None:
        assert outcome.attempts == attempts, outcome
    assert outcome.headers["penstock-provider"].startswith("b-"), outcome
    record = rig.settle(outcome)
    assert record["provider"].startswith("b-") and record["tries"][0]["provider"].startswith("a-"), record
    assert rig.asked("b") == 1, "the spare was asked once"


def fails_over(rig: Rig, dialect: str, kind: str, stream: bool, attempts: int | None = 2, **script: Any) -> Outcome:
    rig.script("a", **script)
    rig.script("b")
    outcome = rig.call(dialect, rig.model(kind), stream=stream)
    taken_over(rig, outcome, attempts)
    return outcome


def refused(rig: Rig, dialect: str, kind: str, stream: bool, **script: Any) -> Outcome:
    """What the client is told when nobody else can answer."""
    rig.script("a", **script)
    rig.script("b")
    outcome = rig.call(dialect, rig.model(kind, spare=False), stream=stream)
    assert outcome.status >= 400 and outcome.code and not outcome.complete, outcome
    rig.settle(outcome)
    return outcome


@lanes
@ways
def test_a4_01_a_reset_before_the_headers_goes_to_the_next_target(rig: Rig, dialect: str, kind: str, stream: bool) -> None:
    outcome = fails_over(rig, dialect, kind, stream, cut="reset")
    assert outcome.seconds < 5, "nobody waits before the next target"


@ways
def test_a4_01_an_orderly_end_before_the_headers_goes_to_the_next_target(rig: Rig, stream: bool) -> None:
    fails_over(rig, "chat", "openai", stream, cut="fin")


@pytest.mark.parametrize(("dialect", "kind", "opening"), [
    ("chat", "openai", 1), ("messages", "anthropic", 2), ("chat", "anthropic", 2), ("messages", "openai", 1), ("responses", "openai", 2)])
@pytest.mark.parametrize("cut", ["reset", "fin"])
def test_a4_02_a_break_after_the_opening_and_before_content_gives_one_clean_stream(
        rig: Rig, dialect: str, kind: str, opening: int, cut: str) -> None:
    fails_over(rig, dialect, kind, True, cut=cut, cut_at_event=opening)


@lanes
def test_a4_03_a_break_in_the_middle_is_told_in_the_clients_dialect(rig: Rig, dialect: str, kind: str) -> None:
    rig.script("a", cut="reset", cut_at_byte=2_500, chunk_bytes=64, text="word " * 400)
    rig.script("b")
    outcome = rig.call(dialect, rig.model(kind), stream=True)
    if not outcome.text:
        # The opening of this dialect is longer than the cut: the spare took over.
        pytest.fail(f"the cut came before the content: {outcome}")
    assert outcome.status == 200 and outcome.code == "upstream_stream_cut" and not outcome.complete, outcome
    assert outcome.text.startswith("word word"), outcome
    record = rig.settle(outcome)
    assert record["tokens"]["output"] > 0 and record["estimated"], "what was said is billed and marked"
    assert rig.asked("b") == 0, "nothing is spliced"


@lanes
def test_a4_04_a_stall_in_the_middle_ends_after_the_idle_time(rig: Rig, dialect: str, kind: str) -> None:
    rig.script("a", hang="mid_stream")
    rig.script("b")
    outcome = rig.call(dialect, rig.model(kind), stream=True)
    assert outcome.status == 200 and outcome.code == "upstream_idle_timeout" and not outcome.complete, outcome
    assert 0.4 <= outcome.seconds < 5 and ANSWER.startswith(outcome.text) and outcome.text, outcome
    assert rig.settle(outcome)["tokens"]["output"] > 0
    assert rig.calls("a")[-1]["aborted"], "the silent call is given up"


@ways
def test_a4_05_a_vendor_that_accepts_and_never_answers_is_left_for_the_next(rig: Rig, stream: bool) -> None:
    outcome = fails_over(rig, "chat", "openai", stream, hang="before_headers")
    assert outcome.seconds >= 0.4, outcome


def test_a4_05_headers_alone_are_no_answer(rig: Rig) -> None:
    for dialect, kind in LANES:
        fails_over(rig, dialect, kind, True, hang="after_headers")


def test_a4_06_a_peer_that_vanished_costs_one_deadline_and_no_request() -> None:
    with harness.scratch("vanished") as folder:
        rig = Rig(folder, timeouts=QUICK)
        try:
            rig.script("a")
            rig.script("b")
            # A connection that is kept alive, whose other side then stops existing as far as anybody can tell.
            for n in range(2):
                assert rig.call("chat", rig.model("openai")).text == ANSWER
            os.kill(rig.mocks["a"].child.pid, signal.SIGSTOP)
            try:
                for stream in (False, True):
                    outcome = rig.call("chat", rig.model("openai"), stream=stream)
                    assert (outcome.text, outcome.complete, outcome.attempts) == (ANSWER, True, 2), outcome
                    assert outcome.seconds < 8
            finally:
                os.kill(rig.mocks["a"].child.pid, signal.SIGCONT)
        finally:
            rig.close()


@pytest.fixture
def proxied() -> Iterator[tuple[Rig, FaultProxy]]:
    """A rig whose mock `a` stands behind a fault proxy."""
    with harness.scratch("proxied") as folder, contextlib.ExitStack() as stack:
        proxy: list[FaultProxy] = []

        class Between(Rig):
            def providers(self, ports: dict[str, int]) -> dict[str, Any]:
                proxy.append(stack.enter_context(FaultProxy(self.mocks["a"].port)))
                return super().providers({**ports, "a": proxy[0].port})

        made = Between(folder, timeouts=QUICK)
        stack.callback(made.close)
        made.script("a")
        made.script("b")
        yield made, proxy[0]


def test_a4_06_a_kept_connection_that_was_reset_is_replaced_unseen(proxied: tuple[Rig, FaultProxy]) -> None:
    rig, proxy = proxied
    model = rig.model("openai")
    assert rig.call("chat", model).attempts == 1
    before = proxy.connections
    proxy.add("down")
    proxy.clear()
    outcome = rig.call("chat", model)
    assert (outcome.text, outcome.attempts) == (ANSWER, 1), outcome
    assert proxy.connections > before and rig.asked("b") == 0


@pytest.mark.parametrize(("kind", "numbers"), [
    ("bandwidth", {"rate": 0.02}),
    ("slicer", {"average_size": 1, "delay": 50_000}),
    ("timeout", {"timeout": 0}),
    ("timeout", {"timeout": 100}),
    ("latency", {"latency": 30_000}),
    ("reset_peer", {"timeout": 50}),
    ("limit_data", {"bytes": 10}),
    ("down", {}),
])
def test_a4_07_trickles_and_the_other_classic_toxics_before_content_go_to_the_next_target(
        proxied: tuple[Rig, FaultProxy], kind: str, numbers: dict[str, Any]) -> None:
    rig, proxy = proxied
    proxy.add(kind, **numbers)
    for stream in (False, True):
        rig.script("b")
        outcome = rig.call("chat", rig.model("openai"), stream=stream)
        assert (outcome.status, outcome.text, outcome.complete) == (200, ANSWER, True), outcome
        assert outcome.headers["penstock-provider"] == "b-openai" and outcome.seconds < 8, outcome
    proxy.clear()
    rig.script("a")
    assert rig.call("chat", rig.model("openai")).headers["penstock-provider"] == "a-openai", "and it may come back"


def test_a4_07_slow_but_steady_is_no_fault(proxied: tuple[Rig, FaultProxy]) -> None:
    rig, proxy = proxied
    proxy.add("slicer", average_size=40, delay=2_000)
    proxy.add("slow_close", delay=200)
    for dialect in ("chat", "messages", "responses"):
        outcome = rig.call(dialect, rig.model("openai"), stream=True)
        assert (outcome.text, outcome.complete, outcome.attempts) == (ANSWER, True, 1), outcome


@lanes
def test_a4_09_a_malformed_event_at_any_index_is_never_forwarded_as_good(rig: Rig, dialect: str, kind: str) -> None:
    switched = failed = 0
    for index in range(9):
        rig.script("a", malformed_event=index)
        rig.script("b")
        outcome = rig.call(dialect, rig.model(kind), stream=True)
        assert outcome.broken is None and outcome.begun == 1, (index, outcome)
        if outcome.complete:
            assert outcome.text == ANSWER and outcome.code is None, (index, outcome)
            switched += outcome.attempts == 2
        else:
            assert outcome.code == "upstream_bad_response" and ANSWER.startswith(outcome.text), (index, outcome)
            failed += 1
        rig.settle(outcome)
    assert switched and failed, "some came before the content and some after"


EMPTY: dict[str, dict[str, Any]] = {
    "error-first": {"error_event": 0},
    "empty": {"raw_body": "", "content_type": "text/event-stream"},
    "comments-only": {"raw_body": ": alive\n\n: alive\n\n", "content_type": "text/event-stream"},
    "done-only": {"raw_body": "data: [DONE]\n\n", "content_type": "text/event-stream"},
}


@lanes
@pytest.mark.parametrize("fault", EMPTY)
def test_a4_10_a_200_that_says_nothing_or_fails_at_once_is_a_failed_attempt(rig: Rig, dialect: str, kind: str, fault: str) -> None:
    fails_over(rig, dialect, kind, True, **EMPTY[fault])
    told = refused(rig, dialect, kind, True, **EMPTY[fault])
    assert told.status in (502, 503, 529), "nothing was said yet, so the status is true"


BROKEN: dict[str, dict[str, Any]] = {
    "truncated-json": {"raw_body": '{"id": "x", "object": "chat.completion", "choices": [{"ind', "content_type": "application/json"},
    "short-of-its-length": {"cut": "fin", "cut_at_byte": 60},
    "reset-in-the-body": {"cut": "reset", "cut_at_byte": 60},
    "html-200": {"raw_body": "<html><h1>It works!</h1></html>", "content_type": "text/html"},
    "html-502": {"status": 502, "body": "<html><h1>502 Bad Gateway</h1></html>", "content_type": "text/html"},
    "gzip-garbage": {"raw_body": "\x1f\x8b\x08 this was never deflated", "headers": {"content-encoding": "gzip"}},
    "empty-object": {"raw_body": "{}"},
    "empty": {"raw_body": ""},
    "a-list": {"raw_body": "[]"},
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize(("dialect", "kind"), [("chat", "openai"), ("messages", "anthropic"), ("responses", "openai"), ("chat", "gemini")])
def test_a4_11_a_whole_answer_that_is_broken_is_a_failure_and_never_a_200(rig: Rig, dialect: str, kind: str, fault: str) -> None:
    fails_over(rig, dialect, kind, False, **BROKEN[fault])
    told = refused(rig, dialect, kind, False, **BROKEN[fault])
    assert told.status == 502, told


@pytest.mark.parametrize("announced", [10, 100_000], ids=["too-small", "too-large"])
def test_a4_11_a_wrong_content_length_is_a_failure(rig: Rig, announced: int) -> None:
    rig.script("b")
    body = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}'
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % announced + body
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link:
                        link.recv(65536)
                        link.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        config = {**rig.gateway.config, "providers": {**rig.gateway.config["providers"], "liar": {
            "kind": "openai", "base_url": f"http://127.0.0.1:{server.getsockname()[1]}/v1", "api_key": "${VENDOR}",
            "timeouts": rig.timeouts}}}
        config["models"] = {**config["models"], "liar": {"provider": "liar", "model": "m", "fallbacks": ["openai-0-spare"]}}
        rig.gateway.write(config)
        rig.gateway.signal(signal.SIGHUP)
        harness.until(lambda: rig.gateway.get("/v1/models/liar", rig.env["KEY"]).status == 200, "the reload")
        outcome = rig.call("chat", "liar")
        server.shutdown(socket.SHUT_RDWR)
    assert (outcome.status, outcome.text, outcome.attempts) == (200, ANSWER, 2), outcome
    rig.settle(outcome)


WAITS: dict[str, Any] = {"seconds": 7, "ms": {"ms": 7_000}, "date": {"date": 8}}


@pytest.mark.parametrize("form", WAITS)
@pytest.mark.parametrize(("dialect", "kind"), [("chat", "openai"), ("messages", "anthropic"), ("chat", "gemini")])
def test_a4_13_a_429_goes_to_another_at_once_and_tells_its_wait_when_there_is_none(
        rig: Rig, dialect: str, kind: str, form: str) -> None:
    outcome = fails_over(rig, dialect, kind, False, status=429, retry_after=WAITS[form])
    assert outcome.seconds < 3, "nobody waits while another can answer"
    told = refused(rig, dialect, kind, True, status=429, retry_after=WAITS[form])
    assert (told.status, told.code) == (429, "upstream_rate_limited"), told
    assert 6_000 <= int(told.headers["retry-after-ms"]) <= 8_000 and told.headers["x-should-retry"] == "true", told.headers


def test_a4_13_a_credential_cools_for_exactly_the_time_that_was_asked(rig: Rig) -> None:
    wait = 1.5
    rig.script("b")
    rig.script("a", status=429, retry_after={"ms": int(wait * 1e3)}, repeat=1, then={"text": ANSWER})
    model = rig.model("openai")
    began = time.monotonic()
    assert rig.call("chat", model).headers["penstock-provider"] == "b-openai"
    cooled = time.monotonic()
    other = rig.model("openai", spare=False)

    def back() -> bool:
        outcome = rig.call("chat", model)
        assert (outcome.text, outcome.complete) == (ANSWER, True), outcome
        return outcome.headers["penstock-provider"] == "a-openai"

    assert rig.call("chat", other).headers["penstock-provider"] == "a-openai", "the limit is that model's alone"
    harness.until(back, "the target is asked again", 20)
    assert time.monotonic() - began >= wait, "not before its time"
    # Nobody asked it in between: one refusal, the other model's call, and the one that it answered.
    assert rig.asked("a") == 3, rig.calls("a")
    assert time.monotonic() - cooled < 15, "and not long after it"


def test_a4_13_the_smallest_wait_is_told_when_all_are_limited(rig: Rig) -> None:
    rig.script("a", status=429, retry_after=30)
    rig.script("b", status=429, retry_after={"ms": 4_000})
    model = rig.model("openai")
    for _ in range(2):
        told = rig.call("chat", model)
        assert (told.status, told.code) == (429, "upstream_rate_limited"), told
        assert 1_500 <= int(told.headers["retry-after-ms"]) <= 4_000 and told.headers["x-should-retry"] == "true", told.headers
        rig.record(told.id)


STATUSES = {408: True, 409: True, 500: True, 502: True, 503: True, 504: True, 529: True, 413: True, 400: False, 422: False}


@pytest.mark.parametrize(("dialect", "kind"), [("chat", "openai"), ("messages", "anthropic"), ("chat", "gemini")])
def test_a4_15_each_status_is_retried_elsewhere_or_not_as_the_table_says(rig: Rig, dialect: str, kind: str) -> None:
    for status, moves in STATUSES.items():
        rig.script("a", status=status)
        rig.script("b")
        outcome = rig.call(dialect, rig.model(kind))
        if moves:
            assert (outcome.status, outcome.text) == (200, ANSWER), (status, outcome)
            assert rig.asked("b") == 1, status
        else:
            assert 400 <= outcome.status < 500 and outcome.code, (status, outcome)
            assert rig.asked("b") == 0, (status, "what the asker did wrong is wrong everywhere")
        rig.settle(outcome)


def test_a4_16_a_name_that_nobody_knows_is_another_targets_turn() -> None:
    class Nameless(Rig):
        def providers(self, ports: dict[str, int]) -> dict[str, Any]:
            found = super().providers(ports)
            # Reserved to never resolve (RFC 6761, 6.4); whether the resolver says so or says nothing, the connect time bounds it.
            found["a-openai"]["base_url"] = "https://nobody.invalid/v1"
            return found

    with harness.scratch("nameless") as folder:
        rig = Nameless(folder)
        try:
            rig.script("b")
            outcome = rig.call("chat", rig.model("openai"))
            assert (outcome.text, outcome.attempts) == (ANSWER, 2) and outcome.seconds < 5, outcome
            told = rig.call("chat", rig.model("openai", spare=False))
            assert (told.status, told.code) == (502, "upstream_unreachable"), told
            for one in (outcome, told):
                rig.record(one.id)
        finally:
            rig.close()


@pytest.mark.parametrize("peer", ["silent", "plain"])
def test_a4_17_a_handshake_that_stalls_or_is_answered_in_plain_text_is_no_downgrade(peer: str) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server, harness.scratch("handshake") as folder:
        def serve() -> None:
            held = []
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    held.append(link)
                    heard.append(link.recv(65536))
                    if peer == "plain":
                        link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                        link.close()

        threading.Thread(target=serve, daemon=True).start()

        class Stalling(Rig):
            def providers(self, ports: dict[str, int]) -> dict[str, Any]:
                found = super().providers(ports)
                found["a-openai"]["base_url"] = f"https://localhost:{server.getsockname()[1]}/v1"
                return found

        rig = Stalling(folder)
        try:
            rig.script("b")
            outcome = rig.call("chat", rig.model("openai"))
            assert (outcome.text, outcome.attempts) == (ANSWER, 2) and outcome.seconds < 5, outcome
            told = rig.call("chat", rig.model("openai", spare=False))
            assert (told.status, told.code) == (502, "upstream_unreachable"), told
        finally:
            rig.close()
            server.shutdown(socket.SHUT_RDWR)
    assert heard and not any(harness.UPSTREAM_SECRET.encode() in bytes_ or b"HTTP/" in bytes_ for bytes_ in heard)


# Whom a certificate names, from which year until which, and whether its authority is the one that is trusted.
CERTIFICATES: dict[str, tuple[str, int | None, int | None, bool]] = {
    "good": ("localhost", None, None, True),
    "expired": ("localhost", 2019, 2020, True),
    "of-tomorrow": ("localhost", 2090, 2100, True),
    "of-another-name": ("other.example", None, None, True),
    "of-another-authority": ("localhost", None, None, False),
}


@pytest.mark.parametrize("fault", CERTIFICATES)
def test_a4_17_a_vendor_who_cannot_prove_his_name_is_told_nothing_and_the_next_one_answers(fault: str) -> None:
    name, since, until, trusted = CERTIFICATES[fault]
    with harness.scratch("certificate") as folder, contextlib.ExitStack() as stack:
        (folder / "other").mkdir()
        ours, other = Authority(folder), Authority(folder / "other", "another authority")
        heard: list[bytes] = []

        class Encrypted(Rig):
            def providers(self, ports: dict[str, int]) -> dict[str, Any]:
                vendor = (ours if trusted else other).issue(name, since, until)
                self.server = stack.enter_context(FaultProxy(self.mocks["a"].port, heard.append, vendor))
                found = super().providers(ports)
                for kind in ("openai", "anthropic"):
                    found[f"a-{kind}"] |= {"base_url": f"https://localhost:{self.server.port}/v1", "ca_file": str(ours.file)}
                return found

        rig = Encrypted(folder)
        stack.callback(rig.close)
        for dialect, kind in (("chat", "openai"), ("messages", "anthropic"), ("responses", "openai")):
            for stream in (False, True):
                rig.script("a")
                rig.script("b")
                outcome = rig.call(dialect, rig.model(kind), stream=stream)
                assert (outcome.status, outcome.text, outcome.complete) == (200, ANSWER, True), outcome
                if fault == "good":
                    assert outcome.attempts == 1 and rig.asked("b") == 0, "this authority is trusted, so the others' fault is theirs"
                    continue
                taken_over(rig, outcome, None)
                with rig.sdk(dialect) as client, pytest.raises(RAISED) as raised:
                    say(client, dialect, rig.model(kind, spare=False), stream=stream)
                told: Any = raised.value
                assert told.status_code == 502 and "certificate" in str(told), told
                assert rig.asked("a") == 0
        if fault == "good":
            assert harness.UPSTREAM_SECRET.encode() in b"".join(heard)
        else:
            assert (rig.server.connections, heard) == (0, []), "nothing is said to a stranger"


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@ways
def test_the_official_clients_see_one_answer_or_an_exception(rig: Rig, dialect: str, stream: bool) -> None:
    faults: dict[str, dict[str, Any]] = {
        "reset": {"cut": "reset"}, "late": {"hang": "before_headers"}, "down": {"status": 503}, "limited": {"status": 429, "retry_after": 9},
        **(EMPTY if stream else BROKEN)}
    with rig.sdk(dialect) as client:
        for name, script in faults.items():
            rig.script("a", **script)
            rig.script("b")
            assert say(client, dialect, rig.model("anthropic" if dialect == "messages" else "openai"), stream=stream) == ANSWER, name


def test_the_proxy_has_the_eight_toxics_and_they_do_what_they_say(rig: Rig) -> None:
    rig.script("b")
    port = rig.mocks["b"].port
    ask = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    def timed(proxy: FaultProxy) -> tuple[float, Any]:
        began = time.monotonic()
        try:
            reply: Any = harness.http("POST", f"{proxy.url}/v1/chat/completions", ask, timeout=3).status
        except (OSError, http.client.HTTPException) as error:
            reply = type(error).__name__
        return time.monotonic() - began, reply

    with FaultProxy(port) as proxy:
        assert timed(proxy)[1] == 200
        proxy.add("latency", latency=300)
        took, reply = timed(proxy)
        assert took >= 0.3 and reply == 200
        proxy.clear()
        proxy.add("bandwidth", rate=1)
        took, reply = timed(proxy)
        assert took >= 0.2 and reply == 200, "some 500 bytes at 1,000 a second"
        proxy.clear()
        proxy.add("slicer", average_size=20, delay=10_000)
        took, reply = timed(proxy)
        assert took >= 0.1 and reply == 200
        proxy.clear()
        for kind, numbers in (("timeout", {"timeout": 200}), ("limit_data", {"bytes": 9}), ("reset_peer", {"timeout": 0}),
                              ("limit_data", {"bytes": 9, "reset": True})):
            proxy.add(kind, **numbers)
            assert timed(proxy)[1] != 200, kind
            proxy.clear()
        proxy.add("timeout", timeout=0)
        took, reply = timed(proxy)
        assert took >= 2.9 and reply != 200
        proxy.clear()
        proxy.add("latency", "upstream", latency=200)
        assert timed(proxy)[0] >= 0.2
        proxy.clear()
        proxy.add("slow_close", delay=100)
        assert timed(proxy)[1] == 200
        proxy.add("down")
        assert timed(proxy)[1] != 200
        proxy.clear()
        assert timed(proxy)[1] == 200
