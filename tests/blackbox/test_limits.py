"""Limits that hold: tokens and money on every level, under a rush, over every surface, after every kill."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import selectors
import signal
import socket
import sqlite3
import threading
import time
from typing import Any, Iterator

import pytest

import harness

# Longer than the ledger may take to be safe from kill -9 (docs/how-to/limit-and-budget.md).
SAFE_AFTER = 0.3
# Ten micro-dollars for each token of an answer, nothing for prompts: what a request costs is what it says.
PRICE = {"input": 0, "output": 10}
SPOKEN = {"text": "a b c d e", "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
RULES = [
    {"when": {"text_contains": "[late]"}, "do": {**SPOKEN, "latency_ms": 400}},
    {"when": {"text_contains": "[five]"}, "do": SPOKEN},
    {"when": {"text_contains": "[broken]"}, "do": {"status": 400}},
    {"when": {"text_contains": "[long]"}, "do": {"tokens": 30, "inter_token_ms": 30}},
    {"when": {"text_contains": "[endless]"}, "do": {"tokens": 4000, "inter_token_ms": 1}},
]
EVERYTHING = ["chat:*", "embeddings:*", "models:*", "admin:*"]


class House:
    """A gateway before a scripted upstream whose answers have a price."""

    def __init__(self, folder: pathlib.Path, **config: Any):
        self.folder = folder
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock", {"rules": RULES})
        self.env = {"VENDOR": harness.UPSTREAM_SECRET, "ROOT": harness.new_secret()}
        outer = {"base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"}
        keys = config.pop("keys", [])
        for key in keys:
            self.env[key["name"].upper()] = harness.new_secret()
            key.update(key="${%s}" % key["name"].upper(), scopes=EVERYTHING)
        keys.append({"name": "root", "key": "${ROOT}", "scopes": ["*"]})
        models = {"said": {"provider": "outer", "model": "v", "price": PRICE},
                  "claude": {"provider": "claude", "model": "v", "price": PRICE},
                  "unpriced": {"provider": "outer", "model": "nobody-knows"}}
        for name, more in config.pop("models", {}).items():
            models[name] = {**models.get(name, {"provider": "outer", "model": "v", "price": PRICE}), **more}
        self.config = {"providers": {"outer": {"kind": "openai", **outer}, "claude": {"kind": "anthropic", **outer}},
                       "models": models, "keys": keys, **config}
        self.gateway = harness.Gateway(folder / "gateway", self.config, self.env)

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def chat(self, key: str, text: str = "[five]", **members: Any) -> harness.Reply:
        return self.gateway.chat(self.env[key.upper()], members.pop("model", "said"), text, **members)

    def ask(self, path: str) -> Any:
        reply = self.gateway.get(path, self.env["ROOT"])
        assert reply.status == 200, reply.text
        return reply.json()

    def account(self, level: str, name: str | None = None) -> dict[str, Any]:
        rows = [row for row in self.ask("/admin/v1/budgets")["data"] if row["level"] == level and row["name"] == name]
        assert len(rows) == 1, rows
        return rows[0]

    def ledger(self, question: str) -> list[tuple[Any, ...]]:
        path = self.folder / "gateway" / "data" / "ledger.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(question).fetchall()

    def quiet(self, count: int) -> None:
        """Waits until the ledger has so many ends and nothing is open."""
        def settled() -> bool:
            with contextlib.suppress(sqlite3.OperationalError):
                return self.ledger("SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM open)")[0] == (count, 0)
            return False
        harness.until(settled, f"the ledger has {count} entries and nothing open")

    def agree(self) -> int:
        """What was spent, by the counters, the ledger's entries, its sums, its report, and the records alike."""
        entries = self.ledger("SELECT coalesce(sum(max(cost, 0)), 0) FROM entries")[0][0]
        sums = self.ledger("SELECT coalesce(sum(cost), 0) FROM hours")[0][0]
        report = self.ask("/admin/v1/spend?by=key&from=2d")["total"]["cost"]["micro_usd"]
        counter = self.account("organisation")["spent"]["lifetime"]["micro_usd"]
        assert entries == sums == report == counter, (entries, sums, report, counter)
        return counter


@pytest.fixture
def house(tmp_path: pathlib.Path) -> Iterator[Any]:
    built: list[House] = []

    def build(**config: Any) -> House:
        built.append(House(tmp_path, **config))
        return built[-1]

    yield build
    for one in built:
        one.close()


