"""Access tokens: a certified issuer and a forging one, found by discovery, against the running gateway."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import time
from typing import Any, Iterator

import pytest

import harness

ISSUERS = harness.ROOT / "tests" / "tools" / "oidc"
SECRET = "a-secret-of-this-test-alone"


class Issuers(harness.Process):
    """`oidc-provider`, which is certified, and `oauth2-mock-server`, which signs whatever it is told to."""

    def __init__(self, folder: pathlib.Path, gateway: int = 0):
        node = os.environ.get("PENSTOCK_NODE") or shutil.which("node")
        assert node and (ISSUERS / "node_modules").is_dir(), "`./test blackbox` installs Node.js and the issuers"
        self.ports = [harness.free_port() for _ in range(3)]
        self.certified, self.forging, self.control = (f"http://127.0.0.1:{port}" for port in self.ports)
        super().__init__([node, str(ISSUERS / "issuers.mjs"), *map(str, [*self.ports, gateway])], folder, name="issuers")
        self.wait_ready(f"{self.certified}/.well-known/openid-configuration")
        self.wait_ready(f"{self.forging}/.well-known/openid-configuration")
        harness.until(lambda: harness.can_connect(self.ports[2]), "the forger listens")

    def grant(self, resource: str = "https://gateway.example.com/", scope: str = "chat:invoke") -> str:
        """A token by the client credentials grant (RFC 6749, 4.4)."""
        who = base64.b64encode(f"app:{SECRET}".encode()).decode()
        request = harness.urllib.request.Request(
            f"{self.certified}/token",
            f"grant_type=client_credentials&resource={resource}&scope={scope}".encode(),
            {"authorization": f"Basic {who}", "content-type": "application/x-www-form-urlencoded"})
        with harness.urllib.request.urlopen(request, timeout=harness.PATIENCE) as reply:
            return json.load(reply)["access_token"]

    def revoke(self, token: str) -> None:
        """By RFC 7009."""
        who = base64.b64encode(f"app:{SECRET}".encode()).decode()
        request = harness.urllib.request.Request(
            f"{self.certified}/token/revocation", f"token={token}".encode(),
            {"authorization": f"Basic {who}", "content-type": "application/x-www-form-urlencoded"})
        with harness.urllib.request.urlopen(request, timeout=harness.PATIENCE) as reply:
            assert reply.status == 200

    def sign(self, kid: str = "first", header: dict[str, Any] | None = None, **claims: Any) -> str:
        told = {"kid": kid, "header": header or {}, "claims": claims}
        reply = harness.http("POST", f"{self.control}/sign", told)
        assert reply.status == 200, reply.text()
        return reply.json()["token"]

    def rotate(self, kid: str) -> None:
        assert harness.http("POST", f"{self.control}/rotate", {"kid": kid}).status == 200


class House:
    def __init__(self, folder: pathlib.Path):
        self.issuers = Issuers(folder)
        self.admin = harness.new_secret()
        self.config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
            "auth": {"resource": "https://gateway.example.com", "oidc": [
                {"issuer": self.issuers.certified, "audience": "penstock", "team_claim": "team",
                 "introspection": {"client_id": "app", "client_secret": "${APP_SECRET}"}},
                {"issuer": self.issuers.forging, "audience": "penstock", "roles_claim": "groups",
                 "roles": {"gateway-watchers": "viewer"}},
            ]},
        }
        self.gateway = harness.Gateway(folder, self.config, {"ROOT_KEY": self.admin, "APP_SECRET": SECRET})
        self.settle(self.issuers.grant())
        self.settle(self.issuers.sign())

    def settle(self, token: str) -> None:
        harness.until(lambda: self.gateway.chat(token).status == 200, "the issuer's keys are here", 30)

    def code(self, token: str) -> tuple[int, str]:
        reply = self.gateway.chat(token)
        return reply.status, reply.json().get("error", {}).get("code", "")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("oidc") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()
        home.issuers.kill()


def decoded(token: str) -> Any:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_token_of_a_certified_issuer_asks_and_is_recorded_under_its_subject(house: House) -> None:
    token = house.issuers.grant()
    reply = house.gateway.chat(token)
    assert reply.status == 200, reply.text()
    request = reply.headers["x-request-id"]
    path = f"/admin/v1/requests/{request}"
    record = harness.until(lambda: (r := house.gateway.get(path, house.admin)).status == 200 and r.json(), "the record", 15)
    assert (record["key"], record["team"]) == (f"jwt:{house.issuers.certified}:app", "support")
    everything = b"".join(p.read_bytes() for p in house.gateway.folder.rglob("*") if p.is_file())
    assert token.encode() not in everything, "the token was written down"


def test_both_algorithms_of_the_issuer_are_taken_and_another_service_s_token_is_not(house: House) -> None:
    assert house.gateway.chat(house.issuers.grant("https://gateway.example.com/es256")).status == 200
    other = house.issuers.grant("https://gateway.example.com/other")
    assert decoded(other)["aud"] == "other"
    assert house.code(other) == (401, "invalid_token")


def test_a_token_may_do_what_its_scopes_say_and_no_more(house: House) -> None:
    chats, lists = house.issuers.grant(scope="chat:invoke"), house.issuers.grant(scope="models:read")
    assert house.gateway.get("/v1/models", lists).status == 200
    assert house.gateway.get("/v1/models", chats).status == 403
    assert house.code(lists) == (403, "insufficient_scope")
    assert house.gateway.get("/admin/v1/config", chats).status == 403


def test_every_spelling_of_the_credential_takes_a_token(house: House) -> None:
    token = house.issuers.grant()
    body = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
    for name in ("x-api-key", "api-key"):
        assert harness.http("POST", f"{house.gateway.url}/v1/chat/completions", body, {name: token}).status == 200
    both = {"authorization": f"Bearer {token}", "x-api-key": house.admin}
    refused = harness.http("POST", f"{house.gateway.url}/v1/chat/completions", body, both)
    assert (refused.status, refused.json()["error"]["code"]) == (401, "conflicting_credentials")


def test_whoever_has_no_token_is_led_to_the_issuers(house: House) -> None:
    refused = house.gateway.chat(None)
    assert refused.status == 401
    told = refused.headers["www-authenticate"]
    assert told == 'Bearer resource_metadata="https://gateway.example.com/.well-known/oauth-protected-resource"'
    metadata = house.gateway.get("/.well-known/oauth-protected-resource").json()
    assert metadata["resource"] == "https://gateway.example.com"
    assert metadata["authorization_servers"] == [house.issuers.certified, house.issuers.forging]
    assert "chat:invoke" in metadata["scopes_supported"]
    # From there a client finds the rest by itself.
    document = harness.http("GET", metadata["authorization_servers"][0] + "/.well-known/openid-configuration").json()
    assert document["token_endpoint"].startswith(house.issuers.certified)
    told = house.gateway.chat(house.issuers.sign(aud="other")).headers["www-authenticate"]
    assert told.startswith('Bearer error="invalid_token", resource_metadata=')
    assert house.gateway.get("/admin/v1/keys").headers["www-authenticate"].startswith("Bearer resource_metadata=")


def forged_by_hand(good: str, header: dict[str, Any], secret: bytes | None) -> str:
    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    signed = b64(json.dumps(header).encode()) + "." + good.split(".")[1]
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(signature)}"


def test_forged_and_misused_tokens_are_refused(house: House) -> None:
    sign, now = house.issuers.sign, int(time.time())
    good = sign()
    assert house.gateway.chat(good).status == 200
    keys = harness.http("GET", f"{house.issuers.forging}/jwks").json()["keys"]
    modulus = base64.urlsafe_b64decode(keys[0]["n"] + "==")
    forged = {
        "alg none": forged_by_hand(good, {"alg": "none", "typ": "at+jwt"}, None),
        "HS256 with the public modulus": forged_by_hand(good, {"alg": "HS256", "typ": "at+jwt", "kid": "first"}, modulus),
        "HS256 with the key as JSON": forged_by_hand(good, {"alg": "HS256", "typ": "at+jwt", "kid": "first"}, json.dumps(keys[0]).encode()),
        "an ID token": sign(header={"typ": "JWT"}),
        "an ID token by its nonce": sign(nonce="n"),
        "another audience": sign(aud="other"),
        "no audience": sign(aud=None),
        "the issuer of the other one": sign(header={"kid": "rsa"}, iss=house.issuers.certified),
        "an issuer nobody knows": sign(iss="https://evil.example"),
        "no subject": sign(sub=None),
        "no expiry": sign(exp=None),
        "not yet": sign(nbf=now + 600),
        "from the future": sign(iat=now + 600),
        "a claim changed": good.split(".")[0] + "." + base64.urlsafe_b64encode(
            json.dumps({**decoded(good), "sub": "root"}).encode()).rstrip(b"=").decode() + "." + good.split(".")[2],
        "cut": good[:-6],
    }
    for name, token in forged.items():
        assert house.code(token) == (401, "invalid_token"), name
    assert house.code(sign(exp=now - 120)) == (401, "expired_token")
    assert house.gateway.chat(good).status == 200


def test_two_tokens_that_begin_alike_are_two_callers(house: House) -> None:
    one, two = house.issuers.sign(sub="one"), house.issuers.sign(sub="two", scope="models:read")
    assert one[:60] == two[:60]
    for _ in range(2):
        assert house.gateway.chat(one).status == 200
        assert house.gateway.chat(two).status == 403


def test_roles_come_from_the_groups_that_the_operator_named(house: House) -> None:
    watcher = house.issuers.sign(scope="", groups=["staff", "gateway-watchers"])
    assert house.gateway.get("/admin/v1/config", watcher).status == 200
    assert house.gateway.get("/admin/v1/keys", watcher).status == 403
    for claims in ({"groups": ["viewer", "admin"]}, {"scope": "role:admin"}, {"scope": "*"}):
        token = house.issuers.sign(**{"scope": "", **claims})
        assert house.gateway.get("/admin/v1/config", token).status == 403, claims


def test_a_key_that_the_issuer_adds_is_found_without_a_restart(house: House) -> None:
    house.issuers.rotate("second")
    token = house.issuers.sign("second")
    seen: list[int] = []

    def works() -> bool:
        seen.append(house.gateway.chat(token).status)
        return seen[-1] == 200

    harness.until(works, "the new key is known", 15)
    # It waits, with a time to wait; it is never told that it is wrong.
    assert set(seen) <= {200, 503}


def test_an_issuer_that_is_down_does_not_lock_its_users_out(house: House) -> None:
    with harness.scratch("oidc-down") as folder:
        issuers = Issuers(folder)
        config = {**house.config, "auth": {"oidc": [{"issuer": issuers.forging, "audience": "penstock"}]}}
        gateway = harness.Gateway(folder, config, {"ROOT_KEY": house.admin})
        try:
            harness.until(lambda: gateway.chat(issuers.sign()).status == 200, "the keys are here", 30)
            fresh = issuers.sign(sub="bob")
            issuers.kill()
            assert gateway.chat(fresh).status == 200
            # Another issuer in the file takes the place of this one at the next reload.
            gateway.write({**gateway.config, "auth": {"oidc": [{"issuer": house.issuers.forging, "audience": "penstock"}]}})
            harness.until(lambda: gateway.chat(house.issuers.sign()).status == 200, "the other issuer is trusted", 30)
            assert gateway.chat(fresh).status == 401
        finally:
            gateway.kill()
            issuers.kill()


def test_before_an_issuer_was_reached_its_tokens_wait(house: House) -> None:
    with harness.scratch("oidc-late") as folder:
        port = harness.free_port()
        issuer = f"http://127.0.0.1:{port}"
        config = {**house.config, "auth": {"oidc": [{"issuer": issuer, "audience": "penstock"}]}}
        gateway = harness.Gateway(folder, config, {"ROOT_KEY": house.admin})
        try:
            early = gateway.chat(house.issuers.sign(iss=issuer))
            assert (early.status, early.json()["error"]["code"]) == (503, "issuer_unavailable")
            assert int(early.headers["retry-after"]) >= 1
            assert gateway.chat(house.admin).status == 200, "keys work meanwhile"
        finally:
            gateway.kill()


def test_check_tells_what_is_wrong_with_the_section(house: House) -> None:
    with harness.scratch("oidc-check") as folder:
        path = folder / "penstock.yaml"
        path.write_text(json.dumps({**house.config, "version": 1, "auth": {"oidc": [
            {"issuer": "http://id.example.com", "audience": "penstock", "scopes": ["chta:*"], "roles": {"x": "root"}}]}}))
        done = harness.cli("check", "--config", str(path), "--json", folder=folder, env={"ROOT_KEY": house.admin})
        paths = {problem["path"] for problem in json.loads(done.stdout)["problems"]}
        assert done.returncode == 1
        assert {"auth.oidc[0].issuer", "auth.oidc[0].scopes", "auth.oidc[0].roles.x"} <= paths


def test_check_online_tells_which_issuer_cannot_be_reached(house: House) -> None:
    with harness.scratch("oidc-online") as folder:
        path = folder / "penstock.yaml"
        gone = f"http://127.0.0.1:{harness.free_port()}"
        path.write_text(json.dumps({**house.config, "version": 1, "auth": {"oidc": [
            {"issuer": house.issuers.certified, "audience": "penstock"}, {"issuer": gone, "audience": "penstock"}]}}))
        done = harness.cli("check", "--config", str(path), "--online", "--json", folder=folder, env={"ROOT_KEY": house.admin})
        found = [problem["path"] for problem in json.loads(done.stdout)["problems"] if "oidc" in problem["path"]]
        assert (done.returncode, found) == (0, ["auth.oidc[1].issuer"])


OPAQUE = "https://gateway.example.com/opaque"


def test_an_opaque_token_is_taken_by_its_issuer_s_word_and_recorded_under_its_client(house: House) -> None:
    token = house.issuers.grant(OPAQUE)
    assert "." not in token
    for _ in range(3):
        reply = house.gateway.chat(token)
        assert reply.status == 200, reply.text
    path = f"/admin/v1/requests/{reply.headers['x-request-id']}"
    record = harness.until(lambda: (r := house.gateway.get(path, house.admin)).status == 200 and r.json(), "the record", 15)
    assert (record["key"], record["team"]) == (f"jwt:{house.issuers.certified}:app", "support")
    everything = b"".join(p.read_bytes() for p in house.gateway.folder.rglob("*") if p.is_file())
    assert token.encode() not in everything and SECRET.encode() not in everything, "it was written down"


def test_an_opaque_token_may_do_what_its_scopes_say_and_no_more(house: House) -> None:
    lists = house.issuers.grant(OPAQUE, scope="models:read")
    assert house.gateway.get("/v1/models", lists).status == 200
    assert house.code(lists) == (403, "insufficient_scope")
    assert house.gateway.get("/admin/v1/config", lists).status == 403


def test_a_revoked_token_and_a_made_up_one_are_refused(house: House) -> None:
    revoked = house.issuers.grant(OPAQUE)
    house.issuers.revoke(revoked)
    assert house.code(revoked) == (401, "invalid_token")
    assert house.code("bWFkZS11cC1ieS1ub2JvZHktYXQtYWxs") == (401, "invalid_token")
    # Keys that are none are not asked about, and cost the issuer nothing.
    assert house.code("pk_live_made-up-key-of-nobody") == (401, "invalid_api_key")


def test_an_opaque_token_is_refused_while_its_issuer_cannot_be_asked() -> None:
    with harness.scratch("silent-issuer") as folder:
        port, key = harness.free_port(), harness.new_secret()
        config = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
            "auth": {"oidc": [{"issuer": f"http://127.0.0.1:{port}", "audience": "penstock",
                               "introspection": {"client_id": "app", "client_secret": "${APP_SECRET}"}}]},
        }
        gateway = harness.Gateway(folder, config, {"ROOT_KEY": key, "APP_SECRET": SECRET})
        try:
            for _ in range(3):
                refused = gateway.chat("an-opaque-token-of-somebody")
                assert (refused.status, refused.json()["error"]["code"]) == (503, "issuer_unavailable")
                assert refused.headers["retry-after"]
            assert gateway.chat(key).status == 200, "keys are nobody else's business"
        finally:
            gateway.kill()
