"""Signals, kills, bad input, secrets: what must not break does not, and says so."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import socket
import time
from typing import Any, Iterator

import pytest

import harness

SENTINELS = {"K": harness.new_secret(), "VENDOR": "sk-sentinel-vendor-77aa", "HEADER": "sentinel-header-88bb",
             "ISSUER_SECRET": "sentinel-issuer-11cc", "CONSOLE_SECRET": "sentinel-console-22dd"}
PROMPT_SENTINEL = "the prompt sentinel 99cc"
OPAQUE = "sentinel-opaque-token-of-somebody-33ee"


@pytest.fixture
def house(folder: pathlib.Path, mock: harness.Mock, spawn: Any) -> Iterator[harness.Gateway]:
    config: Any = {
        "server": {"drain": "3s", "max_body": "1MiB"},
        "providers": {
            "inner": {"kind": "mock"},
            "outer": {"kind": "openai", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR}",
                      "headers": {"x-private": "${HEADER}"}},
        },
        "models": {"mock": {"provider": "inner", "model": "m"}, "upstream": {"provider": "outer", "model": "v"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}],
        # Issuers that nobody reaches: every way to fail there is gone, too.
        "auth": {
            "oidc": [{"issuer": f"http://127.0.0.1:{harness.free_port()}", "audience": "penstock",
                      "introspection": {"client_id": "gateway", "client_secret": "${ISSUER_SECRET}"}}],
            "admin_login": {"issuer": f"http://127.0.0.1:{harness.free_port()}", "client_id": "console",
                            "client_secret": "${CONSOLE_SECRET}"},
        },
    }
    yield spawn(harness.Gateway(folder, config, SENTINELS))


KEY = SENTINELS["K"]


def stream(gateway: harness.Gateway, **script: Any) -> tuple[Any, list[Any], list[str]]:
    begun: list[str] = []
    body = {"model": "upstream", "messages": [{"role": "user", "content": "x"}], "stream": True, "mock": script}
    thread, box = harness.in_background(lambda: harness.sse(f"{gateway.url}/v1/chat/completions", body, KEY, begun.append))
    harness.until(lambda: begun, "the stream has begun")
    return thread, box, begun


def test_sigterm_lets_a_stream_finish_and_exits_with_0(house: harness.Gateway) -> None:
    thread, box, _ = stream(house, text="word " * 20, inter_token_ms=50)
    house.signal(signal.SIGTERM)
    thread.join(harness.PATIENCE)
    assert isinstance(box[0], list) and box[0][-1] == "[DONE]", box
    assert house.wait() == 0


@pytest.mark.parametrize("ms", [0, 20, 40, 60, 80, 100, 120, 140, 160, 200, 300])
def test_sigterm_while_the_embedded_model_loads_exits_with_0(folder: pathlib.Path, spawn: Any, ms: int) -> None:
    config: Any = {"providers": {"local": {"kind": "local"}}, "models": {"small": {"provider": "local", "model": harness.CHAT_MODEL}}}
    gateway = spawn(harness.Gateway(folder, config, {}))
    time.sleep(ms / 1000)  # The moment is what is tested: the engine's library is at another place each time.
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def test_sigterm_takes_no_new_connections_while_it_drains(house: harness.Gateway) -> None:
    thread, box, _ = stream(house, text="word " * 40, inter_token_ms=50)
    house.signal(signal.SIGTERM)

    def closed_or_draining() -> bool:
        try:
            return harness.http("GET", f"{house.url}/readyz", timeout=5).status == 503
        except OSError:
            return True

    harness.until(closed_or_draining, "no readiness while draining", 10)
    thread.join(harness.PATIENCE)
    assert box[0][-1] == "[DONE]"


def test_a_stream_longer_than_the_drain_ends_with_a_proper_error(house: harness.Gateway) -> None:
    thread, box, _ = stream(house, text="word " * 4000, inter_token_ms=50)
    house.signal(signal.SIGTERM)
    thread.join(harness.PATIENCE)
    events = box[0]
    assert isinstance(events, list), events
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["code"] == "server_shutdown"
    assert house.wait() == 0


def test_kill_9_in_a_stream_loses_no_key_and_no_start(house: harness.Gateway) -> None:
    made = house.post("/admin/v1/keys", {"name": "survivor", "scopes": ["chat:*"]}, KEY)
    assert made.status == 201, made.text
    secret = harness.find_key(made.text)
    for _ in range(3):
        thread, box, _ = stream(house, text="word " * 4000, inter_token_ms=20)
        house.signal(signal.SIGKILL)
        house.wait()
        thread.join(harness.PATIENCE)
        # What the client got must not look complete.
        assert not (isinstance(box[0], list) and "[DONE]" in box[0])
        house.restart()
        assert house.chat(secret).status == 200


def test_health_answers_without_a_key_and_tells_no_secret(house: harness.Gateway) -> None:
    assert house.get("/livez").status == 200
    ready = house.get("/readyz")
    assert ready.status == 200 and ready.json()["status"] == "ready"


METRIC = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="(\\.|[^"\\])*",?)*\})? (-?[0-9.eE+-]+|NaN|[+-]Inf)( [0-9.]+)?( # .*)?$')


def test_metrics_can_be_scraped_and_have_the_standard_names(house: harness.Gateway) -> None:
    assert house.chat(KEY, "upstream").status == 200
    assert house.chat(KEY, "nope").status == 404
    wanted = ["gen_ai_server_request_duration_seconds_bucket", "gen_ai_client_token_usage_bucket", "penstock_requests_total",
              "penstock_provider_up", "penstock_upstream_calls_total"]

    def complete() -> bool:
        return all(name in house.get("/metrics").text for name in wanted)

    harness.until(complete, f"all of {wanted} are there", 20)
    text = house.get("/metrics").text
    for line in text.splitlines():
        assert line.startswith("# ") or METRIC.match(line), line
    names = re.findall(r"^# TYPE (\S+) ", text, re.M)
    assert len(names) == len(set(names)), "a metric is declared twice"
    assert "key=" not in text, "no label may name a key"


def raw(gateway: harness.Gateway, head: str, body: bytes = b"", close: bool = True) -> bytes:
    """Sends bytes as they are and reads until the other side closes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as link:
        link.sendall(head.replace("\n", "\r\n").encode() + body)
        if close:
            link.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            try:
                piece = link.recv(65536)
            except ConnectionResetError:
                return received
            if not piece:
                return received
            received += piece


