"""What ends when a key or a token ends: open streams; and from where a key may be sent."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
import time
import urllib.parse
from typing import Any, Callable, Iterator

import pytest

import harness
from test_oidc import OPAQUE, SECRET, Issuers

SCRIPT = {"rules": []}


class House:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.admin = harness.new_secret()
        self.mock = harness.Mock(folder)
        config: Any = {
            "providers": {"far": {"kind": "openai_compatible", "base_url": f"{self.mock.url}/v1", "api_key": "sk-mock"}},
            "models": {"mock": {"provider": "far", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]},
                     {"name": "abroad", "key": "${ABROAD_KEY}", "scopes": ["*"], "allow_ips": ["192.0.2.0/24"]},
                     {"name": "here", "key": "${HERE_KEY}", "scopes": ["*"], "allow_ips": ["127.0.0.0/8", "::1"]}],
        }
        self.abroad, self.here = harness.new_secret(), harness.new_secret()
        self.gateway = harness.Gateway(folder, config, {
            "ROOT_KEY": self.admin, "ABROAD_KEY": self.abroad, "HERE_KEY": self.here})


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("revocation") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()
        home.mock.kill()


@pytest.mark.parametrize("script", ["slow", "silent"])
def test_revoking_a_key_ends_its_open_stream_within_five_seconds(house: House, script: str) -> None:
    made = house.gateway.post("/admin/v1/keys", {"name": f"leaver-{script}", "scopes": ["chat:*"]}, house.admin).json()
    body = {"model": "mock", "stream": True, "mock": harness.SCRIPTS[script],
            "messages": [{"role": "user", "content": "hello"}]}
    begun: list[float] = []
    thread, box = harness.in_background(lambda: harness.sse(
        f"{house.gateway.url}/v1/chat/completions", body, made["key"], lambda line: begun.append(time.monotonic())))
    harness.until(lambda: sum(1 for _ in begun) > 2, "the stream speaks")
    revoked = time.monotonic()
    assert house.gateway.post(f"/admin/v1/keys/{made['id']}/revoke", {}, house.admin).status == 200
    thread.join(harness.PATIENCE)
    assert time.monotonic() - revoked < 5
    events = box[0]
    assert isinstance(events, list), events
    assert events[-1] != "[DONE]"
    assert json.loads(events[-1])["error"]["code"] == "invalid_api_key"
    found = lambda: [r for r in house.gateway.get(f"/admin/v1/requests?key={made['id']}", house.admin).json()["data"]]  # noqa: E731
    record = harness.until(found, "the record", 15)[0]
    assert (record["status"], record["code"]) == ("failed", "invalid_api_key")


def test_a_key_works_from_its_own_addresses_alone(house: House) -> None:
    assert house.gateway.chat(house.here).status == 200
    refused = house.gateway.chat(house.abroad)
    assert (refused.status, refused.json()["error"]["code"]) == (403, "ip_not_allowed")
    assert house.gateway.get("/admin/v1/config", house.abroad).status == 403
    # Nobody is believed who only says where they are.
    for name in ("x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip"):
        body = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
        told = house.gateway.post("/v1/chat/completions", body, house.abroad, **{name: "192.0.2.7"})
        assert told.status == 403, name


def test_behind_a_trusted_proxy_its_word_counts_and_only_the_right_most(house: House) -> None:
    with harness.scratch("proxied") as folder:
        config = {**house.gateway.config, "data_dir": str(folder / "data"), "server": {"trusted_proxies": ["127.0.0.1"]}}
        gateway = harness.Gateway(folder, config, house.gateway.env)
        body = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
        ask = lambda told: gateway.post("/v1/chat/completions", body, house.abroad, **{"x-forwarded-for": told}).status  # noqa: E731
        try:
            assert ask("192.0.2.7") == 200
            assert ask("192.0.2.7, 198.51.100.1") == 403
            assert ask("198.51.100.1, 192.0.2.7") == 200
            assert gateway.chat(house.abroad).status == 403
        finally:
            gateway.kill()


class Clerk:
    """Answers questions about tokens (RFC 7662), as it is told to, and notes when each was asked about."""

    def __init__(self) -> None:
        clerk = self
        self.asked: dict[str, list[float]] = {}
        self.withdrawn: set[str] = set()
        self.silent = False

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                token = form["token"][0]
                clerk.asked.setdefault(token, []).append(time.monotonic())
                if clerk.silent:
                    return self.send_error(503)
                body = json.dumps({"active": token not in clerk.withdrawn, "token_type": "Bearer", "aud": "penstock",
                                   "sub": "somebody", "scope": "chat:invoke"}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/introspect"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Gate:
    """A gateway that asks about every token, and whose issuers' word holds for two seconds."""

    def __init__(self, folder: pathlib.Path):
        self.issuers, self.clerk, self.mock = Issuers(folder), Clerk(), harness.Mock(folder)
        asked = {"client_id": "app", "client_secret": "${APP_SECRET}", "cache": "2s"}
        self.config: Any = {
            "providers": {"far": {"kind": "openai_compatible", "base_url": f"{self.mock.url}/v1", "api_key": "sk-mock"}},
            "models": {"mock": {"provider": "far", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
            "auth": {"oidc": [
                {"issuer": self.issuers.certified, "audience": "penstock", "introspection": asked},
                {"issuer": self.issuers.forging, "audience": "penstock",
                 "introspection": {**asked, "url": self.clerk.url, "opaque": False, "always": True}},
            ]},
        }
        self.admin = harness.new_secret()
        self.gateway = harness.Gateway(folder, self.config, {"ROOT_KEY": self.admin, "APP_SECRET": SECRET})
        ready = self.issuers.sign(sub="first")
        harness.until(lambda: self.gateway.chat(ready).status == 200, "the issuer's keys are here", 30)

    def close(self) -> None:
        for process in (self.gateway, self.mock, self.issuers):
            process.kill()
        self.clerk.close()

    def stream(self, token: str, script: str = "slow") -> tuple[threading.Thread, list[Any]]:
        """A stream that has begun, its thread and where its events will be."""
        body = {"model": "mock", "stream": True, "mock": harness.SCRIPTS[script],
                "messages": [{"role": "user", "content": "hello"}]}
        begun = threading.Event()
        thread, box = harness.in_background(lambda: harness.sse(
            f"{self.gateway.url}/v1/chat/completions", body, token, lambda line: begun.set()))
        assert begun.wait(30)
        return thread, box

    def ends(self, stream: tuple[threading.Thread, list[Any]], withdraw: Callable[[], None], within: float) -> None:
        """The stream runs, and ends when its token is withdrawn."""
        thread, box = stream
        assert thread.is_alive(), box
        withdrawn = time.monotonic()
        withdraw()
        thread.join(harness.PATIENCE)
        assert time.monotonic() - withdrawn < within
        events = box[0]
        assert isinstance(events, list) and events[-1] != "[DONE]", events
        assert json.loads(events[-1])["error"]["code"] == "invalid_token"


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with harness.scratch("withdrawal") as folder:
        own = Gate(folder)
        yield own
        own.close()


@pytest.mark.parametrize("script", ["slow", "silent"])
def test_revoking_an_opaque_token_at_its_issuer_ends_its_open_stream(gate: Gate, script: str) -> None:
    token, other = gate.issuers.grant(OPAQUE), gate.issuers.grant(OPAQUE)
    stream, beside = gate.stream(token, script), gate.stream(other)
    # The word of two seconds, the look of two at a silent stream, and a busy machine.
    gate.ends(stream, lambda: gate.issuers.revoke(token), 12)
    assert gate.gateway.chat(token).json()["error"]["code"] == "invalid_token"
    assert beside[0].is_alive(), "another token of the same subject goes on"
    gate.ends(beside, lambda: gate.issuers.revoke(other), 12)


def test_a_signed_token_is_asked_about_and_ends_with_its_open_stream_when_it_is_withdrawn(gate: Gate) -> None:
    token = gate.issuers.sign(sub="alice")
    stream = gate.stream(token)
    assert len(gate.clerk.asked[token]) == 1
    gate.ends(stream, lambda: gate.clerk.withdrawn.add(token), 12)
    refused = gate.gateway.chat(token)
    assert (refused.status, refused.json()["error"]["code"]) == (401, "invalid_token")
    # What its keys do not prove is never asked about.
    forged = token[:-6]
    assert gate.gateway.chat(forged).status == 401 and forged not in gate.clerk.asked


def test_a_token_with_many_open_streams_is_asked_about_once_a_period_and_never_without_one(gate: Gate) -> None:
    token = gate.issuers.sign(sub="busy")
    streams = [gate.stream(token, "silent") for _ in range(8)]
    harness.until(lambda: len(gate.clerk.asked[token]) >= 4, "its issuer is asked again and again", 30)
    times = gate.clerk.asked[token]
    assert all(after - before > 1.9 for before, after in zip(times, times[1:])), times
    gate.clerk.withdrawn.add(token)
    for thread, _ in streams:
        thread.join(harness.PATIENCE)
    quiet = gate.issuers.sign(sub="quiet")
    assert gate.gateway.chat(quiet).status == 200
    # Two streams that begin later are asked about twice each before the quiet one is looked at.
    watch = gate.issuers.sign(sub="watch")
    beside = gate.stream(watch, "silent")
    harness.until(lambda: len(gate.clerk.asked[watch]) >= 3, "two periods passed", 30)
    assert len(gate.clerk.asked[quiet]) == 1
    gate.ends(beside, lambda: gate.clerk.withdrawn.add(watch), 12)


def test_an_issuer_that_is_silent_for_longer_than_a_period_ends_open_streams(gate: Gate) -> None:
    token = gate.issuers.sign(sub="carol")
    stream = gate.stream(token)
    try:
        gate.ends(stream, lambda: setattr(gate.clerk, "silent", True), 15)
        refused = gate.gateway.chat(token)
        assert (refused.status, refused.json()["error"]["code"]) == (503, "issuer_unavailable")
    finally:
        gate.clerk.silent = False
    harness.until(lambda: gate.gateway.chat(token).status == 200, "the issuer is believed again", 15)


def test_an_issuer_that_leaves_the_configuration_ends_the_streams_of_its_tokens(gate: Gate) -> None:
    with harness.scratch("withdrawal-reload") as folder:
        gateway, before = harness.Gateway(folder, gate.config, gate.gateway.env), gate.gateway
        gate.gateway = gateway
        try:
            token = gate.issuers.grant(OPAQUE)
            harness.until(lambda: gateway.chat(token).status == 200, "the token is taken", 30)
            stream = gate.stream(token)
            oidc = gate.config["auth"]["oidc"][1:]
            gate.ends(stream, lambda: gateway.write({**gateway.config, "auth": {"oidc": oidc}}), 15)
        finally:
            gate.gateway = before
            gateway.kill()
