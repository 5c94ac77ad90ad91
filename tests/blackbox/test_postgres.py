"""Two gateways on one PostgreSQL: what one does, the other knows; what happens when the database is gone, slow or late; TLS."""

from __future__ import annotations

import contextlib
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
from authority import Authority
from postgres import PASSWORD, QUOTED, Postgres, postgres, server  # noqa: F401: a fixture is known by its name
from redis import Redis

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


def single(folder: pathlib.Path, database: str, **stores: Any) -> harness.Gateway:
    """One gateway without a vendor, on a database, not waited for."""
    root = harness.new_secret()
    config = {
        "stores": {"database": "${DATABASE_URL}", **stores},
        "providers": {"inner": {"kind": "mock"}},
        "models": {"mock": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
    }
    env = {"ROOT_KEY": root, "DATABASE_URL": database}
    return harness.Gateway(folder, config, env, ready=False)


@pytest.fixture
def late() -> Iterator[tuple[Postgres, harness.Gateway]]:
    """A gateway that was started before its database, which has crashed."""
    with server() as own, harness.scratch("postgres-late") as folder:
        address = own.url(own.create())
        own.crash()
        gateway = single(folder, address)
        try:
            gateway.wait_ready(f"{gateway.url}/livez")
            yield own, gateway
        finally:
            gateway.kill()


def test_a_gateway_that_starts_before_its_database_says_what_is_missing_and_serves_when_it_comes(
        late: tuple[Postgres, harness.Gateway]) -> None:
    database, gateway = late
    ready = gateway.get("/readyz")
    assert (ready.status, ready.json()["status"], ready.json()["store"]["status"]) == (503, "starting", "unavailable")
    assert "stores.database" in ready.json()["store"]["reason"]
    refused = gateway.chat(gateway.env["ROOT_KEY"])
    assert (refused.status, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert refused.headers["retry-after"] == "1" and refused.headers["x-request-id"].startswith("req_")
    harness.until(lambda: "it is tried again" in gateway.log(), "the log says so", 20)
    database.restart()
    gateway.wait_ready(f"{gateway.url}/readyz")
    assert gateway.chat(gateway.env["ROOT_KEY"]).status == 200
    assert PASSWORD not in gateway.log() and QUOTED not in gateway.log()
    assert gateway.stop() == 0


def test_a_signal_ends_a_gateway_that_waits_for_its_database(late: tuple[Postgres, harness.Gateway]) -> None:
    _, gateway = late
    begun = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - begun < 5


def test_a_gateway_whose_database_does_not_come_ends_after_the_stated_wait_and_says_why() -> None:
    with harness.scratch("postgres-never") as folder:
        nobody = f"postgres://penstock:{QUOTED}@127.0.0.1:{harness.free_port()}/none"
        begun = time.monotonic()
        gateway = single(folder, nobody, database_wait="2s")
        try:
            assert gateway.wait() == 1
            assert time.monotonic() - begun >= 2
            assert "takes no connection" in gateway.log() and "stores.database_wait" in gateway.log()
        finally:
            gateway.kill()


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Postgres, Authority, pathlib.Path]]:
    """A server with TLS whose certificate, for `localhost`, is of an authority that no system knows."""
    with server() as own, harness.scratch("postgres-tls") as folder:
        authority = Authority(folder)
        own.encrypt(authority.write("localhost"))
        yield own, authority, folder


def over_tls(secure: tuple[Postgres, Authority, pathlib.Path], query: str, host: str = "localhost") -> tuple[int, str]:
    """How a gateway fares with an address: 200 and the server's word on its connections, or its exit code and its log."""
    database, _, folder = secure
    name = database.create()
    address = database.url(name).replace("@127.0.0.1:", f"@{host}:") + query
    with harness.scratch("gateway-tls") as place:
        gateway = single(place, address, database_wait="3s")
        try:
            def settled() -> bool:
                if not gateway.alive():
                    return True
                with contextlib.suppress(OSError):
                    return gateway.get("/readyz").status == 200
                return False

            harness.until(settled, "it serves, or has ended")
            if not gateway.alive():
                return gateway.wait(), gateway.log()
            assert gateway.chat(gateway.env["ROOT_KEY"]).status == 200
            kinds = database.sql(name, "SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) "
                                       "WHERE a.application_name = 'penstock'")
            return 200, kinds
        finally:
            gateway.kill()