HEAD = f"POST /v1/chat/completions HTTP/1.1\nhost: localhost\nauthorization: Bearer {KEY}\nconnection: close\n"


@pytest.mark.parametrize(("head", "body", "status", "code"), [
    ("content-type: application/json\ncontent-length: 9\n\n", b"{\"model\":", 400, "invalid_json"),
    ("content-type: application/json\ncontent-length: 0\n\n", b"", 400, "invalid_json"),
    ("content-type: application/json\ncontent-length: 4\n\n", b"\xff\xfe\x00\x01", 400, "invalid_json"),
    ("content-type: application/json\ncontent-length: 2\n\n", b"[]", 400, "invalid_request"),
    ("content-type: text/plain\ncontent-length: 2\n\n", b"{}", 415, "unsupported_media_type"),
    ("content-type: application/json\ncontent-length: 2097152\n\n", b"x" * 4096, 413, "request_too_large"),
    ("content-type: application/json\ncontent-length: 100\n\n", b"{\"model\"", 400, "incomplete_body"),
    ("content-type: application/json\ntransfer-encoding: chunked\n\n", b"10\r\n{\"model\"", 400, "incomplete_body"),
])
def test_bad_bodies_get_their_code(house: harness.Gateway, head: str, body: bytes, status: int, code: str) -> None:
    reply = raw(house, HEAD + head, body, close=code == "incomplete_body")
    assert reply.startswith(f"HTTP/1.1 {status}".encode()), reply[:300]
    assert json.loads(reply[reply.index(b"\r\n\r\n") + 4:].strip() or b"{}")["error"]["code"] == code, reply


def test_deep_json_is_refused_and_not_recursed_into(house: harness.Gateway) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 100_000):
        reply = harness.http("POST", f"{house.url}/v1/chat/completions", deep, {"authorization": f"Bearer {KEY}"})
        assert reply.status == 400 and reply.json()["error"]["code"] in ("json_too_deep", "invalid_json"), reply.text
    closed = b'{"model":"mock","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    reply = harness.http("POST", f"{house.url}/v1/chat/completions", closed, {"authorization": f"Bearer {KEY}"})
    assert reply.json()["error"]["code"] == "json_too_deep"


