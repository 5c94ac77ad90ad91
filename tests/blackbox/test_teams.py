"""Teams as objects of the admin API and the command line, and keys with owners."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any, Iterator

import pytest

import harness


class House:
    def __init__(self, folder: pathlib.Path):
        self.folder, self.admin = folder, harness.new_secret()
        config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [{"name": "root", "key": "${ROOT_KEY}", "scopes": ["*"]}],
            "teams": {"fixed": {"limits": {"requests_per_minute": 1000}}},
        }
        self.env = {"ROOT_KEY": self.admin}
        self.gateway = harness.Gateway(folder, config, self.env)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        reply = harness.http(method, self.gateway.url + path, body, {"authorization": f"Bearer {self.admin}"})
        return reply.status, reply.json()

    def key(self, name: str, **more: Any) -> dict[str, Any]:
        status, made = self.call("POST", "/admin/v1/keys", {"name": name, "scopes": ["chat:*"], **more})
        assert status == 201, made
        return made

    def cli(self, *arguments: str) -> Any:
        done = harness.cli(*arguments, "--config", str(self.gateway.path), folder=self.folder, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def actions(self) -> list[str]:
        status, page = self.call("GET", "/admin/v1/audit?limit=500")
        assert status == 200
        return [f"{row['action']} {row['object']}" for row in page["data"]]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("teams") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()


def test_a_team_is_in_force_when_its_making_is_answered_and_changes_at_once(house: House) -> None:
    limits = {"requests_per_minute": 1}
    status, made = house.call("POST", "/admin/v1/teams", {"name": "quick", "limits": limits})
    assert (status, made["source"], made["limits"]["requests_per_minute"]) == (201, "database", 1)
    key = house.key("quick-key", team="quick")["key"]
    assert house.gateway.chat(key).status == 200
    refused = house.gateway.chat(key)
    assert refused.status == 429, "one a minute for the whole team"
    status, changed = house.call("PATCH", "/admin/v1/teams/quick", {"limits": {"requests_per_minute": 500}})
    assert (status, changed["limits"]["requests_per_minute"]) == (200, 500)
    assert house.gateway.chat(key).status == 200, "in force at once"
    status, shown = house.call("GET", "/admin/v1/teams/quick")
    assert (status, shown["active_keys"]) == (200, 1)
    assert shown["standing"]["level"] == "team" and shown["standing"]["limits"]["requests_per_minute"] == 500
    assert house.call("PATCH", "/admin/v1/teams/quick", {"limits": None})[1]["limits"]["requests_per_minute"] is None
    assert {"team.create quick", "team.update quick"} <= set(house.actions())


def test_teams_of_the_file_are_shown_and_changed_nowhere_else(house: House) -> None:
    status, listed = house.call("GET", "/admin/v1/teams?limit=200")
    fixed = next(team for team in listed["data"] if team["name"] == "fixed")
    assert (status, fixed["source"], fixed["created"]) == (200, "file", None)
    for method, path, body in (("PATCH", "/admin/v1/teams/fixed", {}), ("DELETE", "/admin/v1/teams/fixed", None),
                               ("POST", "/admin/v1/teams", {"name": "fixed"})):
        status, problem = house.call(method, path, body)
        assert (status, problem["code"]) == (409, "conflict"), method
        assert "edit the file" in problem["detail"]


def test_every_mistake_in_a_team_is_told_at_once_and_none_reaches_this_machine(house: House) -> None:
    body = {"name": "bad", "limits": {"requests_per_minute": 0}, "colour": "red", "budget": {"usd": 5, "per": "week"}}
    status, problem = house.call("POST", "/admin/v1/teams", body)
    members = {error["param"] for error in problem["errors"]}
    assert status == 400 and {"limits.requests_per_minute", "colour", "budget.per"} <= members, problem
    for reach in ("${ROOT_KEY}", f"file:{house.gateway.path}"):
        status, answer = house.call("POST", "/admin/v1/teams", {"name": "reach", "residency": [reach]})
        assert status == 400 or answer["residency"] == [reach], answer
        assert house.admin not in json.dumps(answer) and "providers" not in json.dumps(answer)
        house.call("DELETE", "/admin/v1/teams/reach")
    for name in ("../x", "a b", "", "-x", "a" * 65):
        assert house.call("POST", "/admin/v1/teams", {"name": name})[0] == 400, name
    assert house.call("GET", "/admin/v1/teams/nobody")[0] == 404


def test_a_team_with_active_keys_stays(house: House) -> None:
    house.call("POST", "/admin/v1/teams", {"name": "held"})
    key = house.key("held-key", team="held")
    status, problem = house.call("DELETE", "/admin/v1/teams/held")
    assert (status, problem["code"]) == (409, "conflict")
    assert house.call("POST", f"/admin/v1/keys/{key['id']}/revoke", {})[0] == 200
    assert house.call("DELETE", "/admin/v1/teams/held")[0] == 200
    assert house.call("GET", "/admin/v1/teams/held")[0] == 404
    assert "team.delete held" in house.actions()


def test_the_command_line_makes_changes_and_deletes_teams_and_the_gateway_notices(house: House) -> None:
    house.cli("teams", "create", "other", "--limit", "1rpm", "--residency", "eu", "--set", "capture.content=true")
    key = house.key("other-key", team="other")["key"]

    def known() -> bool:
        return house.call("GET", "/admin/v1/teams/other")[0] == 200

    began = time.monotonic()
    harness.until(known, "the gateway noticed the team", 10)
    assert time.monotonic() - began < 5
    shown = json.loads(house.cli("teams", "show", "other", "--json"))
    assert shown["residency"] == ["eu"] and shown["capture"]["content"] is True
    house.cli("teams", "update", "other", "--set", "residency=[]", "--limit", "500rpm")
    harness.until(lambda: house.call("GET", "/admin/v1/teams/other")[1]["residency"] == [], "the change arrived", 10)
    assert house.gateway.chat(key).status == 200
    names = [team["name"] for team in json.loads(house.cli("teams", "list", "--json"))["teams"]]
    assert {"fixed", "other"} <= set(names)
    house.cli("keys", "revoke", "--team", "other")
    house.cli("teams", "delete", "other")
    harness.until(lambda: not known(), "the gateway noticed that it is gone", 10)


def test_keys_have_owners_are_found_by_them_and_revoked_with_them(house: House) -> None:
    alice = [house.key(f"alice-{n}", owner="alice@example.com") for n in range(2)]
    robot = house.key("robot", owner="nightly", kind="service", team="fixed")
    assert (alice[0]["owner"], alice[0]["kind"], robot["kind"]) == ("alice@example.com", "user", "service")
    status, page = house.call("GET", "/admin/v1/keys?owner=alice%40example.com")
    assert status == 200 and [key["name"] for key in page["data"]] and len(page["data"]) == 2
    assert len(house.call("GET", "/admin/v1/keys?kind=service")[1]["data"]) == 1
    assert house.call("GET", "/admin/v1/keys?kind=robot")[0] == 400
    assert "nightly" in house.cli("keys", "list", "--owner", "nightly")
    for body in ({}, {"kind": "user"}, {"owner": "x", "kind": "robot"}, {"owner": 5}):
        assert house.call("POST", "/admin/v1/keys/revoke", body)[0] == 400, body
    status, ended = house.call("POST", "/admin/v1/keys/revoke", {"owner": "alice@example.com"})
    assert status == 200 and len(ended["data"]) == 2 and all(key["state"] == "revoked" for key in ended["data"])
    assert [house.gateway.chat(key["key"]).status for key in alice] == [401, 401]
    assert house.gateway.chat(robot["key"]).status == 200
    assert {f"key.revoke {key['id']}" for key in alice} <= set(house.actions())
    assert house.call("POST", "/admin/v1/keys", {"name": "x", "scopes": ["chat:*"], "owner": "a b"})[0] == 400
    assert house.call("POST", "/admin/v1/keys", {"name": "x", "scopes": ["chat:*"], "kind": "user"})[0] == 400
