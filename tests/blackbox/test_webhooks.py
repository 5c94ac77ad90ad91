"""Webhooks: what happens is told, signed, once, in order, whatever happens to the receiver or to the gateway."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import pathlib
import secrets
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Iterator

import openai
import pytest

import harness
from postgres import Postgres, postgres  # noqa: F401 (a fixture)
from redis import Redis, redis  # noqa: F401 (a fixture)

# A micro-dollar for each token; the scripted answer of `[counted]` costs 63 of them.
PRICE = {"input": 1.5, "cached_input": 0.5, "output": 6}
COST = 63


def hook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Receiver:
    """Notes every delivery; answers with `status`, after waiting for `gate` where that is set."""

    def __init__(self, port: int | None = None):
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self.status, self.headers = 200, {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.deliveries.append((headers, body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port or 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in list(self.deliveries)]

    def told(self) -> list[tuple[str, int]]:
        return [(body["type"], body["data"]["threshold_percent"]) for body in self.bodies()]


class House:
    def __init__(self, folder: pathlib.Path, calls: int, **budget: Any):
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock", harness.suite_script())
        self.port = harness.free_port()
        self.env = {name: harness.new_secret() for name in ("CALLER", "ADMIN")}
        self.env |= {"VENDOR": harness.UPSTREAM_SECRET, "HOOK": hook_secret(), "OLD_HOOK": hook_secret()}
        self.url = f"http://127.0.0.1:{self.port}/hooks/path-5e27147a-never-to-be-seen"
        self.env["HOOK_URL"] = self.url
        hook = {"url": "${HOOK_URL}", "secret": "${HOOK}", "allow_private": ["127.0.0.1"],
                "events": ["budget.threshold", "budget.exhausted"]}
        self.config: dict[str, Any] = {
            "providers": {"outer": {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"}},
            "models": {"priced": {"provider": "outer", "model": "vendor-1", "price": PRICE}},
            "teams": {"support": {"budget": {"usd": calls * COST / 1e6, "per": "month", **budget}}},
            "keys": [
                {"name": "caller", "key": "${CALLER}", "team": "support", "scopes": ["chat:*"]},
                {"name": "admin", "key": "${ADMIN}", "scopes": ["admin:read", "admin:operate"]},
            ],
            "webhooks": [hook],
        }
        self.gateway = harness.Gateway(folder / "gateway", self.config, self.env)

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def call(self, count: int = 1) -> None:
        for _ in range(count):
            reply = self.gateway.chat(self.env["CALLER"], "priced", "count this [counted]", max_tokens=5)
            assert reply.status == 200, reply.text

    def rows(self, query: str = "") -> list[dict[str, Any]]:
        reply = self.gateway.get("/admin/v1/webhook-deliveries" + query, self.env["ADMIN"])
        assert reply.status == 200, reply.text
        return reply.json()["data"]


@contextlib.contextmanager
def house_of(calls: int, **budget: Any) -> Iterator[House]:
    with harness.scratch("webhooks") as folder:
        house = House(folder, calls, **budget)
        try:
            yield house
        finally:
            house.close()


@contextlib.contextmanager
def receiver_at(port: int) -> Iterator[Receiver]:
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()


def verify(headers: dict[str, str], body: bytes, secret: str) -> None:
    """By a library that is not ours: OpenAI signs its own webhooks by the same standard."""
    openai.OpenAI(api_key="none").webhooks.verify_signature(body.decode(), headers, secret=secret)


def test_parts_of_a_budget_are_told_in_order_signed_and_once() -> None:
    with house_of(100) as house, receiver_at(house.port) as receiver:
        house.call(60)
        harness.until(lambda: len(receiver.deliveries) == 1, "a half is told")
        house.call(25)
        harness.until(lambda: len(receiver.deliveries) == 2, "four fifths are told")
        assert receiver.told() == [("budget.threshold", 50), ("budget.threshold", 80)]

        body = receiver.bodies()[0]
        assert set(body) == {"type", "timestamp", "data"}
        data = body["data"]
        assert (data["level"], data["name"], data["per"]) == ("team", "support", "month")
        assert (data["limit_microusd"], data["limit_usd"]) == (100 * COST, f"{100 * COST / 1e6:.6f}")
        assert data["spent_microusd"] == 50 * COST and data["renews_at"].endswith("-01T00:00:00Z")

        for headers, raw in receiver.deliveries:
            verify(headers, raw, house.env["HOOK"])
            assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
            for other in (raw + b" ", raw.replace(b"support", b"finance")):
                with pytest.raises(openai.InvalidWebhookSignatureError):
                    verify(headers, other, house.env["HOOK"])
            with pytest.raises(openai.InvalidWebhookSignatureError):
                verify({**headers, "webhook-id": "evt_other"}, raw, house.env["HOOK"])
            with pytest.raises(openai.InvalidWebhookSignatureError):
                verify({**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)}, raw, house.env["HOOK"])

        # Started again with the same ledger it tells nothing twice.
        house.gateway.stop()
        house.gateway.restart()
        house.call(1)
        rows = house.rows()
        assert [row["state"] for row in rows] == ["delivered", "delivered"]
        assert len(receiver.deliveries) == 2


def test_during_a_change_of_secrets_both_are_good() -> None:
    with house_of(10) as house, receiver_at(house.port) as receiver:
        hook = {**house.config["webhooks"][0], "previous_secret": "${OLD_HOOK}"}
        house.gateway.write({**house.gateway.config, "webhooks": [hook]})
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: 'config_reloads_total{outcome="applied"}' in house.gateway.get("/metrics").text, "a reload")
        house.call(5)
        harness.until(lambda: receiver.deliveries, "a half is told")
        for secret in ("HOOK", "OLD_HOOK"):
            verify(*receiver.deliveries[0], house.env[secret])
        with pytest.raises(openai.InvalidWebhookSignatureError):
            verify(*receiver.deliveries[0], hook_secret())


def test_a_thousand_requests_at_once_tell_three_events() -> None:
    with house_of(1_000) as house, receiver_at(house.port) as receiver:
        with ThreadPoolExecutor(32) as pool:
            replies = list(pool.map(lambda _: house.gateway.chat(
                house.env["CALLER"], "priced", "count this [counted]", max_tokens=5).status, range(1_000)))
        # What is reserved beside each other may keep some out; they come when the others are settled.
        missing = 1_000 - replies.count(200)
        for _ in range(missing):
            house.gateway.chat(house.env["CALLER"], "priced", "count this [counted]", max_tokens=5)
        harness.until(lambda: len(receiver.deliveries) >= 3, "all three are told")
        assert receiver.told() == [("budget.threshold", 50), ("budget.threshold", 80), ("budget.exhausted", 100)]
        harness.until(lambda: {row["state"] for row in house.rows()} == {"delivered"}, "all are known as delivered")
        assert len(house.rows()) == 3 and len(receiver.deliveries) == 3


def test_a_receiver_that_was_down_gets_each_event_once_and_in_order() -> None:
    with house_of(10) as house:
        house.call(9)
        harness.until(lambda: house.rows("?state=waiting") and house.rows()[-1]["attempts"] >= 1, "an attempt failed")
        assert [row["state"] for row in house.rows()] == ["waiting", "waiting"]
        with receiver_at(house.port) as receiver:
            harness.until(lambda: len(receiver.deliveries) == 2, "both are told")
            assert receiver.told() == [("budget.threshold", 50), ("budget.threshold", 80)]
            harness.until(lambda: {row["state"] for row in house.rows()} == {"delivered"}, "both are known as delivered")
            assert len(receiver.deliveries) == 2


def test_what_was_noticed_before_a_kill_is_delivered_after_it() -> None:
    with house_of(10) as house:
        house.call(6)
        # Killed at once: the event is in the outbox, or the ledger says again that it happened.
        spent = lambda: house.gateway.get("/admin/v1/spend?by=team", house.env["ADMIN"]).text  # noqa: E731
        harness.until(lambda: "support" in spent(), "the ledger has an entry")
        house.gateway.kill()
        with receiver_at(house.port) as receiver:
            house.gateway.restart()
            harness.until(lambda: receiver.deliveries, "it is told after the start")
            assert receiver.told() == [("budget.threshold", 50)]
            verify(*receiver.deliveries[0], house.env["HOOK"])


def test_an_endpoint_that_is_gone_is_asked_no_more_until_somebody_asks_for_it() -> None:
    with house_of(10) as house, receiver_at(house.port) as receiver:
        receiver.status = 410
        house.call(9)
        harness.until(lambda: house.rows("?state=dead"), "one delivery is dead")
        assert len(receiver.deliveries) == 1
        receiver.status = 200
        (dead,) = house.rows("?state=dead")
        again = house.gateway.post(f"/admin/v1/webhook-deliveries/{dead['id']}/redeliver", {}, house.env["ADMIN"])
        assert again.status == 200 and again.json()["state"] == "waiting"
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: len(receiver.deliveries) == 3, "both are told after a reload")
        assert sorted(receiver.told()[1:]) == [("budget.threshold", 50), ("budget.threshold", 80)]
        assert house.gateway.post("/admin/v1/webhook-deliveries/dlv_none/redeliver", {}, house.env["ADMIN"]).status == 404


def test_addresses_that_are_not_public_are_refused_unless_they_are_named() -> None:
    with house_of(10) as house, receiver_at(house.port) as receiver:
        hook = {**house.config["webhooks"][0], "allow_private": ["10.0.0.0/8"]}
        house.gateway.write({**house.gateway.config, "webhooks": [hook]})
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: 'config_reloads_total{outcome="applied"}' in house.gateway.get("/metrics").text, "a reload")
        house.call(5)
        harness.until(lambda: house.rows() and house.rows()[0]["attempts"], "an attempt failed")
        assert "127.0.0.1, which is this machine" in house.rows()[0]["last_error"]
        assert receiver.deliveries == []


def test_no_secret_and_no_path_is_ever_shown() -> None:
    with house_of(10) as house, receiver_at(house.port) as receiver:
        receiver.status, receiver.headers = 302, {"location": f"http://127.0.0.1:{house.port}/elsewhere"}
        house.call(9)
        harness.until(lambda: len(receiver.deliveries) >= 2, "both were tried")
        harness.until(lambda: all(row["attempts"] for row in house.rows()), "both attempts failed")
        assert {row["last_status"] for row in house.rows()} == {302}
        assert {row["endpoint"] for row in house.rows()} == {f"http://127.0.0.1:{house.port}"}
        config = house.gateway.get("/admin/v1/config", house.env["ADMIN"])
        seen = [json.dumps(house.rows()), config.text, house.gateway.get("/metrics").text, house.gateway.log()]
        for name in ("HOOK", "OLD_HOOK"):
            assert all(house.env[name] not in text for text in seen)
            assert all(house.env[name].removeprefix("whsec_") not in text for text in seen)
        assert all("never-to-be-seen" not in text for text in seen)


DAY = 86_400


def day(ahead: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead * DAY))


def of(receiver: Receiver, kind: str, **data: str) -> list[dict[str, Any]]:
    """What was told of such an event with this in its data."""
    return [body for body in receiver.bodies() if body["type"] == kind and body["data"].items() >= data.items()]


class Pair:
    """Two gateways with one database and one Redis; a provider of both, and one for each that the other never calls."""

    def __init__(self, folder: pathlib.Path, postgres: Postgres, redis: Redis, receiver: Receiver):  # noqa: F811
        (folder / "mock").mkdir()
        self.mock = harness.Mock(folder / "mock", harness.suite_script())
        self.env = {name: harness.new_secret() for name in ("CALLER", "ADMIN", "BRIEF")}
        self.env |= {"HOOK": hook_secret(), "PEPPER": "ab" * 32, "DATABASE": postgres.url(postgres.create()),
                     "REDIS": redis.url, "VENDOR": harness.UPSTREAM_SECRET}
        outer = {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"}
        self.config = {
            "stores": {"database": "${DATABASE}", "shared": "${REDIS}", "shared_timeout": "10s"},
            "auth": {"pepper": "${PEPPER}"},
            "providers": {name: outer for name in ("both", "left", "right")},
            "models": {name: {"provider": name, "model": "v", "price": PRICE} for name in ("both", "left", "right")},
            "teams": {"support": {"budget": {"usd": 10 * COST / 1e6, "per": "month"}}},
            "keys": [
                {"name": "caller", "key": "${CALLER}", "team": "support", "scopes": ["chat:*"]},
                {"name": "admin", "key": "${ADMIN}", "scopes": ["admin:read", "admin:operate"]},
                {"name": "brief", "key": "${BRIEF}", "scopes": ["chat:*"], "expires": day(3)},
            ],
            "webhooks": [{"url": f"http://127.0.0.1:{receiver.port}/", "secret": "${HOOK}", "allow_private": ["127.0.0.1"]}],
        }
        self.gateways = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            self.gateways.append(harness.Gateway(folder / name, dict(self.config), self.env))

    def close(self) -> None:
        for process in (*self.gateways, self.mock):
            process.kill()

    def fail(self, number: int, model: str) -> None:
        """Until the gateway keeps away from it."""
        def ejected() -> bool:
            self.gateways[number].chat(self.env["BRIEF"], model, "[broken]", max_tokens=5)
            return self.state(number, model) == "ejected"

        harness.until(ejected, f"{model} is kept away from")

    def state(self, number: int, provider: str) -> str:
        rows = self.gateways[number].get("/admin/v1/providers", self.env["ADMIN"]).json()["data"]
        return "".join(target["state"] for row in rows for target in row["targets"] if row["name"] == provider)

    def reinstate(self, number: int, provider: str) -> None:
        reply = self.gateways[number].post(f"/admin/v1/providers/{provider}/reinstate", {}, self.env["ADMIN"])
        assert reply.status == 200, reply.text


def test_a_provider_that_fails_is_told_with_its_reason_and_so_is_its_return() -> None:
    with house_of(100) as house, receiver_at(house.port) as receiver:
        house.config["webhooks"][0]["events"] = ["provider.unavailable", "provider.recovered"]
        house.gateway.write({**house.gateway.config, "webhooks": house.config["webhooks"]})
        house.gateway.signal(signal.SIGHUP)
        harness.until(lambda: 'config_reloads_total{outcome="applied"}' in house.gateway.get("/metrics").text, "a reload")

        def state() -> str:
            rows = house.gateway.get("/admin/v1/providers", house.env["ADMIN"]).json()["data"]
            return "".join(target["state"] for target in rows[0]["targets"])

        def ejected() -> bool:
            assert house.gateway.chat(house.env["CALLER"], "priced", "[broken]", max_tokens=5).status >= 500
            return state() == "ejected"

        harness.until(ejected, "the provider is kept away from")
        harness.until(lambda: receiver.deliveries, "its failure is told")
        down = receiver.bodies()[0]
        assert (down["type"], down["data"]["provider"]) == ("provider.unavailable", "outer")
        assert "because of its errors" in down["data"]["reason"]
        again = house.gateway.post("/admin/v1/providers/outer/reinstate", {}, house.env["ADMIN"])
        assert again.status == 200 and state() == "healthy"
        harness.until(lambda: len(receiver.deliveries) == 2, "its return is told")
        up = receiver.bodies()[1]
        assert up["type"] == "provider.recovered" and up["data"] == {"provider": "outer", "reason": None}
        assert up["timestamp"] > down["timestamp"]
        for headers, body in receiver.deliveries:
            verify(headers, body, house.env["HOOK"])
        assert len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == 2


def test_a_key_in_its_last_week_is_told_once_and_no_other_key_is() -> None:
    with house_of(10) as house, receiver_at(house.port) as receiver:
        house.config["webhooks"][0]["events"] = ["key.expiring", "budget.threshold"]
        keys = [*house.config["keys"], {"name": "root", "key": "${ROOT}", "scopes": ["role:admin"]}]
        house.gateway.env["ROOT"] = root = harness.new_secret()
        house.gateway.stop()
        house.gateway.write({**house.gateway.config, "webhooks": house.config["webhooks"], "keys": keys})
        house.gateway.restart()

        def make(name: str, **members: str) -> str:
            made = house.gateway.post("/admin/v1/keys", {"name": name, "scopes": ["chat:*"], **members}, root)
            assert made.status == 201, made.text
            return made.json()["id"]

        soon = make("soon", expires=day(6.5))
        make("later", expires=day(8))
        make("never")
        gone = make("gone", expires=day(6.5))
        assert house.gateway.post(f"/admin/v1/keys/{gone}/revoke", {}, root).status == 200
        # Keys are looked at once a minute, and at the start.
        for _ in range(2):
            house.gateway.stop()
            house.gateway.restart()
            harness.until(lambda: of(receiver, "key.expiring"), "the key that expires is told")
        # What comes later is told later: once this is here, the second start has told all that it had to tell.
        house.call(5)
        harness.until(lambda: of(receiver, "budget.threshold"), "a half is told")
        (told,) = of(receiver, "key.expiring")
        assert set(told["data"]) == {"id", "name", "expires_at"}
        assert (told["data"]["id"], told["data"]["name"]) == (soon, "soon")
        assert abs(datetime.fromisoformat(told["data"]["expires_at"]).timestamp() - time.time() - 6.5 * DAY) < 600


def test_two_gateways_on_one_database_tell_each_event_once(
    tmp_path: pathlib.Path, postgres: Postgres, redis: Redis,  # noqa: F811
) -> None:
    receiver = Receiver()
    pair = Pair(tmp_path, postgres, redis, receiver)
    try:
        for number in (0, 1) * 5:
            reply = pair.gateways[number].chat(pair.env["CALLER"], "both", "count this [counted]", max_tokens=5)
            # What the last ones would hold may be more than is left.
            assert reply.status in (200, 429), reply.text
        harness.until(lambda: of(receiver, "budget.exhausted"), "all of the budget is told")
        for number, own in ((0, "left"), (1, "right")):
            pair.fail(number, "both")
            pair.fail(number, own)
        # Each tells of its own provider after it has looked at the common one as often.
        for own in ("left", "right"):
            harness.until(lambda own=own: of(receiver, "provider.unavailable", provider=own), f"{own} fell")
        for number, own in ((0, "left"), (1, "right")):
            pair.reinstate(number, "both")
            pair.reinstate(number, own)
        for own in ("left", "right"):
            harness.until(lambda own=own: of(receiver, "provider.recovered", provider=own), f"{own} is back")
        rows = pair.gateways[0].get("/admin/v1/webhook-deliveries?limit=100", pair.env["ADMIN"]).json()["data"]
    finally:
        pair.close()
        receiver.close()
    told = sorted((body["type"], body["data"].get("provider") or body["data"]["name"],
                   body["data"].get("threshold_percent", 0)) for body in receiver.bodies())
    # Five minutes have a border, and the gateways may notice a fall on two sides of it; then it is two events.
    falls = {int(datetime.fromisoformat(body["timestamp"]).timestamp()) // 300
             for body in of(receiver, "provider.unavailable", provider="both")}
    expected = [("budget.exhausted", "support", 100), ("budget.threshold", "support", 50), ("budget.threshold", "support", 80),
                ("key.expiring", "brief", 0)]
    for what in ("recovered", "unavailable"):
        expected += [(f"provider.{what}", name, 0) for name in ("both",) * len(falls) + ("left", "right")]
    assert told == expected
    assert len({headers["webhook-id"] for headers, _ in receiver.deliveries}) == len(receiver.deliveries) == len(rows)
    for headers, body in receiver.deliveries:
        verify(headers, body, pair.env["HOOK"])


def test_what_cannot_be_used_is_found_by_check() -> None:
    with harness.scratch("webhooks-check") as folder:
        hooks = [{"url": "https://u:p@app.example.com/", "secret": "whsec_short"},
                 {"url": "https://2130706433/", "secret": "${GOOD}"}]
        path = folder / "penstock.yaml"
        path.write_text(json.dumps({"version": 1, "webhooks": hooks}))
        done = harness.cli("check", "--json", "--config", str(path), folder=folder, env={"GOOD": hook_secret()})
        problems = {problem["path"] for problem in json.loads(done.stdout)["problems"] if problem["severity"] == "error"}
        assert problems == {"webhooks[0].url", "webhooks[0].secret", "webhooks[1].url"}, done.stdout
        assert done.returncode == 1 and "whsec_short" not in done.stdout