def test_a_gigabyte_of_chunks_is_cut_off_at_the_limit(house: harness.Gateway) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", house.port), timeout=30) as link:
        link.sendall((HEAD + "content-type: application/json\ntransfer-encoding: chunked\n\n").replace("\n", "\r\n").encode())
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            while sent < 1 << 30:
                link.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    # The gateway discards a little so that a slow writer still reads its refusal, then it hangs up.
    assert sent < 256 << 20, f"{sent} bytes were taken in"
    assert house.chat(KEY).status == 200


@pytest.mark.parametrize(("headers", "code"), [
    ({}, "missing_api_key"),
    ({"authorization": "Bearer "}, "missing_api_key"),
    ({"authorization": "Basic Zm9vOmJhcg=="}, None),
    ({"authorization": "Bearer pk_wrong"}, "invalid_api_key"),
    ({"authorization": f"Bearer {KEY}", "x-api-key": "pk_other"}, "conflicting_credentials"),
])
def test_credentials_must_be_one_and_known(house: harness.Gateway, headers: dict[str, str], code: str | None) -> None:
    reply = harness.http("GET", f"{house.url}/v1/models", headers=headers)
    assert reply.status == 401, reply.text
    assert code is None or reply.json()["error"]["code"] == code
    assert reply.headers["www-authenticate"]


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
def test_each_header_for_a_key_works(house: harness.Gateway, name: str) -> None:
    value = f"Bearer {KEY}" if name == "authorization" else KEY
    assert harness.http("GET", f"{house.url}/v1/models", headers={name: value}).status == 200
    assert harness.http("GET", f"{house.url}/v1/models", headers={"authorization": f"Bearer {KEY}", name: value}).status == 200


def test_unknown_paths_and_methods(house: harness.Gateway) -> None:
    lost = house.get("/v1/nothing", KEY)
    assert lost.status == 404 and lost.json()["error"]["code"] == "route_not_found"
    wrong = house.get("/v1/chat/completions", KEY)
    assert wrong.status == 405 and wrong.json()["error"]["code"] == "method_not_allowed" and wrong.headers["allow"] == "POST"


def test_absurd_values_are_refused(house: harness.Gateway) -> None:
    for member, value in (("max_tokens", 1 << 62), ("n", 10_000_000), ("top_logprobs", 1000)):
        reply = house.chat(KEY, "mock", **{member: value})
        assert reply.status == 400, (member, reply.text[:200])
    many = house.chat(KEY, "mock", stop=["x"] * 100_000)
    assert many.status in (200, 400, 413)


def test_a_web_page_of_another_site_is_refused(house: harness.Gateway) -> None:
    body = {"model": "mock", "messages": [{"role": "user", "content": "x"}]}
    reply = house.post("/v1/chat/completions", body, KEY, origin="https://evil.example")
    assert reply.status == 403 and reply.json()["error"]["code"] == "forbidden_origin"


def test_no_secret_and_no_prompt_appears_anywhere_outside(house: harness.Gateway) -> None:
    seen: list[str] = []
    for model in ("mock", "upstream"):
        for script in ({}, {"status": 500, "body": f"echo {SENTINELS['VENDOR']}"}, {"status": 401}, {"status": 400},
                       {"raw_body": f"<html>{SENTINELS['VENDOR']}</html>", "content_type": "text/html"}, {"echo": True}):
            reply = house.chat(KEY, model, PROMPT_SENTINEL, mock=script)
            if reply.status != 200:
                seen.append(reply.text + str(reply.headers))
    seen.append(house.chat(KEY + "x", "mock", PROMPT_SENTINEL).text)
    seen.append(house.post("/v1/chat/completions", b'{"model": "mock", "messages": [{"' + PROMPT_SENTINEL.encode(), KEY).text)
    # A token that an issuer would have to be asked about, which cannot be reached; a sign-in that leads nowhere.
    refused = house.chat(OPAQUE, "mock", PROMPT_SENTINEL)
    assert refused.status == 503, refused.text
    seen.append(refused.text)
    for path in ("/admin/login", "/admin/callback?code=x&state=y"):
        reply = house.get(path)
        assert reply.status in (400, 503), reply.text
        seen.append(reply.text + str(reply.headers))
    made = house.post("/admin/v1/keys", {"name": "made", "scopes": ["chat:*"], "owner": "alice"}, KEY).json()
    assert house.chat(made["key"], "mock", PROMPT_SENTINEL).status == 200
    seen.append(house.post("/admin/v1/keys/revoke", {"owner": "alice"}, KEY).text)
    seen.append(house.post("/admin/v1/teams", {"name": "made", "residency": ["${VENDOR}"]}, KEY).text)
    for path in ("/metrics", "/readyz", "/livez", "/openapi.json", "/docs", "/", "/admin/v1/keys", "/admin/v1/teams",
                 "/admin/v1/sessions", "/admin/v1/me", "/admin/v1/requests?limit=1000", "/admin/v1/audit?limit=500",
                 "/admin/v1/config", "/admin/v1/providers", "/admin/v1/budgets", "/admin/v1/usage", "/admin/v1/spend?format=csv"):
        reply = house.get(path, KEY)
        assert reply.status == 200, f"{path}: {reply.text}"
        seen.append(reply.text)
    seen.append(pathlib.Path(f"/proc/{house.child.pid}/cmdline").read_text())
    house.signal(signal.SIGHUP)
    assert house.stop() == 0
    seen.append(house.log())
    kept = [path for path in pathlib.Path(house.config["data_dir"]).rglob("*") if path.is_file()]
    assert len(kept) > 3, kept
    seen += [path.read_bytes().decode("latin-1") for path in kept]
    everything = "\n".join(seen)
    for name, secret in {**SENTINELS, "a key that was made": made["key"], "a token": OPAQUE}.items():
        assert secret not in everything, f"{name} leaked: …{everything[max(0, everything.index(secret) - 200):][:300]}"
    assert PROMPT_SENTINEL not in house.log(), "prompt text is in the log"


