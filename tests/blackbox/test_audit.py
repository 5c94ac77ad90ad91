"""The audit log from outside: who changed what, who was turned away, and whether somebody tampered with it."""

from __future__ import annotations

import json
import pathlib
import shutil
import sqlite3
from typing import Any, Iterator

import pytest

import harness


class House:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.admin, self.auditor = harness.new_secret(), harness.new_secret()
        self.env = {"ROOT_KEY": self.admin, "AUDITOR_KEY": self.auditor}
        config: Any = {
            "providers": {"inner": {"kind": "mock"}},
            "models": {"mock": {"provider": "inner", "model": "m"}},
            "keys": [
                {"name": "root", "key": "${ROOT_KEY}", "scopes": ["admin:*"]},
                {"name": "auditor", "key": "${AUDITOR_KEY}", "scopes": ["role:auditor"]},
            ],
        }
        self.gateway = harness.Gateway(folder, config, self.env)

    def cli(self, *arguments: str) -> Any:
        return harness.cli(*arguments, "--config", str(self.gateway.path), folder=self.folder, env=self.env)

    def rows(self) -> list[dict[str, Any]]:
        done = self.cli("audit", "list", "--json", "--limit", "1000")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("audit") as folder:
        home = House(folder)
        yield home
        home.gateway.kill()


def test_changes_by_the_api_and_the_command_line_stand_in_one_log(house: House) -> None:
    made = house.gateway.post("/admin/v1/keys", {"name": "one", "scopes": ["chat:*"]}, house.admin).json()
    two = json.loads(house.cli("keys", "create", "--name", "two", "--scope", "chat:*", "--allow-ip", "10.0.0.0/8", "--json").stdout)
    assert house.cli("keys", "rotate", "two").returncode == 0
    assert house.gateway.post(f"/admin/v1/keys/{made['id']}/revoke", {}, house.admin).status == 200
    seen = [(row["actor"], row["action"], row["object"]) for row in reversed(house.rows())]
    assert seen[0][:2] == ("penstock", "config.start")
    assert seen[1:] == [
        ("key_file_root", "key.create", made["id"]),
        ("command line", "key.create", two["id"]),
        ("command line", "key.rotate", two["id"]),
        ("key_file_root", "key.revoke", made["id"]),
    ]
    whole = json.dumps(house.rows())
    assert made["key"] not in whole and two["key"] not in whole and house.admin not in whole
    assert house.rows()[0]["before"]["state"] == "active" and house.rows()[0]["after"]["state"] == "revoked"
    assert house.cli("audit", "verify").returncode == 0


def test_the_log_is_read_with_the_role_auditor_alone(house: House) -> None:
    page = house.gateway.get("/admin/v1/audit?limit=1", house.auditor)
    assert page.status == 200 and len(page.json()["data"]) == 1 and page.json()["has_more"]
    assert house.gateway.post("/admin/v1/keys", {"name": "x", "scopes": ["chat:*"]}, house.auditor).status == 403
    chats = json.loads(house.cli("keys", "create", "--name", "chats", "--scope", "chat:*", "--json").stdout)["key"]
    harness.until(lambda: house.gateway.chat(chats).status == 200, "the key is known", 10)
    assert house.gateway.get("/admin/v1/audit", chats).status == 403


def test_a_thousand_wrong_keys_are_a_few_rows(house: House) -> None:
    before = len(house.rows())
    for _ in range(200):
        assert house.gateway.chat("pk_test_wrong-wrong-wrong").status == 401
    denied = lambda: [row for row in house.rows() if row["action"] == "denied" and row["after"]["code"] == "invalid_api_key"]  # noqa: E731
    harness.until(denied, "the denial is noted", 15)
    assert len(house.rows()) - before <= 5
    assert all(row["actor"] == "nobody" for row in denied())


def test_a_reload_is_noted_with_what_changed(house: House) -> None:
    house.gateway.write({**house.gateway.config, "limits": {"requests_per_minute": 1000}})
    row = harness.until(lambda: next((r for r in house.rows() if r["action"] == "config.reload"), None), "the reload is noted", 20)
    assert row["after"]["changed"] == ["limits changed"] and len(row["after"]["digest"]) == 64


@pytest.mark.parametrize(("edit", "row"), [
    ("UPDATE audit SET actor = 'somebody else' WHERE number = 2", 2),
    ("DELETE FROM audit WHERE number = 3", 3),
    ("DELETE FROM audit WHERE number > 2", 3),
])
def test_tampering_is_found_at_its_first_row(house: House, edit: str, row: int) -> None:
    assert len(house.rows()) > 3
    with harness.scratch("tampered") as folder:
        # A copy of its own, so that the log of the running gateway stays whole.
        data = folder / "data"
        data.mkdir()
        with sqlite3.connect(house.folder / "data" / "audit.db") as whole, sqlite3.connect(data / "audit.db") as copy:
            whole.backup(copy)
        shutil.copy(house.folder / "data" / "audit.head", data / "audit.head")
        config = folder / "penstock.yaml"
        config.write_text(json.dumps({"version": 1, "data_dir": str(data)}))
        verify = lambda: harness.cli("audit", "verify", "--config", str(config), "--json", folder=folder)  # noqa: E731
        assert verify().returncode == 0, verify().stdout + verify().stderr
        with sqlite3.connect(data / "audit.db") as copy:
            copy.executescript(f"DROP TRIGGER audit_stays; DROP TRIGGER audit_keeps; {edit};")
        found = verify()
        assert found.returncode == 1
        assert json.loads(found.stdout)["broken"]["row"] == row