def error(reply: harness.Reply) -> dict[str, Any]:
    return reply.json()["error"]


def rush(house: House, key: str, count: int, body: dict[str, Any]) -> list[bytes]:
    """Sends so many requests over as many connections, all of them before the first answer is read."""
    text = json.dumps(body).encode()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {house.env[key.upper()]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n").encode()
    lines = [socket.create_connection(("127.0.0.1", house.gateway.port), 30) for _ in range(count)]
    for line in lines:
        line.sendall(head + text)
    answers = {line: b"" for line in lines}
    with selectors.DefaultSelector() as ready:
        for line in lines:
            ready.register(line, selectors.EVENT_READ)
        while ready.get_map():
            for found, _ in ready.select(30):
                piece = found.fileobj.recv(65536)
                answers[found.fileobj] += piece
                if not piece:
                    ready.unregister(found.fileobj)
                    found.fileobj.close()
    return list(answers.values())


def test_a_thousand_requests_at_once_against_a_budget_for_ten(house: Any) -> None:
    at = house(keys=[{"name": "caller", "team": "support"}], teams={"support": {"budget": {"usd": 0.0005, "per": "month"}}})
    body = {"model": "said", "max_tokens": 5, "messages": [{"role": "user", "content": "[late]"}]}
    before = at.mock.stats()["requests"]
    answers = rush(at, "caller", 1000, body)
    statuses = [int(answer.split(b" ", 2)[1]) for answer in answers]
    assert statuses.count(200) == 10 and statuses.count(429) == 990, sorted(set(statuses))
    at.quiet(10)
    assert at.agree() == 500
    team = at.account("team", "support")
    assert (team["left"]["micro_usd"], team["in_flight"], team["held"]["cost"]["micro_usd"]) == (0, 0, 0)
    assert at.mock.stats()["requests"] - before == 10, "who was refused never reached the vendor"
    # The records are written by a queue of their own.
    usage = lambda: at.ask("/admin/v1/usage?by=team&since=2d")["total"]
    harness.until(lambda: usage()["requests"] == 1000, "every request is on record", 20)
    assert usage()["cost"]["micro_usd"] == 500, "the records say the same"


def test_a_budget_says_whose_it_is_and_when_it_comes_back_in_both_dialects(house: Any) -> None:
    at = house(keys=[{"name": "caller", "team": "support", "budget": {"usd": 0.00012, "per": "day"}}],
               teams={"support": {"budget": {"usd": 1, "per": "month"}}})
    for _ in range(2):
        assert at.chat("caller", max_tokens=5).status == 200
    refused = at.chat("caller", max_tokens=5)
    assert (refused.status, error(refused)["type"], error(refused)["code"]) == (429, "insufficient_quota", "budget_exceeded")
    assert "this key (0.00012 USD per day) has 0.000020 USD left" in error(refused)["message"]
    assert "begins anew on" in error(refused)["message"]
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
    message = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "[five]"}]}
    refused = at.gateway.post("/v1/messages", message, at.env["CALLER"])
    assert (refused.status, error(refused)["type"]) == (402, "billing_error")
    assert at.chat("caller", max_tokens=2).status == 200, "what still fits still runs"


def test_every_surface_draws_from_the_same_rates_and_tells_them_in_its_own_words(house: Any) -> None:
    limits = {"tokens_per_minute": 6000, "input_tokens_per_minute": 3000, "requests_per_hour": 50}
    at = house(keys=[{"name": "caller", "limits": limits}])
    key = at.env["CALLER"]
    chat = at.chat("caller", max_tokens=5)
    assert chat.headers["x-ratelimit-limit-requests"] == "50" and chat.headers["x-ratelimit-remaining-requests"] == "49"
    assert chat.headers["x-ratelimit-limit-tokens"] == "3000", "the rate that binds most"
    message = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "[five]"}]}
    answers = [
        at.gateway.post("/v1/messages", message, key),
        at.gateway.post("/v1/responses", {"model": "said", "max_output_tokens": 16, "input": "[five]"}, key),
        at.gateway.post("/v1/messages/count_tokens", {"model": "claude", "messages": message["messages"]}, key),
        at.gateway.post("/v1/embeddings", {"model": "said", "input": "[five]"}, key),
    ]
    assert [answer.status for answer in answers] == [200] * 4, [answer.text for answer in answers]
    told = answers[0].headers
    assert told["anthropic-ratelimit-requests-remaining"] == "48" and "x-ratelimit-limit-requests" not in told
    assert told["anthropic-ratelimit-input-tokens-limit"] == "3000"
    assert told["anthropic-ratelimit-tokens-limit"] == "6000" and told["anthropic-ratelimit-tokens-reset"].endswith("Z")
    at.quiet(5)
    rates = at.account("key", "caller")["rates"]
    assert rates["requests"]["remaining"] == 45, "counting tokens is a request"
    used = 3000 - rates["input_tokens"]["remaining"]
    embedded = answers[3].json()["usage"]["prompt_tokens"]
    assert used <= 7 * 3 + embedded, "counting uses no tokens, and what was held too much came back"
    assert rates["tokens"]["remaining"] <= 6000 - 5