@pytest.mark.parametrize("store", ["database", "shared"])
def test_the_password_of_a_store_is_told_to_nobody(folder: pathlib.Path, store: str) -> None:
    kind = {"database": "postgres", "shared": "redis"}[store]
    secret, port = "sentinel-store-44ff", harness.free_port()
    config = {
        "version": 1, "data_dir": str(folder / "data"), "server": {"listen": f"127.0.0.1:{harness.free_port()}"},
        "providers": {"inner": {"kind": "mock"}}, "models": {"mock": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}], "stores": {store: "${STORE}"},
    }
    (folder / "penstock.yaml").write_text(json.dumps(config))
    env = {"K": KEY, "STORE": f"{kind}://penstock:{secret}@127.0.0.1:{port}/0"}
    # Nobody is there: what is said of that names the place and not the way in.
    for verb in (["check"], ["check", "--online", "--json"], ["config", "show"], ["keys", "list"], ["doctor"], ["audit", "verify"]):
        done = harness.cli(*verb, "--config", str(folder / "penstock.yaml"), folder=folder, env=env)
        assert secret not in done.stdout + done.stderr, verb
    wrong = harness.cli("check", "--config", str(folder / "penstock.yaml"), folder=folder,
                        env={"K": KEY, "STORE": f"{kind}//penstock:{secret}@nowhere"})
    assert wrong.returncode == 1 and secret not in wrong.stdout + wrong.stderr, wrong.stdout + wrong.stderr


