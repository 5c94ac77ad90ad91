"""Keys: made, listed, rotated, revoked by the CLI and the admin API while the gateway serves."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Iterator

import pytest

import harness


class House:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.admin = harness.new_secret()
        config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}, "other": {"provider": "inner", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["admin:*"]}],
        }
        self.gateway = harness.Gateway(folder, config, {"ROOT_KEY": self.admin})

    def keys(self, *arguments: str, ok: bool = True) -> Any:
        done = harness.cli("keys", *arguments, "--config", str(self.gateway.path), "--json", folder=self.folder,
                           env={"ROOT_KEY": self.admin})
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return json.loads(done.stdout) if ok else done.stdout + done.stderr

    def works(self, secret: str, model: str = "mock") -> int:
        return self.gateway.chat(secret, model).status


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("keys") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()


def secret_of(made: Any) -> str:
    return harness.find_key(json.dumps(made))


def test_a_created_key_works_at_once_and_is_never_shown_again(house: House) -> None:
    secret = secret_of(house.keys("create", "--name", "alpha", "--scope", "chat:*"))
    harness.until(lambda: house.works(secret) == 200, "a new key works while the server runs", 10)
    listed = json.dumps(house.keys("list"))
    assert "alpha" in listed and secret not in listed
    assert secret.encode() not in b"".join(path.read_bytes() for path in (house.folder / "data").rglob("*") if path.is_file())


def test_a_revoked_key_is_refused_at_once(house: House) -> None:
    secret = secret_of(house.keys("create", "--name", "beta", "--scope", "chat:*"))
    harness.until(lambda: house.works(secret) == 200, "the new key works", 10)
    house.keys("revoke", "beta")
    # Promised within a second; the patience is for this machine, not for the gateway.
    harness.until(lambda: house.works(secret) == 401, "a revoked key is refused", 10)
    refused = house.gateway.chat(secret)
    assert refused.json()["error"]["code"] == "invalid_api_key"


def test_a_rotated_key_swaps_its_secret(house: House) -> None:
    old = secret_of(house.keys("create", "--name", "gamma", "--scope", "chat:*"))
    new = secret_of(house.keys("rotate", "gamma"))
    assert new != old
    harness.until(lambda: house.works(new) == 200 and house.works(old) == 401, "the new secret works, the old one does not", 10)


def test_rotation_with_overlap_keeps_the_old_secret_for_a_while(house: House) -> None:
    old = secret_of(house.keys("create", "--name", "delta", "--scope", "chat:*"))
    new = secret_of(house.keys("rotate", "delta", "--overlap", "1h"))
    harness.until(lambda: house.works(new) == 200, "the new secret works", 10)
    assert house.works(old) == 200


def test_scopes_and_model_lists_hold(house: House) -> None:
    narrow = secret_of(house.keys("create", "--name", "narrow", "--scope", "chat:invoke:mock", "--scope", "models:read"))
    listed = secret_of(house.keys("create", "--name", "listed", "--scope", "chat:*", "--scope", "models:*", "--model", "oth*"))
    harness.until(lambda: house.works(narrow) == 200, "the narrow key works", 10)
    assert house.works(narrow, "other") == 404
    assert house.works(listed, "mock") == 404 and house.works(listed, "other") == 200
    assert [model["id"] for model in house.gateway.get("/v1/models", listed).json()["data"]] == ["other"]
    refused = house.gateway.post("/v1/embeddings", {"model": "mock", "input": "x"}, narrow)
    assert refused.status == 403 and refused.json()["error"]["code"] == "insufficient_scope"
    assert house.gateway.get("/admin/v1/keys", narrow).status == 403


def test_an_expired_key_says_so(house: House) -> None:
    secret = secret_of(house.keys("create", "--name", "brief", "--scope", "chat:*", "--expires", "4s"))
    harness.until(lambda: house.works(secret) == 200, "the key works until then", 10)
    harness.until(lambda: house.works(secret) == 401, "the key expires", 20)
    assert house.gateway.chat(secret).json()["error"]["code"] == "expired_api_key"


def test_limits_of_a_key_hold(house: House) -> None:
    secret = secret_of(house.keys("create", "--name", "limited", "--scope", "chat:*", "--limit", "3rpm"))
    harness.until(lambda: house.works(secret) in (200, 429), "the limited key is known", 10)
    replies = [house.gateway.chat(secret) for _ in range(6)]
    refused = [reply for reply in replies if reply.status == 429]
    assert refused and refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused[0].headers["retry-after"]) >= 1


def test_requests_in_flight_are_limited(house: House) -> None:
    secret = secret_of(house.keys("create", "--name", "single", "--scope", "chat:*", "--limit", "1concurrent"))
    harness.until(lambda: house.works(secret) == 200, "the key works", 10)
    begun = []
    ask = {"model": "mock", "messages": [{"role": "user", "content": "x"}], "stream": True,
           "mock": {"text": "word " * 100, "inter_token_ms": 50}}
    thread, box = harness.in_background(lambda: harness.sse(
        f"{house.gateway.url}/v1/chat/completions", ask, secret, lambda line: begun.append(line)))
    harness.until(lambda: begun, "the stream has begun")
    refused = house.gateway.chat(secret)
    assert refused.status == 429 and refused.json()["error"]["code"] == "concurrency_limit_exceeded", refused.text
    thread.join(harness.PATIENCE)
    assert box and box[0][-1] == "[DONE]", box
    harness.until(lambda: house.works(secret) == 200, "the place is free again", 10)


def test_mistakes_get_a_sentence(house: House) -> None:
    assert "scope" in house.keys("create", "--name", "odd", "--scope", "chta:*", ok=False)
    house.keys("create", "--name", "twice", "--scope", "chat:*")
    assert "twice" in house.keys("create", "--name", "twice", "--scope", "chat:*", ok=False)
    assert "nobody" in house.keys("revoke", "nobody", ok=False)


def test_the_admin_api_does_the_same(house: House) -> None:
    made = house.gateway.post("/admin/v1/keys", {"name": "by-api", "scopes": ["chat:*"]}, house.admin)
    assert made.status == 201, made.text
    secret = secret_of(made.json())
    assert house.works(secret) == 200, "a key made by the running gateway works at once"
    listed = house.gateway.get("/admin/v1/keys", house.admin)
    assert listed.status == 200 and "by-api" in listed.text and secret not in listed.text
    assert house.gateway.get("/admin/v1/keys", secret).status == 403
    assert house.gateway.get("/admin/v1/keys").status == 401
    odd = house.gateway.post("/admin/v1/keys", {"name": "x", "scopes": ["chta:*"]}, house.admin)
    assert odd.status == 400 and odd.headers["content-type"].startswith("application/problem+json")
    assert odd.json()["code"] and odd.json()["status"] == 400
