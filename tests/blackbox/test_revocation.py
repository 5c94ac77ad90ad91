"""What ends when a key ends: open streams; and from where a key may be sent."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any, Iterator

import pytest

import harness

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