def test_one_log_line_per_request_with_its_id(folder: pathlib.Path, spawn: Any) -> None:
    config: Any = {"log": {"format": "json"}, "providers": {"inner": {"kind": "mock"}},
                   "models": {"mock": {"provider": "inner", "model": "m"}},
                   "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}]}
    gateway = spawn(harness.Gateway(folder, config, {"K": KEY}))
    ids = [gateway.chat(KEY).headers["x-request-id"] for _ in range(5)] + [gateway.chat("nobody").headers["x-request-id"]]
    gateway.stop()
    lines = [json.loads(line) for line in gateway.log().splitlines() if line.strip()]
    for identifier in ids:
        matching = [line for line in lines if identifier in json.dumps(line)]
        assert len(matching) == 1, (identifier, matching)


def test_the_documentation_is_served_from_the_program(house: harness.Gateway) -> None:
    document = house.get("/openapi.json")
    assert document.status == 200 and document.json()["openapi"].startswith("3.")
    assert {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"} <= set(document.json()["paths"])
    for path in ("/docs", "/"):
        page = house.get(path)
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert not re.search(r'(src|href)="https?://', page.text), "a page loads something from elsewhere"
    error = house.get("/v1/models", "pk_wrong").json()["error"]
    assert error["code"] in house.get(error["penstock"]["docs_url"]).text


def test_a_port_that_is_taken_is_said_so(house: harness.Gateway, folder: pathlib.Path) -> None:
    done = harness.cli("serve", "--config", str(house.path), "--listen", f"127.0.0.1:{house.port}", folder=folder, env=SENTINELS)
    assert done.returncode != 0 and str(house.port) in done.stdout + done.stderr


def test_the_data_folder_cannot_be_made(folder: pathlib.Path) -> None:
    (folder / "file").write_text("not a folder")
    (folder / "penstock.yaml").write_text(
        "version: 1\ndata_dir: ./file/data\nproviders: {m: {kind: mock}}\nmodels: {mock: {provider: m, model: x}}\n")
    done = harness.cli("serve", "--listen", f"127.0.0.1:{harness.free_port()}", folder=folder)
    assert done.returncode != 0 and "data" in done.stdout + done.stderr
    assert "panicked" not in done.stderr


def test_the_mock_can_be_scripted_by_file(folder: pathlib.Path, spawn: Any) -> None:
    script = {"default": {"text": "from the file"}, "rules": [{"when": {"model": "teapot"}, "do": {"status": 418}}]}
    mock = spawn(harness.Mock(folder, script))
    ask = {"model": "any", "messages": [{"role": "user", "content": "x"}]}
    assert harness.http("POST", f"{mock.url}/v1/chat/completions", ask).json()["choices"][0]["message"]["content"] == "from the file"
    assert harness.http("POST", f"{mock.url}/v1/chat/completions", {**ask, "model": "teapot"}).status == 418
    assert mock.stats()["requests"] >= 2
    bad = folder / "bad.json"
    bad.write_text("{\"defualt\": {}}")
    done = harness.cli("mock", "--listen", "127.0.0.1:0", "--script", str(bad), folder=folder)
    assert done.returncode != 0 and "default" in done.stdout + done.stderr


def test_the_mock_speaks_anthropics_dialect_too(mock: harness.Mock) -> None:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}], "mock": {"text": "hi"}}
    reply = harness.http("POST", f"{mock.url}/v1/messages", body, {"x-api-key": "k", "anthropic-version": "2023-06-01"})
    assert reply.status == 200 and reply.json()["content"][0]["text"] == "hi"


def test_every_verb_has_help(folder: pathlib.Path) -> None:
    for verb in ("up", "serve", "check", "config", "keys", "chat", "mock", "doctor"):
        done = harness.cli(verb, "--help", folder=folder)
        assert done.returncode == 0 and "Usage" in done.stdout, verb
    assert re.match(r"penstock \d+\.\d+\.\d+", harness.cli("--version", folder=folder).stdout)
    assert harness.cli("no-such-verb", folder=folder).returncode == 2


def test_a_provider_answering_from_a_stopped_process_times_out_and_others_go_on(folder: pathlib.Path, spawn: Any) -> None:
    (folder / "m").mkdir()
    (folder / "g").mkdir()
    frozen = spawn(harness.Mock(folder / "m"))
    config: Any = {
        "providers": {
            "frozen": {"kind": "openai", "base_url": f"{frozen.url}/v1", "api_key": "${V}",
                       "timeouts": {"first_token": "500ms", "total": "1s"}},
            "inner": {"kind": "mock"}},
        "models": {"frozen": {"provider": "frozen", "model": "m"}, "mock": {"provider": "inner", "model": "m"}},
        "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}],
    }
    gateway = spawn(harness.Gateway(folder / "g", config, {"K": KEY, "V": "sk-v"}))
    assert gateway.chat(KEY, "frozen").status == 200
    os.kill(frozen.child.pid, signal.SIGSTOP)
    try:
        late = gateway.chat(KEY, "frozen")
        assert late.status == 504 and late.json()["error"]["code"] == "upstream_timeout", late.text
        assert gateway.chat(KEY, "mock").status == 200
    finally:
        os.kill(frozen.child.pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signals_are_handled_from_the_moment_the_port_is_open(folder: pathlib.Path, spawn: Any, number: signal.Signals) -> None:
    config: Any = {"providers": {"inner": {"kind": "mock"}}, "models": {"mock": {"provider": "inner", "model": "m"}},
                   "keys": [{"name": "k", "key": "${K}", "scopes": ["*"]}]}
    # Ten starts, because a handler that is set a little too late is still there in most of them.
    for _ in range(10):
        gateway = spawn(harness.Gateway(folder, config, {"K": KEY}, ready=False))
        while not harness.can_connect(gateway.port):
            gateway.must_live()
        gateway.signal(number)
        if number == signal.SIGHUP:
            assert gateway.chat(KEY).status == 200
            gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0, "the signal killed the process instead of being handled"
