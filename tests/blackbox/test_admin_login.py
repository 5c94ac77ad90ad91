"""People sign in with a browser at a certified issuer; what a session may do, and when it ends."""

from __future__ import annotations

import html
import http.client
import http.cookies
import json
import pathlib
import re
import urllib.parse
from typing import Any, Iterator

import pytest

import harness
from test_oidc import Issuers

SECRET = "the-console-s-secret-of-this-test"


class Answer:
    def __init__(self, reply: http.client.HTTPResponse, url: str):
        self.status, self.headers, self.text, self.url = reply.status, reply.headers, reply.read().decode(), url

    def json(self) -> Any:
        return json.loads(self.text)


class Browser:
    """Keeps cookies by host and port, follows redirects when told, and fills in forms."""

    def __init__(self) -> None:
        self.jars: dict[str, dict[str, str]] = {}
        self.set: list[str] = []

    def ask(self, method: str, url: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> Answer:
        place = urllib.parse.urlsplit(url)
        jar = self.jars.setdefault(place.netloc, {})
        full = dict(headers or {})
        if jar:
            full["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            full["content-type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(place.netloc, timeout=harness.PATIENCE)
        try:
            connection.request(method, place.path + (f"?{place.query}" if place.query else ""), body, full)
            answer = Answer(connection.getresponse(), url)
        finally:
            connection.close()
        for header in answer.headers.get_all("set-cookie") or []:
            self.set.append(header)
            for name, morsel in http.cookies.SimpleCookie(header).items():
                if morsel["max-age"] == "0" or not morsel.value:
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value
        return answer

    def follow(self, answer: Answer, stop: str = "never") -> Answer:
        """Goes where redirects lead, up to an address that begins with `stop`."""
        for _ in range(12):
            if answer.status not in (302, 303):
                return answer
            target = urllib.parse.urljoin(answer.url, answer.headers["location"])
            if target.startswith(stop):
                answer.url = target
                return answer
            answer = self.ask("GET", target)
        raise AssertionError("redirects without an end")

    def through_the_issuer(self, answer: Answer, name: str, stop: str) -> Answer:
        """Signs in by a name, agrees to everything, and stops before the gateway is told."""
        for _ in range(4):
            answer = self.follow(answer, stop)
            if answer.url.startswith(stop):
                return answer
            assert answer.status == 200, answer.text
            action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            assert action, answer.text
            prompt = "login" if 'value="login"' in answer.text else "consent"
            form = {"prompt": prompt, **({"login": name, "password": "any"} if prompt == "login" else {})}
            answer = self.ask("POST", urllib.parse.urljoin(answer.url, html.unescape(action[1])), form)
        raise AssertionError(f"the issuer does not come to an end: {answer.text[:500]}")


class House:
    def __init__(self, folder: pathlib.Path):
        port = harness.free_port()
        self.folder, self.admin = folder, harness.new_secret()
        self.issuers = Issuers(folder, port)
        self.config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
            "auth": {"admin_login": {
                "issuer": self.issuers.certified, "client_id": "console", "client_secret": "${CONSOLE_SECRET}",
                "scopes": ["openid", "email"], "role_claim": "groups",
                "roles": {"olga": "operator", "vera": "viewer", "anna": "admin", "otto": "auditor"},
            }},
        }
        self.env = {"ROOT_KEY": self.admin, "CONSOLE_SECRET": SECRET}
        self.gateway = harness.Gateway(folder, self.config, self.env, port=port)
        self.origin = self.gateway.url

    def arrive(self, browser: Browser, name: str) -> Answer:
        """The issuer's answer, not yet taken."""
        begun = browser.ask("GET", f"{self.origin}/admin/login")
        assert begun.status == 303, begun.text
        return browser.through_the_issuer(begun, name, f"{self.origin}/admin/callback")

    def sign_in(self, name: str) -> tuple[Browser, Answer]:
        browser = Browser()
        return browser, browser.ask("GET", self.arrive(browser, name).url)

    def me(self, browser: Browser) -> Answer:
        return browser.ask("GET", f"{self.origin}/admin/v1/me")

    def change(self, browser: Browser, method: str, path: str, **headers: str) -> Answer:
        csrf = self.me(browser).json()["session"]["csrf"]
        full = {"origin": self.origin, "x-csrf-token": csrf, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return browser.ask(method, self.origin + path, None, {k: v for k, v in full.items() if v})

    def audit(self) -> list[dict[str, Any]]:
        return self.gateway.get("/admin/v1/audit?limit=500", self.admin).json()["data"]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("login") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()
        home.issuers.kill()


def test_a_person_with_a_group_gets_its_role_in_a_session_that_scripts_cannot_read(house: House) -> None:
    browser, arrived = house.sign_in("vera")
    assert arrived.status == 200, arrived.text
    cookie = next(header for header in browser.set if header.startswith("penstock-session="))
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert "frame-ancestors 'none'" in arrived.headers["content-security-policy"]
    me = house.me(browser).json()
    assert (me["id"], me["name"], me["source"]) == (f"jwt:{house.issuers.certified}:vera", "vera@example.com", "session")
    assert me["session"]["roles"] == ["viewer"]
    assert browser.ask("GET", f"{house.origin}/admin/v1/providers").status == 200
    assert browser.ask("GET", f"{house.origin}/admin/v1/keys").status == 403, "a viewer makes no keys"
    logins = [row for row in house.audit() if row["action"] == "admin.login" and row["actor"] == me["id"]]
    assert logins and logins[0]["after"]["roles"] == ["viewer"]
    token = browser.jars[f"127.0.0.1:{house.gateway.port}"]["penstock-session"]
    everything = b"".join(p.read_bytes() for p in house.folder.rglob("*") if p.is_file())
    assert token.encode() not in everything and SECRET.encode() not in everything, "a secret was written down"


def test_the_request_to_the_issuer_has_everything_that_protects_it(house: House) -> None:
    begun = Browser().ask("GET", f"{house.origin}/admin/login")
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(begun.headers["location"]).query))
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43 and len(asked["state"]) == 64 and len(asked["nonce"]) == 64
    assert asked["redirect_uri"] == f"{house.origin}/admin/callback"
    cookie = begun.headers["set-cookie"]
    assert "SameSite=Lax" in cookie and "HttpOnly" in cookie
    assert asked["state"] not in cookie and asked["nonce"] not in cookie