@pytest.mark.parametrize("query", ["?sslmode=require", "?sslmode=require&sslrootcert=AUTHORITY", "?sslmode=verify-ca&sslrootcert=AUTHORITY",
                                   "?sslmode=verify-full&sslrootcert=AUTHORITY", ""])
def test_every_connection_to_the_database_is_encrypted(secure: Any, query: str) -> None:
    assert over_tls(secure, query.replace("AUTHORITY", str(secure[1].file))) == (200, "t")


def test_without_tls_every_connection_is_in_the_clear_where_that_is_asked_for(secure: Any) -> None:
    assert over_tls(secure, "?sslmode=disable") == (200, "f")


def test_a_database_that_proves_to_be_somebody_else_is_refused_at_once_and_the_mend_is_told(secure: Any) -> None:
    _, authority, folder = secure
    other = folder / "other"
    other.mkdir(exist_ok=True)
    stranger = Authority(other, "another authority").file
    for query, host, says in (
        ("?sslmode=verify-full", "localhost", "UnknownIssuer"),
        (f"?sslmode=verify-full&sslrootcert={stranger}", "localhost", "no secure connection"),
        # An authority that is named is asked, whatever the mode is called.
        (f"?sslmode=require&sslrootcert={stranger}", "localhost", "no secure connection"),
        (f"?sslmode=verify-full&sslrootcert={authority.file}", "127.0.0.1", "no secure connection"),
        (f"?sslmode=verify-full&sslrootcert={folder}/none.pem", "localhost", "cannot be read"),
        (f"?sslrootcert={authority.file}", "localhost", "add sslmode=verify-full"),
    ):
        begun = time.monotonic()
        code, log = over_tls(secure, query, host)
        assert code == 1 and says in log, f"{query}: {log}"
        assert PASSWORD not in log and QUOTED not in log
        assert "it is tried again" not in log and time.monotonic() - begun < 30, query


def test_a_database_without_tls_is_refused_where_tls_is_required(postgres: Postgres) -> None:  # noqa: F811
    with harness.scratch("postgres-plain") as folder:
        gateway = single(folder, postgres.url(postgres.create()) + "?sslmode=require")
        try:
            assert gateway.wait() == 1
            assert "no secure connection" in gateway.log() and "it is tried again" not in gateway.log()
        finally:
            gateway.kill()


def test_gateways_share_a_redis_over_tls_that_an_own_authority_vouches_for(postgres: Postgres) -> None:  # noqa: F811
    with harness.scratch("redis-tls") as folder:
        authority = Authority(folder)
        redis = Redis(folder, authority.write("localhost"))
        gateway = None
        try:
            # One that speaks TLS alone would do as well: this one is asked for the account without it.
            env = {"REDIS_URL": f"{redis.tls_url}?sslrootcert={authority.file}", "DATABASE_URL": postgres.url(postgres.create()),
                   "ROOT_KEY": harness.new_secret()}
            config = {
                "stores": {"database": "${DATABASE_URL}", "shared": "${REDIS_URL}", "shared_timeout": "5s", "shared_failure": "refuse"},
                "providers": {"inner": {"kind": "mock"}},
                "models": {"mock": {"provider": "inner", "model": "m", "price": {"input": 1, "output": 1}}},
                "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"], "team": "support"}],
                "teams": {"support": {"budget": {"usd": 1, "per": "month"}}},
            }
            gateway = harness.Gateway(folder, config, env)
            assert gateway.chat(env["ROOT_KEY"]).status == 200
            harness.until(lambda: redis.account("team", "support")["spent"] > 0, "Redis has heard of it")
            good = harness.cli("check", "--config", str(gateway.path), "--online", folder=folder, env=env)
            assert good.returncode == 0 and "secure" not in good.stdout, good.stdout
            for wrong, says in ((redis.tls_url, "no secure connection to Redis"), (f"{redis.tls_url}#insecure", "no # in it"),
                                (f"{redis.url}?sslrootcert={authority.file}", "rediss://")):
                told = harness.cli("check", "--config", str(gateway.path), "--online", folder=folder, env={**env, "REDIS_URL": wrong})
                assert says in told.stdout + told.stderr and "a-pass-word" not in told.stdout + told.stderr, told.stdout + told.stderr
        finally:
            if gateway:
                gateway.kill()
            redis.kill()