def test_a_refusal_says_when_the_same_request_fits_and_then_it_does(house: Any) -> None:
    at = house(keys=[{"name": "caller", "team": "support"}], teams={"support": {"limits": {"output_tokens_per_minute": 600}}})
    long = {"text": "[five]", "max_tokens": 600}
    assert at.chat("caller", **long).status == 200
    refused = at.chat("caller", **long)
    assert (refused.status, error(refused)["code"]) == (429, "rate_limit_exceeded")
    assert "the team support may use 600 output tokens per minute" in error(refused)["message"]
    wait = int(refused.headers["retry-after-ms"])
    assert 0 < wait <= 500, "five tokens of 600 come back in half a second"
    time.sleep((wait + 1) / 1000)
    assert at.chat("caller", **long).status == 200
    never = at.chat("caller", max_tokens=601)
    assert never.status == 429 and never.headers["x-should-retry"] == "false" and "retry-after" not in never.headers
    assert "never fits" in error(never)["message"]


def test_models_and_the_organisation_have_limits_of_their_own(house: Any) -> None:
    at = house(keys=[{"name": "one"}, {"name": "two"}], organisation={"limits": {"requests_per_day": 5}},
               models={"said": {"limits": {"requests_per_minute": 2}, "aliases": ["other-name"]}})
    assert [at.chat(key, model=model).status for key, model in [("one", "said"), ("two", "other-name")]] == [200, 200]
    refused = at.chat("two")
    assert refused.status == 429 and "the model said may make 2 requests per minute" in error(refused)["message"]
    assert [at.chat("one", model="unpriced").status for _ in range(3)] == [200] * 3, "a refusal used nothing up"
    refused = at.chat("one", model="unpriced")
    assert refused.status == 429 and "the organisation may make 5 requests per day" in error(refused)["message"]


def test_without_a_price_a_budget_lets_nothing_through(house: Any) -> None:
    at = house(keys=[{"name": "caller", "budget": {"usd": 1, "per": "lifetime"}}])
    refused = at.chat("caller", model="unpriced")
    assert (refused.status, error(refused)["code"]) == (403, "price_unknown")
    assert at.chat("root", model="unpriced").status == 200


def test_what_a_failed_call_and_a_client_that_left_held_comes_back(house: Any) -> None:
    at = house(keys=[{"name": "caller", "budget": {"usd": 1, "per": "day"}, "limits": {"concurrent_requests": 1}}])
    assert at.chat("caller", "[broken]").status >= 400
    at.quiet(1)
    assert at.ledger("SELECT kind, cost FROM entries") == [(1, 0)], "refunded"
    body = json.dumps({"model": "said", "stream": True, "messages": [{"role": "user", "content": "[long]"}]}).encode()
    with socket.create_connection(("127.0.0.1", at.gateway.port), 30) as line:
        line.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {at.env['CALLER']}\r\n"
                     f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        assert b"200 OK" in line.recv(4096)
    at.quiet(2)
    account = at.account("key", "caller")
    assert account["in_flight"] == 0 and account["held"]["cost"]["micro_usd"] == 0
    assert at.chat("caller").status == 200, "the slot is free"
    at.quiet(3)
    at.agree()


def test_an_answer_without_a_bound_ends_when_nothing_more_is_lent(house: Any) -> None:
    at = house(keys=[{"name": "caller", "limits": {"output_tokens_per_minute": 500}}])
    body = {"model": "said", "stream": True, "messages": [{"role": "user", "content": "[endless]"}]}
    events = harness.sse(f"{at.gateway.url}/v1/chat/completions", body, at.env["CALLER"])
    assert events[-1] != "[DONE]" and json.loads(events[-1])["error"]["code"] == "rate_limit_exceeded"
    at.quiet(1)
    output = at.ledger("SELECT output FROM entries")[0][0]
    assert 500 < output <= 1100, "a bucket, and at most another one of debt"


