"""Every route of the OpenAPI document × every kind of principal: the expected answer follows from the document alone."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import pathlib
from typing import Any, Iterator

import pytest

import harness
import test_admin_login
from test_oidc import Issuers

ASK = {"model": "mock", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
# A body with which each route would do its work; a route that takes a body and is not here fails the test.
BODIES: dict[str, Any] = {
    "POST /v1/chat/completions": ASK,
    "POST /v1/completions": {"model": "mock", "prompt": "Paris is"},
    "POST /v1/embeddings": {"model": "mock", "input": "Paris"},
    "POST /v1/messages": ASK,
    "POST /v1/messages/count_tokens": {"model": "mock", "messages": ASK["messages"]},
    "POST /v1/responses": {"model": "mock", "input": "hello"},
    "POST /v1/responses/input_tokens": {"model": "mock", "input": "hello"},
    "POST /admin/v1/keys": {"name": "made by the matrix, whose name is not right", "scopes": ["chat:*"]},
    "POST /admin/v1/keys/{id}/rotate": {},
    "POST /admin/v1/keys/revoke": {"owner": "nobody at all"},
    "POST /admin/v1/teams": {"name": "made by the matrix, whose name is not right"},
    "PATCH /admin/v1/teams/{name}": {},
}
# Routes for everybody that do not answer 200 to somebody who has nothing to say.
OPEN = {"GET /admin/login": 303, "GET /admin/callback": 400, "POST /admin/backchannel-logout": 400}
OBJECT = "nobody-has-this-object"


class House:
    def __init__(self, folder: pathlib.Path):
        port = harness.free_port()
        self.issuers = Issuers(folder, port)
        self.admin = harness.new_secret()
        names = ["narrow", "expired", "abroad", "a", "b"]
        self.secrets = {name: harness.new_secret() for name in names}
        key = lambda name, **more: {"name": name, "key": "${%s}" % name.upper(), "scopes": ["*"], **more}  # noqa: E731
        config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [
                {"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]},
                key("expired", expires="2020-01-01T00:00:00Z"),
                key("abroad", allow_ips=["192.0.2.0/24"]),
                key("a", team="a"),
                key("b", team="b"),
            ],
            "auth": {
                "oidc": [{"issuer": self.issuers.forging, "audience": "penstock"}],
                "admin_login": {"issuer": self.issuers.certified, "client_id": "console", "client_secret": "${CONSOLE_SECRET}",
                                "scopes": ["openid", "email"], "role_claim": "groups"},
            },
        }
        env = {"CONSOLE_SECRET": test_admin_login.SECRET, "ROOT_KEY": self.admin, **{name.upper(): secret for name, secret in self.secrets.items()}}
        self.gateway = harness.Gateway(folder, config, env, port=port)
        self.origin = self.gateway.url
        harness.until(lambda: self.gateway.chat(self.issuers.sign()).status == 200, "the issuer's keys are here", 30)
        self.document = self.gateway.get("/openapi.json").json()
        self.known: list[str] = self.gateway.get("/.well-known/oauth-protected-resource").json()["scopes_supported"]
        self.made: dict[str, str] = {}

    def key(self, *scopes: str) -> str:
        """A key with these scopes, made once."""
        name = hashlib.sha256(" ".join(scopes).encode()).hexdigest()[:32]
        if name not in self.made:
            reply = self.gateway.post("/admin/v1/keys", {"name": name, "scopes": list(scopes)}, self.admin)
            assert reply.status == 201, reply.text()
            self.made[name] = reply.json()["key"]
        return self.made[name]

    def revoked(self) -> str:
        reply = self.gateway.post("/admin/v1/keys", {"name": "revoked", "scopes": ["*"]}, self.admin)
        assert reply.status == 201, reply.text()
        made = reply.json()
        assert self.gateway.post(f"/admin/v1/keys/{made['id']}/revoke", {}, self.admin).status == 200
        return made["key"]

    def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, str]:
        """The status and the code. An answer without an end is left after its head."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=harness.PATIENCE)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json", **headers})
            reply = connection.getresponse()
            if reply.status < 400:
                return reply.status, ""
            told = json.loads(reply.read())
            error = told.get("error", told)
            return reply.status, error.get("code") or ""
        finally:
            connection.close()

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield method.upper(), path, operation


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("matrix") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()
        home.issuers.kill()


def unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


def test_every_route_answers_every_principal_as_the_document_says(house: House) -> None:
    sign = house.issuers.sign
    revoked, token = house.revoked(), sign(scope="chat:invoke")
    asked = 0
    for method, path, operation in house.operations():
        row = f"{method} {path}"
        scope = operation.get("x-penstock-scope")
        body = BODIES.get(row)
        assert body is not None or "requestBody" not in operation or path == "/v1/{path}", f"{row} takes a body: give it one in BODIES"
        target = path.replace("{id}", OBJECT).replace("{name}", OBJECT).replace("{code}", "invalid_json").replace("{path}", "nowhere/at/all")
        bearer = lambda secret: {"authorization": f"Bearer {secret}"}  # noqa: E731
        if scope is None:
            assert "x-penstock-open" in operation, f"{row} says neither what it needs nor why it needs nothing"
            for headers in ({}, bearer("wrong-wrong-wrong-wrong"), bearer(revoked), bearer(unsigned(token))):
                assert house.ask(method, target, headers)[0] == OPEN.get(row, 200), row
                asked += 1
            continue
        family, action = scope.split(":")
        others = [known for known in house.known if known != scope]
        assert scope in house.known, f"{row} asks for {scope}, which nobody can be given"
        right = f"{family}:{action}"
        refused: list[tuple[str, dict[str, str], tuple[int, str]]] = [
            ("nobody", {}, (401, "missing_api_key")),
            ("a wrong key", bearer("wrong-wrong-wrong-wrong"), (401, "invalid_api_key")),
            ("another scheme", {"authorization": "Basic YTpi"}, (401, "invalid_api_key")),
            ("two keys", {**bearer(house.admin), "x-api-key": revoked}, (401, "conflicting_credentials")),
            ("a revoked key", bearer(revoked), (401, "invalid_api_key")),
            ("an expired key", bearer(house.secrets["expired"]), (401, "expired_api_key")),
            ("a key from elsewhere", bearer(house.secrets["abroad"]), (403, "ip_not_allowed")),
            ("every scope but this", bearer(house.key(*others)), (403, "insufficient_scope")),
            ("a token without the scope", bearer(sign(scope=" ".join(others))), (403, "insufficient_scope")),
            ("a token that grants itself everything", bearer(sign(scope="* role:admin")), (403, "insufficient_scope")),
            ("an expired token", bearer(sign(scope=right, exp=1_000_000_000)), (401, "expired_token")),
            ("a token for another service", bearer(sign(scope=right, aud="other")), (401, "invalid_token")),
            ("an ID token", bearer(sign(scope=right, header={"typ": "JWT"})), (401, "invalid_token")),
            ("an unsigned token", bearer(unsigned(sign(scope=right))), (401, "invalid_token")),
        ]
        if path == "/v1/{path}":
            # Nothing is relayed here: there is no such path, for nobody.
            refused = [(who, headers, (404, "route_not_found")) for who, headers, _ in refused]
        for who, headers, expected in refused:
            assert house.ask(method, target, headers, body) == expected, f"{row} by {who}"
            asked += 1
        narrow = house.ask(method, target, bearer(house.key(f"{right}:{OBJECT}-other")), body)
        assert narrow[0] in (403, 404), f"{row} with the right for another object: {narrow}"
        for who, secret in (("the right key", house.key(right)), ("the right token", sign(scope=right))):
            status, code = house.ask(method, target, bearer(secret), body)
            assert status not in (401, 403) or path == "/v1/{path}", f"{row} by {who}: {status} {code}"
            asked += 1
    assert asked > 300


ROLES = {
    "viewer": {"admin:read", "models:read"},
    "operator": {"admin:read", "admin:keys", "admin:operate", "models:read"},
    "auditor": {"admin:read", "admin:audit", "models:read"},
    "admin": {"admin:read", "admin:keys", "admin:operate", "admin:audit", "admin:content", "models:read"},
}


