"""Who waits where a provider is full: floods, classes, quotas, and those who leave."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import signal
import socket
import threading
import time
from typing import Any, Iterator

import pytest

import harness

SERVICE = 0.25
RULES = [
    {"when": {"text_contains": "[long]"}, "do": {"text": "said", "latency_ms": 4000}},
    {"when": {"text_contains": "[big]"}, "do": {"text": "said", "usage": {"prompt_tokens": 10, "completion_tokens": 590}}},
    {"do": {"text": "said", "latency_ms": int(SERVICE * 1000)}},
]


class House:
    """A gateway before one bounded provider, and as many keys as there are teams."""

    def __init__(self, folder: pathlib.Path, provider: dict[str, Any], **config: Any):
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock", {"rules": [*RULES[:2]], "default": RULES[2]["do"]})
        names = ("flood", "quiet", "people", "night", "root")
        self.env = {name.upper(): harness.new_secret() for name in names} | {"VENDOR": harness.UPSTREAM_SECRET}
        outer = {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"}
        providers = {"narrow": {**outer, **provider}, "spare": outer}
        models = {"only": {"provider": "narrow", "model": "v"},
                  "either": {"provider": "narrow", "model": "v", "fallbacks": ["beside"]},
                  "beside": {"provider": "spare", "model": "v"}}
        keys = [{"name": name, "key": "${%s}" % name.upper(), "team": name, "scopes": ["chat:*"]} for name in names[:4]]
        keys.append({"name": "root", "key": "${ROOT}", "scopes": ["*"]})
        teams = {"flood": {}, "quiet": {}, "people": {"priority": "interactive"}, "night": {"priority": "batch"}}
        self.gateway = harness.Gateway(
            folder / "gateway", {"providers": providers, "models": models, "keys": keys, "teams": teams, **config}, self.env)
        self.before = self.mock.stats()["requests"]

    def seen(self) -> int:
        """Requests that reached the vendor."""
        return self.mock.stats()["requests"] - self.before

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def chat(self, who: str, text: str = "hello", **members: Any) -> harness.Reply:
        return self.gateway.chat(self.env[who.upper()], members.pop("model", "only"), text, **members)

    def raw(self, who: str, text: str = "hello", **members: Any) -> socket.socket:
        """Sends a request and does not wait for its answer."""
        body = {"model": "only", "messages": [{"role": "user", "content": text}], **members}
        sent = json.dumps(body).encode()
        line = socket.create_connection(("127.0.0.1", self.gateway.port), 30)
        line.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {self.env[who.upper()]}\r\n"
                      f"content-type: application/json\r\ncontent-length: {len(sent)}\r\nconnection: close\r\n\r\n").encode() + sent)
        return line

    def waiting(self) -> int:
        text = self.gateway.get("/metrics", self.env["ROOT"]).text
        return sum(int(float(number)) for number in re.findall(r"^penstock_queue_waiting\{[^}]*\} (\S+)", text, re.M))

    def account(self) -> dict[str, Any]:
        rows = self.gateway.get("/admin/v1/budgets", self.env["ROOT"]).json()["data"]
        return next(row for row in rows if row["level"] == "provider")


@pytest.fixture
def house(tmp_path: pathlib.Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        def build(provider: dict[str, Any], **config: Any) -> House:
            built = House(tmp_path, provider, **config)
            stack.callback(built.close)
            return built

        yield build


def read(line: socket.socket) -> bytes:
    line.settimeout(harness.PATIENCE)
    with line:
        return b"".join(iter(lambda: line.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def queued(reply: harness.Reply) -> float:
    """Seconds in the line, as the answer says."""
    found = re.search(r"queue;dur=([0-9.]+)", reply.headers.get("server-timing", ""))
    return float(found[1]) / 1000 if found else 0.0


def test_a_tenant_with_one_request_waits_one_service_time_while_another_floods(house: Any) -> None:
    at = house({"max_concurrency": 2, "queue": {"max_waiting": 500, "max_wait": "60s"}})
    assert queued(at.chat("quiet")) == 0.0, "alone nobody waits"
    lines = [at.raw("flood") for _ in range(200)]
    harness.until(lambda: at.waiting() >= 150, "the flood waits")
    waits = [queued(at.chat("quiet")) for _ in range(5)]
    assert at.waiting() > 0, "the flood is still there"
    # Two places, so one of them is free within a service time; the rest is what two busy cores need to say so.
    assert max(waits) <= SERVICE + 0.15 and max(waits) > 0, waits
    answers = [status(read(line)) for line in lines]
    assert answers.count(200) == 200, "and nobody of the flood is lost"
    assert at.seen() == 206
    record = at.chat("quiet").headers["x-request-id"]
    assert record and at.waiting() == 0


def test_batch_waits_behind_people_and_a_request_can_only_be_less_urgent(house: Any) -> None:
    at = house({"max_concurrency": 1, "queue": {"max_waiting": 100, "max_wait": "60s"}})
    order: list[str] = []

    def ask(name: str, who: str, **members: Any) -> threading.Thread:
        def work() -> None:
            assert at.chat(who, **members).status == 200
            order.append(name)

        before = at.waiting()
        thread, _ = harness.in_background(work)
        if order is not None:
            harness.until(lambda: at.waiting() > before, f"{name} waits")
        return thread

    first = at.raw("quiet", "[long]")
    harness.until(lambda: at.seen() >= 1, "the only place is taken")
    threads = [
        ask("night", "night"),
        ask("boast", "night", penstock={"priority": "interactive"}),
        ask("flex", "quiet", service_tier="flex"),
        ask("usual", "quiet"),
        ask("people", "people"),
    ]
    for thread in threads:
        thread.join(harness.PATIENCE)
    assert status(read(first)) == 200
    assert order[:2] == ["people", "usual"], order
    assert set(order[2:]) == {"night", "boast", "flex"} and order.index("night") < order.index("boast"), order


def test_keys_of_the_database_take_turns_by_their_own_priority(house: Any, tmp_path: pathlib.Path) -> None:
    at = house({"max_concurrency": 1, "queue": {"max_waiting": 100, "max_wait": "60s"}})
    root = at.env["ROOT"]
    wish = {"name": "night-owl", "team": "people", "scopes": ["chat:*"], "priority": "batch"}
    made = at.gateway.post("/admin/v1/keys", wish, root).json()
    assert made["priority"] == "batch", made
    done = harness.cli("keys", "create", "--config", str(at.gateway.path), "--name", "desk", "--team", "night", "--scope", "chat:*",
                       "--priority", "interactive", "--json", folder=tmp_path, env=at.env)
    assert done.returncode == 0 and json.loads(done.stdout)["priority"] == "interactive", done.stderr
    wrong = harness.cli("keys", "create", "--config", str(at.gateway.path), "--name", "x", "--priority", "urgent", folder=tmp_path, env=at.env)
    assert wrong.returncode != 0 and "priority: expected interactive, standard or batch" in wrong.stderr, wrong.stderr
    keys = {"batch": made["key"], "interactive": json.loads(done.stdout)["key"]}
    known = lambda: at.gateway.get("/v1/models", keys["interactive"]).status != 401
    harness.until(known, "the gateway knows the key of the command line", 10)
    listed = {one["name"]: one["priority"] for one in at.gateway.get("/admin/v1/keys", root).json()["data"]}
    assert (listed["night-owl"], listed["desk"], listed["people"]) == ("batch", "interactive", None), listed
    first = at.raw("quiet", "[long]")
    harness.until(lambda: at.seen() >= 1, "the only place is taken")
    order: list[str] = []

    def ask(name: str, key: str) -> threading.Thread:
        def work() -> None:
            assert at.gateway.chat(key, "only").status == 200
            order.append(name)

        before = at.waiting()
        thread, _ = harness.in_background(work)
        harness.until(lambda: at.waiting() > before, f"{name} waits")
        return thread

    threads = [ask("batch", keys["batch"]), ask("usual", at.env["QUIET"]), ask("interactive", keys["interactive"])]
    for thread in threads:
        thread.join(harness.PATIENCE)
    assert status(read(first)) == 200
    assert order == ["interactive", "usual", "batch"], "whatever their teams are"


def test_a_full_provider_is_passed_over_and_explain_says_so(house: Any) -> None:
    at = house({"max_concurrency": 1})
    first = at.raw("flood", "[long]")
    harness.until(lambda: at.seen() >= 1, "the only place is taken")
    reply = at.chat("quiet", model="either")
    assert (reply.status, reply.headers["penstock-provider"], reply.headers["penstock-attempts"]) == (200, "spare", "1")
    assert queued(reply) == 0.0
    assert status(read(first)) == 200
    path = f"/admin/v1/requests/{reply.headers['x-request-id']}"
    harness.until(lambda: at.gateway.get(path, at.env["ROOT"]).status == 200, "the record is kept")
    considered = at.gateway.get(path, at.env["ROOT"]).json()["considered"]
    assert {one["provider"]: one["verdict"] for one in considered}["narrow"] == "full", considered


def test_a_providers_rate_says_whose_it_is_and_when_it_fits(house: Any) -> None:
    at = house({"limits": {"output_tokens_per_minute": 600}, "queue": {"max_waiting": 5, "max_wait": "1s"}})
    assert at.chat("quiet", "[big]", max_tokens=600).status == 200
    refused = at.chat("quiet", max_tokens=300)
    error = refused.json()["error"]
    assert (refused.status, error["code"]) == (429, "rate_limit_exceeded"), refused.text
    assert "the provider narrow may use 600 output tokens per minute" in error["message"]
    assert 20 <= int(refused.headers["retry-after"]) <= 30
    never = at.chat("quiet", max_tokens=601)
    assert never.status == 429 and "retry-after" not in never.headers, never.text
    assert at.chat("quiet", model="either", max_tokens=300).headers["penstock-provider"] == "spare"
    account = at.account()
    assert account["name"] == "narrow" and account["rates"]["output_tokens"]["limit"] == 600
    assert account["held"]["output_tokens"] == 0 and account["in_flight"] == 0
    # What fits soon is waited for instead: 10 tokens come back in a second.
    left = account["rates"]["output_tokens"]["remaining"]
    waited = at.chat("quiet", max_tokens=left + 5)
    assert waited.status == 200 and queued(waited) > 0.05, waited.text


def test_who_leaves_frees_a_place_in_the_line_and_waiting_can_be_off(house: Any) -> None:
    at = house({"max_concurrency": 1, "queue": {"max_waiting": 4, "max_wait": "60s"}})
    first = at.raw("flood", "[long]")
    harness.until(lambda: at.seen() >= 1, "the only place is taken")
    lines = [at.raw("quiet"), at.raw("quiet")]
    harness.until(lambda: at.waiting() == 2, "both wait")
    full = at.chat("quiet")
    assert full.status == 503 and full.json()["error"]["code"] == "overloaded" and int(full.headers["retry-after"]) >= 1
    assert at.seen() == 1
    for line in lines:
        line.close()
    harness.until(lambda: at.waiting() == 0, "who left waits no longer")
    assert at.chat("quiet").status == 200
    assert status(read(first)) == 200
    assert at.seen() == 2, "nobody asked the vendor for those who left"


def test_a_stop_lets_those_who_wait_have_their_turn_or_tells_them(house: Any) -> None:
    at = house({"max_concurrency": 1, "queue": {"max_waiting": 40, "max_wait": "60s"}}, server={"drain": "6s"})
    first = at.raw("flood", "[long]")
    harness.until(lambda: at.seen() >= 1, "the only place is taken")
    lines = [at.raw("quiet") for _ in range(15)]
    harness.until(lambda: at.waiting() == 15, "they wait")
    begun = time.monotonic()
    at.gateway.child.send_signal(signal.SIGTERM)
    answers = [read(line) for line in [first, *lines]]
    statuses = [status(answer) for answer in answers]
    assert set(statuses) == {200, 503} and statuses[0] == 200, statuses
    assert all(b'"server_shutdown"' in answer for answer in answers if status(answer) == 503)
    assert time.monotonic() - begun < 10
