"""A stranger's first five minutes: `penstock up` in an empty folder, a first answer, and the same again."""

from __future__ import annotations

import json
import pathlib
import signal
import stat
import subprocess
from typing import Any

import harness


class Up(harness.Process):
    """`penstock up` in a folder, on a free port."""

    def __init__(self, folder: pathlib.Path, env: dict[str, str] | None = None, wait: bool = True):
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__([harness.binary(), "up", "--listen", f"127.0.0.1:{self.port}"], folder, env, "up")
        if wait:
            self.wait_ready(f"{self.url}/readyz")
            harness.until(lambda: "curl" in self.log(), "`up` prints what to try")


def ask(url: str, key: str, model: str, text: str, **members: Any) -> harness.Reply:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **members}
    return harness.http("POST", f"{url}/v1/chat/completions", body, {"authorization": f"Bearer {key}"})


def test_up_in_an_empty_folder_leads_to_an_answer_of_the_embedded_model(folder: pathlib.Path, spawn: Any) -> None:
    up = spawn(Up(folder))
    key = harness.find_key(up.log())
    assert f"{up.url}/v1" in up.log()
    reply = ask(up.url, key, "smollm2-135m", "What is the capital of France?", temperature=0, max_tokens=48)
    assert reply.status == 200, reply.text
    assert "Paris" in reply.json()["choices"][0]["message"]["content"]


def test_the_curl_line_that_up_prints_works_as_printed(folder: pathlib.Path, spawn: Any) -> None:
    up = spawn(Up(folder))
    line = up.log()[up.log().index("curl "):].split("\n\n")[0]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_up_leaves_a_configuration_that_check_accepts_and_secrets_only_the_owner_can_read(folder: pathlib.Path, spawn: Any) -> None:
    up = spawn(Up(folder))
    key = harness.find_key(up.log())
    checked = harness.cli("check", "--config", "penstock.yaml", folder=folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert key not in (folder / "penstock.yaml").read_text()
    admin = folder / "penstock-data" / "admin.key"
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "penstock-data").stat().st_mode) & 0o077 == 0
    for path in (folder / "penstock-data").rglob("*"):
        if path.is_file() and path != admin:
            assert key.encode() not in path.read_bytes(), f"{path} holds the first key itself"


def test_a_second_up_keeps_keys_and_configuration_and_shows_no_key(folder: pathlib.Path, spawn: Any) -> None:
    up = spawn(Up(folder))
    key = harness.find_key(up.log())
    config = (folder / "penstock.yaml").read_bytes()
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    (folder / "up.log").unlink()
    again = spawn(Up(folder))
    assert "pk_live_" not in again.log(), "a key is shown once"
    assert (folder / "penstock.yaml").read_bytes() == config
    assert ask(again.url, key, "smollm2-135m", "hello", max_tokens=4).status == 200


def test_up_finds_vendors_by_their_environment_variable_and_never_writes_the_secret(folder: pathlib.Path, spawn: Any) -> None:
    secret = "sk-sentinel-0f6a31b2-never-written"
    up = spawn(Up(folder, {"OPENAI_API_KEY": secret}))
    config = (folder / "penstock.yaml").read_text()
    assert "${OPENAI_API_KEY}" in config and secret not in config
    assert secret not in up.log()


