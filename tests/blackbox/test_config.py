"""The configuration: every problem at once, and a reload that never harms what runs."""

from __future__ import annotations

import json
import pathlib
import signal
from typing import Any, Iterator

import jsonschema
import pytest

import harness

BROKEN = """\
version: 1
server:
  listne: 127.0.0.1:8080
  drain: soon
providers:
  a: {kind: opnai, api_key: "${NOT_SET_ANYWHERE}"}
  b: {kind: vllm, base_url: "not an address"}
models:
  m: {provider: missing, model: x}
keys:
  - {name: k, key: "${ALSO_NOT_SET}", scopes: ["chta:*"]}
"""


def test_check_tells_every_problem_at_once_with_its_line(folder: pathlib.Path) -> None:
    (folder / "penstock.yaml").write_text(BROKEN)
    done = harness.cli("check", "--json", folder=folder)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    by_line = {problem.get("line") for problem in report["problems"]}
    assert {3, 4, 6} <= by_line, report
    text = done.stdout
    assert "listen" in text, "an unknown key gets a suggestion"
    assert "openai" in text, "an unknown kind gets a suggestion"
    assert len(report["problems"]) >= 5, report
    assert all(problem["message"] for problem in report["problems"])


def test_check_for_people_shows_file_line_and_help(folder: pathlib.Path) -> None:
    (folder / "penstock.yaml").write_text(BROKEN)
    done = harness.cli("check", folder=folder)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "penstock.yaml:3:" in said and "help:" in said


@pytest.mark.parametrize("text", [
    "", "{", "version: 1\n\tbad: tab", "- just\n- a list\n", "version: 99\n", "version: one\n", "a: &a [*a]\n",
    "version: 1\nversion: 1\n", "\x00", "version: 1\nproviders: {x: {kind: mock}, x: {kind: mock}}\n",
    "version: 1\nmodels: " + "[" * 2000,
])
def test_no_file_however_odd_brings_more_than_a_problem(folder: pathlib.Path, text: str) -> None:
    (folder / "penstock.yaml").write_text(text)
    done = harness.cli("check", folder=folder)
    assert done.returncode == 1, (text[:40], done.stdout)
    assert "panicked" not in done.stderr and (done.stdout + done.stderr).strip()


def test_serve_refuses_a_broken_file_with_the_same_words(folder: pathlib.Path) -> None:
    (folder / "penstock.yaml").write_text(BROKEN)
    done = harness.cli("serve", folder=folder)
    assert done.returncode != 0
    assert "listne" in done.stdout + done.stderr


def test_a_public_address_without_any_key_is_refused(folder: pathlib.Path) -> None:
    (folder / "penstock.yaml").write_text(
        f"version: 1\nserver: {{listen: 0.0.0.0:{harness.free_port()}}}\nproviders: {{m: {{kind: mock}}}}\n"
        "models: {mock: {provider: m, model: x}}\n")
    done = harness.cli("serve", folder=folder)
    assert done.returncode != 0
    assert "key" in done.stdout + done.stderr


def test_the_schema_is_valid_and_accepts_what_the_program_accepts(folder: pathlib.Path) -> None:
    done = harness.cli("config", "schema", folder=folder)
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    good: Any = {
        "version": 1, "server": {"listen": "127.0.0.1:1", "drain": "5s"},
        "providers": {"m": {"kind": "mock"}, "v": {"kind": "vllm", "base_url": "http://127.0.0.1:2/v1"}},
        "models": {"x": {"provider": "m", "model": "x"}},
    }
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(good)), [error.message for error in validator.iter_errors(good)]
    (folder / "penstock.yaml").write_text(json.dumps(good))
    assert harness.cli("check", folder=folder).returncode == 0
    for path, value in ((("server", "listne"), "x"), (("models", "x", "provider"), 3), (("version",), "one")):
        bad = json.loads(json.dumps(good))
        place = bad
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert list(validator.iter_errors(bad)), path


def test_a_secret_file_that_everybody_can_read_is_refused(folder: pathlib.Path) -> None:
    (folder / "secret").write_text("sk-sentinel-from-file\n")
    (folder / "secret").chmod(0o644)
    (folder / "penstock.yaml").write_text(
        "version: 1\nproviders: {a: {kind: openai, api_key: \"file:secret\"}}\nmodels: {m: {provider: a, model: x}}\n")
    done = harness.cli("check", folder=folder)
    assert done.returncode == 1 and "chmod 600" in done.stdout + done.stderr