def test_whoever_has_no_role_is_turned_away_and_noted(house: House) -> None:
    browser, arrived = house.sign_in("stranger")
    assert (arrived.status, arrived.json()["code"]) == (403, "insufficient_scope")
    assert house.me(browser).status == 401
    who = f"jwt:{house.issuers.certified}:stranger"

    def noted() -> bool:
        return any(row["action"] == "denied" and row["object"] == "signIn" and row["actor"] == who for row in house.audit())

    harness.until(noted, "the denial is in the audit log", 15)


def test_an_answer_is_taken_once_from_the_browser_that_asked_and_from_the_right_issuer(house: House) -> None:
    browser = Browser()
    answer = house.arrive(browser, "vera").url
    place = urllib.parse.urlsplit(answer)
    told = dict(urllib.parse.parse_qsl(place.query))
    assert told["iss"] == house.issuers.certified

    def with_(**change: str | None) -> str:
        query = {k: v for k, v in {**told, **change}.items() if v is not None}
        return urllib.parse.urlunsplit(place._replace(query=urllib.parse.urlencode(query)))

    other = Browser()
    assert other.ask("GET", answer).status == 400, "a browser that did not ask"
    other.ask("GET", f"{house.origin}/admin/login")
    assert other.ask("GET", answer).status == 400, "a browser that asked for something else"
    for url in (with_(state="0" * 64), with_(state=None), answer + "&state=x"):
        assert browser.ask("GET", url).status == 400, url
    for url in (with_(iss="https://evil.example"), with_(iss=None)):
        assert browser.ask("GET", url).status == 401, url
    assert browser.ask("GET", with_(code=None, error="access_denied")).status == 401
    assert browser.ask("GET", answer).status == 200, "none of these used it up"
    again = Browser()
    again.jars = {key: dict(jar) for key, jar in browser.jars.items()}
    assert again.ask("GET", answer).status in (400, 401), "a code works once"


def test_a_session_changes_things_only_from_a_page_of_the_gateway(house: House) -> None:
    browser, _ = house.sign_in("olga")
    path = "/admin/v1/providers/inner/reinstate"
    assert house.change(browser, "POST", path).status == 200
    for wrong in ({"x_csrf_token": ""}, {"x_csrf_token": "0" * 64}, {"origin": ""}, {"origin": "null"},
                  {"origin": "https://evil.example"}, {"origin": house.origin + "0"}):
        refused = house.change(browser, "POST", path, **wrong)
        assert (refused.status, refused.json()["error" if "error" in refused.json() else "code"]) [0] == 403, wrong
    # Another person's text proves nothing.
    other, _ = house.sign_in("anna")
    csrf = house.me(other).json()["session"]["csrf"]
    assert house.change(browser, "POST", path, x_csrf_token=csrf).status == 403


