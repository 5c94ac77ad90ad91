"""Two gateways on one PostgreSQL: what one does, the other knows; and what happens when the database is gone or slow."""

from __future__ import annotations

import json
import pathlib
import secrets
import signal
import subprocess
import threading
import time
from typing import Any, Iterator

import pytest

import harness
from postgres import PASSWORD, QUOTED, Postgres, postgres, server  # noqa: F401: a fixture is known by its name

MOCK = {"rules": [{"when": {"text_contains": "[slow]"}, "do": {"text": "word " * 3000, "inter_token_ms": 100}}]}


class Pair:
    """Two gateways with one pepper, one database and one vendor."""

    def __init__(self, folder: pathlib.Path, database: str):
        self.folder = folder
        self.admin = harness.new_secret()
        self.env = {"ROOT_KEY": self.admin, "PEPPER": secrets.token_hex(32), "DATABASE_URL": database}
        self.mock = harness.Mock(self.place("mock"), MOCK)
        self.config: dict[str, Any] = {
            "stores": {"database": "${DATABASE_URL}"},
            "auth": {"pepper": "${PEPPER}"},
            "providers": {"outer": {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "sk-none"}},
            "models": {"mock": {"provider": "outer", "model": "m", "price": {"input": 1, "output": 1}}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
        }
        self.one = self.gateway("one")
        self.other = self.gateway("other")

    def place(self, name: str) -> pathlib.Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def gateway(self, name: str, **changes: Any) -> harness.Gateway:
        return harness.Gateway(self.place(name), {**self.config, **changes}, self.env)

    def cli(self, *arguments: str, of: harness.Gateway | None = None) -> subprocess.CompletedProcess[str]:
        gateway = of or self.one
        return harness.cli(*arguments, "--config", str(gateway.path), folder=gateway.folder, env=self.env)

    def make_key(self, gateway: harness.Gateway, name: str) -> tuple[str, str]:
        made = gateway.post("/admin/v1/keys", {"name": name, "scopes": ["chat:*"]}, self.admin)
        assert made.status == 201, made.text
        return harness.find_key(made.text), made.json()["id"]

    def spent(self, gateway: harness.Gateway, key: str) -> dict[str, Any]:
        rows = gateway.get("/admin/v1/spend?by=key", self.admin).json()["data"]
        return next((row for row in rows if row["group"] == key), {"requests": 0})

    def kill(self) -> None:
        for process in (self.one, self.other, self.mock):
            process.kill()


@pytest.fixture(scope="module")
def pair(postgres: Postgres) -> Iterator[Pair]:  # noqa: F811
    with harness.scratch("postgres") as folder:
        both = Pair(folder, postgres.url(postgres.create()))
        yield both
        both.kill()


def test_a_key_made_or_revoked_at_one_gateway_counts_at_the_other_within_a_second(pair: Pair) -> None:
    secret, key = pair.make_key(pair.one, "shared")
    begun = time.monotonic()
    harness.until(lambda: pair.other.chat(secret).status == 200, "the key works at the other gateway", 10)
    assert time.monotonic() - begun < 1.5
    assert pair.other.post(f"/admin/v1/keys/{key}/revoke", {}, pair.admin).status == 200
    begun = time.monotonic()
    harness.until(lambda: pair.one.chat(secret).status == 401, "the revoked key is refused", 10)
    assert time.monotonic() - begun < 1.5


def test_requests_of_both_stand_in_one_search_one_usage_and_one_spend(pair: Pair) -> None:
    secret, key = pair.make_key(pair.one, "counted")
    harness.until(lambda: pair.other.chat(secret).status == 200, "the key works at the other gateway", 10)
    asked = 1
    for gateway in (pair.one, pair.other) * 5:
        assert gateway.chat(secret).status == 200
        asked += 1
    for gateway in (pair.one, pair.other):
        def all_there() -> bool:
            return pair.spent(gateway, key)["requests"] >= asked

        harness.until(all_there, "the ledger has every request")
        assert pair.spent(gateway, key)["requests"] == asked
        found = harness.until(
            lambda: (page := gateway.get(f"/admin/v1/requests?key={key}&limit=100", pair.admin).json()["data"])
            and len(page) >= asked and page, "the records have every request")
        good = [row for row in found if row["status"] == "ok"]
        assert len(good) == asked and len({row["id"] for row in good}) == asked
        usage = gateway.get("/admin/v1/usage?by=key", pair.admin).json()["data"]
        assert next(row for row in usage if row["group"] == key)["requests"] == len(found)


def test_both_write_one_audit_log_that_is_whole_wherever_it_is_checked(pair: Pair) -> None:
    for turn in range(6):
        pair.make_key((pair.one, pair.other)[turn % 2], f"audited-{turn}")
    for gateway in (pair.one, pair.other):
        done = pair.cli("audit", "verify", "--json", of=gateway)
        verdict = json.loads(done.stdout)
        assert done.returncode == 0 and verdict["ok"] and verdict["rows"] >= 8, done.stdout + done.stderr


def test_every_verb_finds_the_database_and_none_prints_its_password(pair: Pair) -> None:
    request = pair.one.chat(pair.admin).headers["x-request-id"]
    harness.until(lambda: pair.cli("explain", request, "--json").returncode == 0, "the record is there")
    made = pair.cli("keys", "create", "--name", "by-hand", "--json")
    assert made.returncode == 0, made.stderr
    secret = harness.find_key(made.stdout)
    harness.until(lambda: pair.other.chat(secret).status == 200, "a key of the command line works", 10)
    told = ""
    for verb in (("keys", "list"), ("spend", "--by", "key"), ("audit", "list"), ("explain", request), ("doctor",),
                 ("check", "--online"), ("config", "show")):
        done = pair.cli(*verb)
        assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"
        told += done.stdout + done.stderr
    assert "by-hand" in told and "${DATABASE_URL}" in told
    told += pair.one.log() + pair.other.log() + pair.one.get("/admin/v1/config", pair.admin).text
    assert PASSWORD not in told and QUOTED not in told


def test_a_gateway_with_another_pepper_or_a_wrong_password_does_not_start_and_says_why(pair: Pair) -> None:
    config = {**pair.config, "auth": {}}
    with harness.scratch("pepper") as folder:
        gateway = harness.Gateway(folder, config, pair.env, ready=False)
        assert gateway.wait() == 1
        assert "copy the file `pepper`" in gateway.log() or "auth.pepper" in gateway.log()
        gateway.kill()
    with harness.scratch("password") as folder:
        env = {**pair.env, "DATABASE_URL": pair.env["DATABASE_URL"].replace(QUOTED, "hunter2")}
        gateway = harness.Gateway(folder, pair.config, env, ready=False)
        assert gateway.wait() == 1
        assert "refuses the user or the password" in gateway.log() and "hunter2" not in gateway.log()
        gateway.kill()


class Load:
    """Requests at both gateways until it is stopped."""

    def __init__(self, pair: Pair, key: str):
        self.pair, self.key = pair, key
        self.statuses: list[int] = []
        self.slowest = 0.0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(gateway,)) for gateway in (pair.one, pair.other)]
        for thread in self._threads:
            thread.start()

    def _ask(self, gateway: harness.Gateway) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            self.statuses.append(gateway.chat(self.key).status)
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def after(self, more: int) -> None:
        goal = len(self.statuses) + more
        harness.until(lambda: len(self.statuses) >= goal, f"{more} more requests are answered")

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def alone() -> Iterator[tuple[Postgres, Pair]]:
    """A server that may be killed, with a pair of its own."""
    with server() as own, harness.scratch("postgres-alone") as folder:
        both = Pair(folder, own.url(own.create()))
        yield own, both
        both.kill()