def test_chat_streams_an_answer_to_the_terminal(folder: pathlib.Path, spawn: Any) -> None:
    up = spawn(Up(folder))
    done = harness.cli("chat", "--address", f"127.0.0.1:{up.port}", "What is the capital of France?", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    wrong = harness.cli("chat", "--address", f"127.0.0.1:{up.port}", "--model", "nope", "hello", folder=folder)
    assert wrong.returncode != 0 and "model_not_found" in wrong.stderr


def test_doctor_is_content_with_a_healthy_installation(folder: pathlib.Path, spawn: Any) -> None:
    spawn(Up(folder))
    done = harness.cli("doctor", "--json", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    json.loads(done.stdout)


def test_without_models_the_gateway_starts_and_says_how_to_get_them(folder: pathlib.Path, spawn: Any) -> None:
    config: Any = {
        "providers": {"local": {"kind": "local"}, "inner": {"kind": "mock"}},
        "models": {"small": {"provider": "local", "model": harness.CHAT_MODEL}, "mock": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}],
    }
    key = harness.new_secret()
    (folder / "empty").mkdir()
    gateway = spawn(harness.Gateway(folder, config, {"K": key, "PENSTOCK_CACHE": str(folder / "empty")}))
    refused = gateway.chat(key, "small")
    assert refused.status == 503 and refused.json()["error"]["code"] == "local_model_unavailable", refused.text
    assert "fetch-models" in refused.json()["error"]["message"]
    assert gateway.chat(key, "mock").status == 200
    health = gateway.get("/readyz").json()["providers"]["local"]
    assert health["status"] == "unavailable" and "fetch-models" in health["reason"]


def test_doctor_says_that_the_models_are_missing(folder: pathlib.Path) -> None:
    (folder / "penstock.yaml").write_text(
        "version: 1\nproviders: {local: {kind: local}}\nmodels: {small: {provider: local, model: smollm2-135m}}\n")
    (folder / "empty").mkdir()
    # More than once: what it says must not depend on how fast the engine's thread was.
    for _ in range(10):
        doctor = harness.cli("doctor", folder=folder, env={"PENSTOCK_CACHE": str(folder / "empty")})
        assert "fetch-models" in doctor.stdout + doctor.stderr, doctor.stdout


def test_up_without_models_and_without_a_network_starts_all_the_same(folder: pathlib.Path, spawn: Any) -> None:
    (folder / "empty").mkdir()
    up = spawn(Up(folder, {"PENSTOCK_CACHE": str(folder / "empty")}, wait=False))
    up.wait_ready(f"{up.url}/livez")
    harness.until(lambda: "fetch-models" in up.log() and "curl" in up.log(), "the output says how to get the models")
    key = harness.find_key(up.log())
    assert harness.http("GET", f"{up.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status == 200
    assert ask(up.url, key, "smollm2-135m", "hello").json()["error"]["code"] == "local_model_unavailable"


def test_a_model_file_with_a_wrong_byte_is_refused_by_checksum(folder: pathlib.Path, spawn: Any) -> None:
    models = folder / "cache" / "models"
    models.mkdir(parents=True)
    content = bytearray((harness.model_folder() / harness.GGUF).read_bytes())
    content[len(content) // 2] ^= 1
    (models / harness.GGUF).write_bytes(content)
    config: Any = {
        "providers": {"local": {"kind": "local"}, "inner": {"kind": "mock"}},
        "models": {"small": {"provider": "local", "model": harness.CHAT_MODEL}, "mock": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}],
    }
    key = harness.new_secret()
    gateway = spawn(harness.Gateway(folder, config, {"K": key, "PENSTOCK_CACHE": str(folder / "cache")}))
    refused = gateway.chat(key, "small")
    assert refused.status == 503 and refused.json()["error"]["code"] == "local_model_unavailable", refused.text
    assert "sha256" in refused.json()["error"]["message"] or "checksum" in refused.json()["error"]["message"]
    assert gateway.chat(key, "mock").status == 200


def test_run_once_prints_the_answer_and_the_cost_and_leaves_nothing_running(folder: pathlib.Path) -> None:
    import os
    done = subprocess.run(
        [str(harness.ROOT / "run"), "--once", "What is the capital of France?"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PENSTOCK_BIN": harness.binary()}, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    answer, cost = done.stdout.strip().rsplit("\n", 1)
    assert "Paris" in answer
    assert cost.startswith("cost: $0.00 (embedded model), ") and cost.endswith(" completion tokens")
    assert list(folder.iterdir()) == [], "a folder of the caller's was written to"