def test_a_session_is_worth_nothing_outside_administration(house: House) -> None:
    browser, _ = house.sign_in("anna")
    for path in ("/v1/models", "/v1/responses/x"):
        assert browser.ask("GET", house.origin + path).status == 401, path
    for path in ("/admin/v1/me/", "//admin/v1/me", "/admin/v1//me", "/admin/v1/%6de", "/admin/v1/me%00"):
        assert browser.ask("GET", house.origin + path).status in (400, 404), path
    host = browser.ask("GET", f"{house.origin}/admin/v1/me", None, {"x-forwarded-host": "evil.example"})
    assert host.status == 200
    # A key beside it counts, and the cookie does not.
    wrong = browser.ask("GET", f"{house.origin}/admin/v1/me", None, {"authorization": "Bearer wrong-wrong-wrong-wrong"})
    assert (wrong.status, wrong.json()["code"]) == (401, "invalid_api_key")


def test_made_up_cookies_are_nobody(house: House) -> None:
    browser = Browser()
    for value in ("0" * 64, "x", "a" * 5000, "%00"):
        browser.jars[f"127.0.0.1:{house.gateway.port}"] = {"penstock-session": value}
        assert house.me(browser).status == 401, value


def test_a_session_ends_by_its_owner_an_operator_the_command_line_and_the_issuer(house: House) -> None:
    browser, _ = house.sign_in("vera")
    left = house.change(browser, "POST", "/admin/logout")
    assert left.status == 200 and left.json()["ended"] == 1
    assert left.json()["issuer"].startswith(house.issuers.certified)
    assert house.me(browser).status == 401

    browser, _ = house.sign_in("vera")
    operator, _ = house.sign_in("olga")
    listed = operator.ask("GET", f"{house.origin}/admin/v1/sessions").json()["data"]
    mine = house.me(browser).json()["session"]["id"]
    assert mine in [session["id"] for session in listed] and "csrf" not in json.dumps(listed)
    assert house.change(operator, "DELETE", f"/admin/v1/sessions/{mine}").status == 200
    assert house.change(operator, "DELETE", f"/admin/v1/sessions/{mine}").status == 404
    ended = house.me(browser)
    assert (ended.status, ended.json()["code"]) == (401, "expired_token")

    browser, _ = house.sign_in("otto")
    assert browser.ask("GET", f"{house.origin}/admin/v1/audit").status == 200
    done = harness.cli("sessions", "end", "--subject", "otto", "--config", str(house.gateway.path), folder=house.folder, env=house.env)
    assert done.returncode == 0, done.stderr
    assert house.me(browser).status == 401, "at its next request"

    # The issuer's own session ends, and it tells the gateway behind the browser's back.
    browser, _ = house.sign_in("vera")
    bye = browser.ask("GET", f"{house.issuers.certified}/session/end?client_id=console")
    form = re.search(r'<form[^>]*action="([^"]+)"', bye.text)
    xsrf = re.search(r'name="xsrf" value="([^"]+)"', bye.text)
    assert form and xsrf, bye.text
    gone = browser.ask("POST", html.unescape(form[1]), {"xsrf": xsrf[1], "logout": "yes"})
    assert gone.status in (200, 302, 303), gone.text
    harness.until(lambda: house.me(browser).status == 401, "the issuer's word arrived", 15)
    actions = [row["action"] for row in house.audit()]
    assert {"admin.logout", "session.end", "admin.login"} <= set(actions)
    verdict = harness.cli("audit", "verify", "--config", str(house.gateway.path), folder=house.folder, env=house.env)
    assert verdict.returncode == 0, verdict.stdout


def test_forged_logout_tokens_end_nothing(house: House) -> None:
    browser, _ = house.sign_in("vera")
    for token in ("x", "a.b.c", house.issuers.sign(sub="vera"), ""):
        refused = Browser().ask("POST", f"{house.origin}/admin/backchannel-logout", {"logout_token": token})
        assert refused.status in (400, 401), token
    assert house.me(browser).status == 200


def test_without_a_sign_in_in_the_configuration_nobody_stays_signed_in(house: House) -> None:
    browser, _ = house.sign_in("vera")
    assert house.me(browser).status == 200
    house.gateway.write({k: v for k, v in house.gateway.config.items() if k != "auth"})
    harness.until(lambda: house.me(browser).status == 401, "the reload ended it", 15)
    assert Browser().ask("GET", f"{house.origin}/admin/login").status == 404
    house.gateway.write(house.gateway.config)
    harness.until(lambda: Browser().ask("GET", f"{house.origin}/admin/login").status == 303, "it is back", 15)