def everything_is_there(pair: Pair, key: str, asked: int) -> None:
    harness.until(lambda: pair.spent(pair.one, key)["requests"] >= asked, f"{asked} requests are in the ledger")
    harness.until(
        lambda: next((row for row in pair.one.get("/admin/v1/usage?by=key", pair.admin).json()["data"]
                      if row["group"] == key), {"requests": 0})["requests"] >= asked, f"{asked} records are there")
    assert pair.spent(pair.one, key)["requests"] == asked
    usage = pair.one.get("/admin/v1/usage?by=key", pair.admin).json()["data"]
    assert next(row for row in usage if row["group"] == key)["requests"] == asked


def test_a_database_that_crashes_or_stands_still_fails_no_request_and_loses_nothing(alone: tuple[Postgres, Pair]) -> None:
    database, pair = alone
    secret, key = pair.make_key(pair.one, "loaded")
    asked = 0

    def works() -> bool:
        nonlocal asked
        good = pair.other.chat(secret).status == 200
        asked += good
        return good

    harness.until(works, "the key works at the other gateway", 10)
    load = Load(pair, secret)
    try:
        load.after(20)
        database.crash()
        load.after(40)
        database.restart()
        load.after(40)
        database.pause()
        load.after(40)
        database.go_on()
        load.after(40)
    finally:
        load.stop()
    assert set(load.statuses) == {200}
    assert load.slowest < 10, f"{load.slowest} s"
    everything_is_there(pair, key, asked + len(load.statuses))


def test_a_gateway_that_stood_still_too_long_cannot_settle_what_the_other_settled(pair: Pair, postgres: Postgres) -> None:  # noqa: F811
    third = pair.gateway("third")
    secret, key = pair.make_key(third, "stopped")
    body = {"model": "mock", "stream": True, "messages": [{"role": "user", "content": "[slow]"}]}
    seen = threading.Event()

    def read() -> None:
        harness.sse(f"{third.url}/v1/chat/completions", body, secret, lambda line: seen.set())

    thread, _ = harness.in_background(read)
    assert seen.wait(30)
    name = pair.env["DATABASE_URL"].rsplit("/", 1)[1]
    harness.until(lambda: postgres.sql(name, f"SELECT count(*) FROM ledger_open WHERE key = '{key}'") == "1",
                  "the reservation is written down as open")
    third.signal(signal.SIGSTOP)
    try:
        harness.until(lambda: pair.spent(pair.one, key)["requests"] == 1, "another gateway settles it", 60)
        settled = pair.spent(pair.one, key)
    finally:
        third.signal(signal.SIGCONT)
    pair.mock.kill()
    thread.join(60)
    assert third.stop() == 0
    third.kill()
    assert pair.spent(pair.one, key) == settled, "the first word stands"
    assert postgres.sql(name, f"SELECT count(*), min(kind) FROM ledger_entries WHERE key = '{key}'") == "1|2"