def test_a_key_made_on_the_command_line_has_its_budget_and_spend_adds_up(house: Any) -> None:
    at = house()
    config = ["--config", str(at.gateway.path)]
    made = harness.cli("keys", "create", *config, "--name", "made", "--team", "red", "--budget", "0.0001/day", "--limit",
                       "10000tpm", "--limit", "9rpd", "--json", folder=at.folder, env=at.env)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert key["limits"]["tokens_per_minute"] == 10000 and key["budget"] == {"usd": 0.0001, "per": "day"}
    ask = lambda: at.gateway.chat(key["key"], "said", "[five]", max_tokens=5, penstock={"tags": {"app": "=shop"}})
    harness.until(lambda: ask().status == 200, "the gateway knows the key")
    assert [ask().status, ask().status] == [200, 429]
    at.quiet(2)
    table = harness.cli("spend", *config, folder=at.folder, env=at.env)
    assert table.returncode == 0 and "made" in table.stdout and "0.000100" in table.stdout, table.stdout + table.stderr
    lines = harness.cli("spend", *config, "--by", "tag:app", "--csv", folder=at.folder, env=at.env).stdout.splitlines()
    assert lines[1].startswith('"\'=shop",2,14,10,') and lines[-1].startswith("total,2,14,10,"), lines
    shown = at.gateway.get("/admin/v1/spend?by=team&format=csv", at.env["ROOT"])
    assert shown.headers["content-type"].startswith("text/csv") and '"red",2,14,10,' in shown.text
    assert at.gateway.stop() == 0
    at.gateway.restart()
    assert ask().status == 429, "budgets outlive the process"
    assert at.agree() == 100
    bad = harness.cli("keys", "create", *config, "--name", "x", "--budget", "5/week", folder=at.folder, env=at.env)
    assert bad.returncode == 1 and "5/day" in bad.stderr


def test_nothing_settled_is_lost_to_kill_9(house: Any) -> None:
    at = house(keys=[{"name": "caller", "team": "red", "budget": {"usd": 1000, "per": "lifetime"}}],
               teams={"red": {"budget": {"usd": 1000, "per": "month"}}})
    dice = random.Random(4711)
    settled: dict[str, tuple[float, int]] = {}
    end, rounds, open_streams = time.monotonic() + 40, 0, 0
    while time.monotonic() < end or rounds < 3:
        stop = threading.Event()

        def work(stream: bool) -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, ValueError):
                    if stream:
                        body = {"model": "said", "stream": True, "messages": [{"role": "user", "content": "[long]"}]}
                        harness.sse(f"{at.gateway.url}/v1/chat/completions", body, at.env["CALLER"])
                    else:
                        reply = at.chat("caller", max_tokens=5)
                        if reply.status == 200:
                            settled[reply.headers["x-request-id"]] = (
                                time.monotonic(), round(float(reply.headers["penstock-cost"]) * 1e6))

        workers = [threading.Thread(target=work, args=(number < 2,), daemon=True) for number in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(dice.uniform(0.2, 1.5))
        stop.set()
        killed = time.monotonic()
        at.gateway.signal(signal.SIGKILL)
        at.gateway.wait()
        for worker in workers:
            worker.join(30)
        open_streams += at.ledger("SELECT count(*) FROM open")[0][0]
        at.gateway.restart()
        rounds += 1
        known = dict(at.ledger("SELECT id, cost FROM entries WHERE kind = 0"))
        lost = {name for name, (when, cost) in settled.items() if known.get(name) != cost and when < killed - SAFE_AFTER}
        assert not lost, f"after round {rounds}: {len(lost)} settled requests are not in the ledger as they were told"
        settled = {name: row for name, row in settled.items() if name in known}
        assert at.ledger("SELECT count(*) FROM open") == [(0,)], "what was open is settled at the start"
        assert at.ledger("SELECT count(*) FROM entries WHERE kind = 2 AND estimated = 0") == [(0,)]
        at.agree()
    assert len(settled) > 20 and open_streams > 0, "the kills met requests under way"
    print(f"{rounds} kills, {len(settled)} settled requests, {open_streams} open ones settled as estimated")