def test_a_session_does_what_its_role_says_in_administration_from_its_own_pages_and_nothing_elsewhere(house: House) -> None:
    asked = 0
    for role, scopes in ROLES.items():
        browser = test_admin_login.Browser()
        begun = browser.ask("GET", f"{house.origin}/admin/login")
        back = browser.through_the_issuer(begun, role, f"{house.origin}/admin/callback")
        assert browser.ask("GET", back.url).status == 200
        jar = browser.jars[house.origin.removeprefix("http://")]
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        me = browser.ask("GET", f"{house.origin}/admin/v1/me").json()
        page = {**cookie, "origin": house.origin, "x-csrf-token": me["session"]["csrf"]}
        for method, path, operation in house.operations():
            row, scope = f"{method} {path}", operation.get("x-penstock-scope")
            if scope is None or path in ("/admin/logout", "/v1/{path}"):
                continue
            target = path.replace("{id}", OBJECT).replace("{name}", OBJECT)
            body = BODIES.get(row)
            if not path.startswith("/admin/"):
                assert house.ask(method, target, page, body) == (401, "missing_api_key"), f"{row} by a cookie"
                continue
            status, code = house.ask(method, target, page, body)
            if scope in scopes:
                assert status not in (401, 403), f"{row} by {role}: {status} {code}"
            else:
                assert (status, code) == (403, "insufficient_scope"), f"{row} by {role}"
            twice = {"cookie": cookie["cookie"] + "; " + cookie["cookie"]}
            assert house.ask(method, target, {**page, **twice}, body)[0] == 401, f"{row} with two cookies"
            if method != "GET":
                for odd in (cookie, {**page, "origin": "https://evil.example"}, {**page, "origin": "null"},
                            {**page, "x-csrf-token": "0" * 64}, {**cookie, "x-csrf-token": page["x-csrf-token"]},
                            {**page, "host": "evil.example", "origin": "http://evil.example"}):
                    assert house.ask(method, target, odd, body) == (403, "forbidden_origin"), f"{row} with {odd}"
                    asked += 1
            asked += 1
        gone = {"cookie": cookie["cookie"].replace("=", "=0", 1)}
        assert house.ask("GET", "/admin/v1/me", gone) == (401, "expired_token")
        assert browser.ask("POST", f"{house.origin}/admin/logout", None, {k: v for k, v in page.items() if k != "cookie"}).status == 200
        assert house.ask("GET", "/admin/v1/me", cookie) == (401, "expired_token"), "an ended session"
    assert asked > 100


def test_an_absolute_address_and_an_odd_host_open_nothing(house: House) -> None:
    for target, host in (("http://127.0.0.1/admin/v1/keys", "127.0.0.1"), ("http://evil.example/admin/v1/keys", "evil.example"),
                         ("/admin/v1/keys", "evil.example/#@127.0.0.1"), ("/admin/v1/keys", "")):
        status, _ = house.ask("GET", target, {"host": host})
        assert status in (400, 401, 403, 404), f"{target} for {host}: {status}"


def test_a_stored_object_of_another_team_is_like_one_that_is_not_there(house: House) -> None:
    a, b = house.secrets["a"], house.secrets["b"]
    made = house.gateway.post("/v1/responses", {"model": "mock", "input": "hello"}, a)
    assert made.status == 200, made.text()
    name = made.json()["id"]
    for method, path, operation in house.operations():
        if not path.startswith("/v1/responses/{id}"):
            continue
        mine, nobody_s = path.replace("{id}", name), path.replace("{id}", "resp_nobody")
        foreign = house.ask(method, mine, {"authorization": f"Bearer {b}"})
        assert foreign == house.ask(method, nobody_s, {"authorization": f"Bearer {b}"}), f"{method} {path}"
        assert foreign[0] == 404, f"{method} {path}: {foreign}"
    assert house.gateway.get(f"/v1/responses/{name}", a).status == 200, "it is still there for its own team"


@pytest.mark.parametrize("odd", ["{}/", "/{}", "{}%2f", "{}%00", "{}?key=KEY", "{}#", "{};x", "{}/.", "{}/../keys"])
def test_odd_spellings_of_a_path_open_nothing(house: House, odd: str) -> None:
    for path in ("/admin/v1/keys", "/v1/models", "/admin/v1/audit", "/admin/v1/teams", "/admin/v1/sessions", "/admin/v1/me"):
        target = odd.format(path).replace("KEY", house.admin)
        status, _ = house.ask("GET", target, {})
        assert status in (400, 401, 404, 405), f"{target}: {status}"