def test_show_hides_every_secret(folder: pathlib.Path) -> None:
    (folder / "secret").write_text("sk-sentinel-from-file\n")
    (folder / "secret").chmod(0o600)
    (folder / "penstock.yaml").write_text(
        "version: 1\nproviders:\n  a: {kind: openai, api_key: \"${SHOWN}\"}\n"
        "  b: {kind: openai, api_key: \"file:secret\"}\nmodels: {m: {provider: a, model: x}}\n")
    done = harness.cli("config", "show", folder=folder, env={"SHOWN": "sk-sentinel-from-env"})
    assert done.returncode == 0, done.stderr
    assert "sk-sentinel" not in done.stdout + done.stderr
    assert "30s" in done.stdout, "defaults are filled in"


@pytest.fixture
def served(folder: pathlib.Path, spawn: Any) -> Iterator[tuple[harness.Gateway, dict[str, Any], str]]:
    config: Any = {
        "providers": {"inner": {"kind": "mock"}}, "models": {"one": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}],
    }
    key = harness.new_secret()
    gateway = spawn(harness.Gateway(folder, config, {"K": key}))
    yield gateway, gateway.config, key


def with_model(config: dict[str, Any], name: str) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    changed["models"][name] = {"provider": "inner", "model": "m"}
    return changed


@pytest.mark.parametrize("how", ["sighup", "file"])
def test_a_good_change_is_taken_up(served: Any, how: str) -> None:
    gateway, config, key = served
    assert gateway.chat(key, "two").status == 404
    gateway.write(with_model(config, "two"))
    if how == "sighup":
        gateway.signal(signal.SIGHUP)
    harness.until(lambda: gateway.chat(key, "two").status == 200, f"the change is served after {how}", 30)


@pytest.mark.parametrize("text", ["{", "version: 1\nmodles: {}\n", "", "version: 1\nmodels: {one: {provider: gone, model: m}}\n"])
def test_a_bad_change_keeps_the_old_configuration_and_says_why(served: Any, text: str) -> None:
    gateway, config, key = served
    before = len(gateway.log())
    gateway.path.write_text(text)
    gateway.signal(signal.SIGHUP)
    harness.until(lambda: "penstock.yaml" in gateway.log()[before:], "the log names the refused file", 30)
    assert gateway.chat(key, "one").status == 200
    gateway.write(with_model(config, "after"))
    gateway.signal(signal.SIGHUP)
    harness.until(lambda: gateway.chat(key, "after").status == 200, "a mended file is taken up", 30)


def test_a_deleted_file_harms_nothing(served: Any) -> None:
    gateway, config, key = served
    gateway.path.unlink()
    gateway.signal(signal.SIGHUP)
    assert gateway.chat(key, "one").status == 200
    gateway.write(with_model(config, "back"))
    gateway.signal(signal.SIGHUP)
    harness.until(lambda: gateway.chat(key, "back").status == 200, "the file that came back is read", 30)


def test_streams_in_flight_survive_a_hundred_reloads(served: Any) -> None:
    gateway, config, key = served
    text = "word " * 120
    body = {"model": "one", "messages": [{"role": "user", "content": "x"}], "stream": True,
            "mock": {"text": text, "inter_token_ms": 20}}
    begun: list[str] = []
    thread, box = harness.in_background(
        lambda: harness.sse(f"{gateway.url}/v1/chat/completions", body, key, begun.append))
    harness.until(lambda: begun, "the stream has begun")
    for number in range(100):
        changed = with_model(config, f"model-{number}")
        # The model that the stream uses is gone in every other configuration.
        if number % 2:
            del changed["models"]["one"]
        gateway.write(changed)
        gateway.signal(signal.SIGHUP)
        # Requests beside the reloads: never anything but served or unknown.
        assert gateway.chat(key, "one").status in (200, 404)
    thread.join(harness.PATIENCE)
    events = box[0]
    assert isinstance(events, list), events
    assert events[-1] == "[DONE]"
    said = "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"])
    assert said == text
