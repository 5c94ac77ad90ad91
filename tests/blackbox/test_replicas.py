"""Several gateways enforce one limit and one budget exactly: under a rush, after every kill, and while Redis is gone."""

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
from postgres import Postgres, postgres  # noqa: F401 (a fixture)
from redis import Redis, redis  # noqa: F401 (a fixture)

# Ten micro-dollars for each token of an answer, nothing for prompts.
PRICE = {"input": 0, "output": 10}
SPOKEN = {"text": "a b c d e", "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
RULES = [
    {"when": {"text_contains": "[late]"}, "do": {**SPOKEN, "latency_ms": 400}},
    {"when": {"text_contains": "[five]"}, "do": SPOKEN},
    {"when": {"text_contains": "[long]"}, "do": {"tokens": 30, "inter_token_ms": 30}},
]
# Longer than the ledger may take to be safe from kill -9 (docs/how-to/limit-and-budget.md).
SAFE_AFTER = 0.5
BODY = {"model": "said", "max_tokens": 5, "messages": [{"role": "user", "content": "[five]"}]}


class Houses:
    """Gateways with one ledger, in a file or in PostgreSQL, and one Redis before one scripted upstream."""

    def __init__(self, folder: pathlib.Path, server: Redis, count: int, database: Postgres | None = None, **config: Any):
        self.folder, self.redis, self.postgres = folder, server, database
        stores = {"shared": server.url, **config.pop("stores", {})}
        if database:
            self.database = database.create()
            stores["database"] = database.url(self.database)
        # A ledger in a file is in a folder that all share; with PostgreSQL each has its own folder, and all have one pepper.
        home = {"auth": {"pepper": "${PEPPER}"}} if database else {"data_dir": str(folder / "data")}
        (folder / "mock").mkdir()
        self.mock = harness.Mock(folder / "mock", {"rules": RULES})
        self.env = {"VENDOR": harness.UPSTREAM_SECRET, "ROOT": harness.new_secret(), "CALLER": harness.new_secret(),
                    "PEPPER": "ab" * 32}
        outer = {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}", **config.pop("provider", {})}
        caller = {"name": "caller", "key": "${CALLER}", "scopes": ["chat:*"], **config.pop("caller", {})}
        self.config = {
            **home,
            "providers": {"outer": outer},
            "models": {"said": {"provider": "outer", "model": "v", "price": PRICE}},
            "keys": [caller, {"name": "root", "key": "${ROOT}", "scopes": ["*"]}],
            "stores": stores,
            **config,
        }
        self.gateways: list[harness.Gateway] = []
        for number in range(count):
            home = folder / f"gateway{number}"
            home.mkdir()
            self.gateways.append(harness.Gateway(home, dict(self.config), self.env))

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.kill()
        self.mock.kill()

    def chat(self, number: int, text: str = "[five]", **members: Any) -> harness.Reply:
        return self.gateways[number].chat(self.env["CALLER"], "said", text, **{"max_tokens": 5, **members})

    def ledger(self, what: str, table: str, where: str = "") -> list[tuple[Any, ...]]:
        """Rows of `entries` or `open`."""
        question = f"SELECT {what} FROM {'ledger_' if self.postgres else ''}{table} {where}"
        if self.postgres:
            number = lambda text: int(text) if text.lstrip("-").isdigit() else text or None
            rows = self.postgres.sql(self.database, question).splitlines()
            return [tuple(number(field) for field in row.split("|")) for row in rows]
        path = self.folder / "data" / "ledger.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(question).fetchall()

    def written(self) -> int:
        return int(self.ledger("coalesce(sum(cost), 0)", "entries", "WHERE cost > 0")[0][0])

    def agree(self, patience: float = 30) -> int:
        """Waits for quiet: nothing open, nothing held, and what was spent is the same in the ledger and in Redis."""
        seen: list[Any] = []

        def agreed() -> bool:
            with contextlib.suppress(sqlite3.OperationalError):
                team = self.redis.account("team", "support")
                seen[:] = [team, self.written(), self.ledger("count(*)", "open")[0][0]]
                return team == {"spent": seen[1], "unwritten": 0, "held": 0, "in_flight": 0} and seen[2] == 0
            return False

        try:
            harness.until(agreed, "the counters equal the ledger", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None
        assert self.redis.account("organisation")["spent"] == seen[1]
        return seen[1]

    def metric(self, number: int, series: str) -> float:
        lines = self.gateways[number].get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(series))


@pytest.fixture
def houses(tmp_path: pathlib.Path, redis: Redis) -> Iterator[Any]:  # noqa: F811
    built: list[Houses] = []

    def build(count: int, **config: Any) -> Houses:
        config.setdefault("caller", {"team": "support"})
        built.append(Houses(tmp_path, redis, count, **config))
        return built[-1]

    yield build
    for one in built:
        one.close()


def rush(at: Houses, count: int, body: dict[str, Any]) -> list[int]:
    """Sends so many requests over as many connections, by turns to every gateway, all before the first answer is read."""
    text = json.dumps(body).encode()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {at.env['CALLER']}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n").encode()
    ports = [gateway.port for gateway in at.gateways]
    lines = [socket.create_connection(("127.0.0.1", ports[one % len(ports)]), 30) for one in range(count)]
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
    return [int(answer.split(b" ", 2)[1]) for answer in answers.values()]


def test_a_thousand_requests_at_once_at_four_gateways_against_a_budget_for_ten(houses: Any) -> None:
    # Long enough to wait on a busy machine: the one that gives up would go by its own part, which is another test.
    at = houses(4, teams={"support": {"budget": {"usd": 0.0005, "per": "month"}}}, stores={"shared_timeout": "10s"})
    before = at.mock.stats()["requests"]
    statuses = rush(at, 1000, {**BODY, "messages": [{"role": "user", "content": "[late]"}]})
    assert statuses.count(200) == 10 and statuses.count(429) == 990, {one: statuses.count(one) for one in set(statuses)}
    assert at.agree() == 500
    assert at.mock.stats()["requests"] - before == 10, "who was refused never reached the vendor"
    refused = at.chat(3)
    assert refused.status == 429 and "the team support (0.0005 USD per month) is spent" in refused.text


def test_the_same_holds_with_the_ledger_in_postgresql(houses: Any, postgres: Postgres) -> None:  # noqa: F811
    stores = {"shared_timeout": "10s"}
    at = houses(4, teams={"support": {"budget": {"usd": 0.0005, "per": "month"}}}, stores=stores, database=postgres)
    statuses = rush(at, 1000, {**BODY, "messages": [{"role": "user", "content": "[late]"}]})
    assert statuses.count(200) == 10 and statuses.count(429) == 990, {one: statuses.count(one) for one in set(statuses)}
    assert at.agree() == 500
    rows = at.gateways[2].get("/admin/v1/budgets", at.env["ROOT"]).json()["data"]
    team = next(row for row in rows if row["level"] == "team")
    report = at.gateways[1].get("/admin/v1/spend?by=team&from=2d", at.env["ROOT"]).json()["total"]
    assert (team["spent"]["lifetime"]["micro_usd"], team["left"]["micro_usd"]) == (500, 0), team
    assert report["cost"]["micro_usd"] == 500, "and so does the ledger; who waited long for a refusal stands there with nothing"


def test_rates_and_slots_hold_for_all_gateways_and_the_headers_say_so(houses: Any) -> None:
    limits = {"requests_per_day": 7, "concurrent_requests": 2}
    at = houses(2, teams={"support": {"limits": limits}}, stores={"shared_timeout": "5s"})
    left = [at.chat(number % 2).headers["x-ratelimit-remaining-requests"] for number in range(4)]
    assert left == ["6", "5", "4", "3"]
    statuses = rush(at, 6, {**BODY, "messages": [{"role": "user", "content": "[late]"}]})
    assert statuses.count(200) == 2, "two slots at both gateways together"
    at.agree()
    assert at.chat(1).status == 200, "the slots are free again, and one request is left"
    refused = [at.chat(number) for number in (0, 1)]
    for one in refused:
        assert one.status == 429 and "may make 7 requests per day" in one.text
        assert one.headers["x-ratelimit-remaining-requests"] == "0"


# Fewer kills where a start takes longer and the stores are the same servers all the time.
@pytest.mark.parametrize(("database", "seconds"), [("sqlite", 45), ("postgresql", 25)])
def test_nothing_settled_is_lost_when_gateways_are_killed(
    houses: Any, postgres: Postgres, database: str, seconds: float,  # noqa: F811
) -> None:
    at = houses(3, teams={"support": {"budget": {"usd": 1000, "per": "lifetime"}}},
                database=postgres if database == "postgresql" else None)
    dice = random.Random(4711)
    settled: dict[str, tuple[float, int, int]] = {}
    stop = threading.Event()

    def work(number: int, stream: bool) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                if stream:
                    body = {"model": "said", "stream": True, "messages": [{"role": "user", "content": "[long]"}]}
                    harness.sse(f"{at.gateways[number].url}/v1/chat/completions", body, at.env["CALLER"])
                else:
                    reply = at.chat(number)
                    if reply.status == 200:
                        cost = round(float(reply.headers["penstock-cost"]) * 1e6)
                        settled[reply.headers["x-request-id"]] = (time.monotonic(), number, cost)
            time.sleep(0.002)

    workers = [threading.Thread(target=work, args=(number, stream), daemon=True)
               for number in range(3) for stream in (False, True)]
    for worker in workers:
        worker.start()
    killed: list[tuple[float, int]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(killed) < 3:
        time.sleep(dice.uniform(0.1, 1.0))
        victim = dice.randrange(3)
        gateway = at.gateways[victim]
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        killed.append((time.monotonic(), victim))
        gateway.restart()
    stop.set()
    for worker in workers:
        worker.join(30)
    time.sleep(SAFE_AFTER)
    spent = at.agree()
    known = dict(at.ledger("id, cost", "entries"))
    safe = lambda when, at_one: all(number != at_one or abs(when - death) > SAFE_AFTER for death, number in killed)
    lost = [name for name, (when, number, cost) in settled.items() if known.get(name) != cost and safe(when, number)]
    assert not lost, f"{len(lost)} of {len(settled)} settled requests are not in the ledger as they were told"
    assert len(settled) > 50 and len(killed) > 3 and spent > 0
    assert at.ledger("count(*)", "entries", "WHERE kind = 2 AND estimated = 0") == [(0,)]
    print(f"{len(killed)} kills, {len(settled)} settled, {spent} micro-dollars")


def test_without_redis_each_gateway_lives_on_its_part_and_brings_what_it_used(houses: Any) -> None:
    at = houses(2, teams={"support": {"budget": {"usd": 0.001, "per": "month"}}})
    for number in (0, 1):
        known = lambda number=number: at.metric(number, "penstock_shared_gateways")
        harness.until(lambda: known() == 2, "both know each other", 20)
    assert [at.chat(number).status for number in (0, 1, 0, 1)] == [200] * 4
    at.agree()
    # The one that asked last knows best: 800 of 1,000 micro-dollars are left, and half of that is each one's part.
    at.redis.signal(signal.SIGKILL)
    at.redis.wait()
    statuses = rush(at, 60, BODY)
    passed = statuses.count(200)
    assert 4 <= passed <= 16 and statuses.count(429) == 60 - passed, statuses
    assert at.gateways[0].get("/readyz").status == 200
    at.redis.restart()
    spent = at.agree()
    assert spent == (4 + passed) * 50, "nothing that was used without it is lost"
    statuses = rush(at, 60, BODY)
    assert statuses.count(200) == 20 - 4 - passed, "and the rest of the budget is what is left"
    assert at.agree() == 1000


def test_a_redis_that_is_slow_or_flushed_in_mid_load_loses_nothing(houses: Any) -> None:
    at = houses(2, teams={"support": {"budget": {"usd": 1000, "per": "month"}}})
    before = at.mock.stats()["requests"]
    stop = threading.Event()
    slowest, statuses = [0.0], set()

    def work(number: int) -> None:
        while not stop.is_set():
            began = time.monotonic()
            statuses.add(at.chat(number).status)
            slowest[0] = max(slowest[0], time.monotonic() - began)

    workers = [threading.Thread(target=work, args=(number % 2,), daemon=True) for number in range(4)]
    for worker in workers:
        worker.start()
    for trouble in ("stop", "flush", "kill", "stop", "flush"):
        time.sleep(1)
        if trouble == "stop":
            at.redis.signal(signal.SIGSTOP)
            time.sleep(3)
            at.redis.signal(signal.SIGCONT)
        elif trouble == "flush":
            at.redis.ask("FLUSHALL")
        else:
            at.redis.signal(signal.SIGKILL)
            at.redis.wait()
            at.redis.restart()
    time.sleep(1)
    stop.set()
    for worker in workers:
        worker.join(60)
    assert statuses == {200}, "the budget is far away"
    assert slowest[0] < 5, "nobody waits for a Redis that does not answer"
    assert at.agree() == (at.mock.stats()["requests"] - before) * 50


def test_refuse_means_that_nothing_runs_without_asking(houses: Any) -> None:
    at = houses(1, teams={"support": {"budget": {"usd": 1, "per": "month"}}}, stores={"shared_failure": "refuse"})
    assert at.chat(0).status == 200
    at.redis.signal(signal.SIGKILL)
    at.redis.wait()
    refused = at.chat(0)
    assert refused.status == 503 and refused.json()["error"]["code"] == "store_unavailable"
    harness.until(lambda: at.gateways[0].get("/readyz").status == 503, "it is not ready", 10)
    at.redis.restart()
    harness.until(lambda: at.chat(0).status == 200, "it runs again", 20)
    at.agree()
