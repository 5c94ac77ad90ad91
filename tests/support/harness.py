"""Starts and stops what the suites drive from outside: the gateway, the mock upstream, a llama.cpp server.

Only the standard library, so that anything with a Python can use it. Every process is started in a session of its own,
noted in $PENSTOCK_TEST_PIDS (a folder) so that `./test` can end it whatever happens, and waited for by asking it, never
by sleeping for a guessed time.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHAT_MODEL = "smollm2-135m"
EMBEDDING_MODEL = "minilm"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

# The machine has two busy cores while the suites run: generous, because only a hang should ever meet it.
PATIENCE = 90.0

_ports_given: set[int] = set()


def binary() -> str:
    """The program under test: $PENSTOCK_BIN, or the dev build."""
    path = os.environ.get("PENSTOCK_BIN") or str(ROOT / "target" / "debug" / "penstock")
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"there is no program at {path}; run `cargo build -p penstock` or set PENSTOCK_BIN")
    return path


def model_folder() -> pathlib.Path:
    own = os.environ.get("PENSTOCK_CACHE")
    if not own:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        own = os.path.join(base, "penstock")
    return pathlib.Path(own) / "models"


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _ports_given:
            _ports_given.add(port)
            return port


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Asks again and again until the answer is true; fails with `what` when it never is."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:.0f} s in vain: {what}")
        time.sleep(0.02)


class Reply:
    """An HTTP reply, whatever its status."""

    def __init__(self, status: int, headers: Any, body: bytes):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


def http(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = PATIENCE) -> Reply:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("content-type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as reply:
            return Reply(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def can_connect(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Process:
    """A child with its output in a file."""

    def __init__(self, arguments: list[str], folder: pathlib.Path, env: dict[str, str] | None = None, name: str = "process"):
        self.name = name
        self.folder = folder
        self.output = folder / f"{name}.log"
        self._sink = open(self.output, "ab")
        full = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        # Keys of vendors that happen to be set on this machine must not leak into a test.
        for vendor in ("OPENAI", "ANTHROPIC", "GEMINI", "AZURE_OPENAI", "GROQ", "MISTRAL"):
            full.pop(f"{vendor}_API_KEY", None)
        full.update(env or {})
        self.child = subprocess.Popen(
            arguments, cwd=folder, env=full, stdin=subprocess.DEVNULL, stdout=self._sink, stderr=subprocess.STDOUT,
            start_new_session=True)
        notes = os.environ.get("PENSTOCK_TEST_PIDS")
        if notes:
            pathlib.Path(notes, str(self.child.pid)).touch()

    def log(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def alive(self) -> bool:
        return self.child.poll() is None

    def must_live(self) -> None:
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.log()[-4000:]}")

    def wait_ready(self, url: str, patience: float = PATIENCE) -> None:
        def ready() -> bool:
            self.must_live()
            with contextlib.suppress(OSError):
                return http("GET", url, timeout=5).status == 200
            return False

        try:
            until(ready, f"{self.name} answers 200 at {url}", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {patience:.0f} s:\n{self.log()[-4000:]}") from None

    def kill(self) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(PATIENCE)
        self._sink.close()
        notes = os.environ.get("PENSTOCK_TEST_PIDS")
        if notes:
            pathlib.Path(notes, str(self.child.pid)).unlink(missing_ok=True)


class Mock(Process):
    """`penstock mock`: the scripted upstream."""

    def __init__(self, folder: pathlib.Path, script: dict[str, Any] | None = None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = [binary(), "mock", "--listen", f"127.0.0.1:{self.port}"]
        if script is not None:
            path = folder / "script.json"
            path.write_text(json.dumps(script))
            arguments += ["--script", str(path)]
        super().__init__(arguments, folder, name="mock")
        self.wait_ready(f"{self.url}/v1/models")

    def stats(self) -> dict[str, Any]:
        return http("GET", f"{self.url}/mock/stats").json()


class LlamaServer(Process):
    """The prebuilt llama.cpp server with the pinned chat model: an upstream that nobody of this house wrote."""

    def __init__(self, folder: pathlib.Path):
        program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
        if not program:
            raise RuntimeError("LLAMA_SERVER must name a llama.cpp server; `./test` installs one")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        beside = str(pathlib.Path(program).resolve().parent)
        super().__init__(
            [program, "--host", "127.0.0.1", "--port", str(self.port), "--model", str(model_folder() / GGUF),
             "--ctx-size", "4096", "--parallel", "2", "--threads", "1", "--n-gpu-layers", "0", "--jinja",
             "--api-key", "sk-llama-upstream"],
            folder, {"LD_LIBRARY_PATH": beside, "OMP_WAIT_POLICY": "passive"}, "llama-server")
        self.wait_ready(f"{self.url}/health")


class Gateway(Process):
    """`penstock serve` with a configuration of its own, in a folder of its own."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any], env: dict[str, str] | None = None, ready: bool = True, port: int | None = None):
        self.port = port or free_port()
        self.config = {"version": 1, "data_dir": str(folder / "data"), **config}
        self.config["server"] = {"listen": f"127.0.0.1:{self.port}", "drain": "5s", **config.get("server", {})}
        self.path = folder / "penstock.yaml"
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = env or {}
        self.write(self.config)
        super().__init__([binary(), "serve", "--config", str(self.path)], folder, env, "gateway")
        if ready:
            self.wait_ready(f"{self.url}/readyz")

    def write(self, config: dict[str, Any]) -> None:
        """Replaces the file as a careful editor does: complete or not at all. JSON is YAML."""
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(config, indent=2) + "\n")
        scratch.replace(self.path)

    def restart(self) -> None:
        """Starts the same gateway again, after it ended."""
        assert not self.alive()
        self.kill()
        super().__init__([binary(), "serve", "--config", str(self.path)], self.folder, self.env, "gateway")
        self.wait_ready(f"{self.url}/readyz")

    def stop(self) -> int:
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait()

    def post(self, path: str, body: Any, key: str | None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            named["authorization"] = f"Bearer {key}"
        return http("POST", self.url + path, body, named)

    def get(self, path: str, key: str | None = None) -> Reply:
        return http("GET", self.url + path, None, {"authorization": f"Bearer {key}"} if key else {})

    def reinstate(self, key: str) -> None:
        """Forgets what earlier tests made of the providers: the faults of one are not to be the trouble of the next."""
        for provider in self.get("/admin/v1/providers", key).json()["data"]:
            if any(target["state"] != "healthy" or target["suspicion"] for target in provider["targets"]):
                assert self.post(f"/admin/v1/providers/{provider['name']}/reinstate", {}, key).status == 200

    def chat(self, key: str | None, model: str = "mock", text: str = "hello", **members: Any) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **members}
        return self.post("/v1/chat/completions", body, key)


def cli(*arguments: str, folder: pathlib.Path, env: dict[str, str] | None = None, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a verb to its end."""
    full = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    full.update(env or {})
    return subprocess.run([binary(), *arguments], cwd=folder, env=full, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=patience, check=False)


def find_key(text: str) -> str:
    """The first key that a program printed."""
    found = re.search(r"\bpk_[A-Za-z0-9_]{16,}\b", text)
    assert found, f"no key in:\n{text}"
    return found.group()


def new_secret() -> str:
    return "pk_test_" + secrets.token_hex(20)


# A request that is translated loses the member `mock`, so the scripted upstream also knows these by name: the last message
# of the user says `[name]`. A user of the same dialect may say it either way.
LONG = "word " * 400
SCRIPTS: dict[str, dict[str, Any]] = {
    "naive": {"text": "One two three, and a naïve 🦀 walks into a bar."},
    "short": {"text": "one two three four five six"},
    "weather": {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2]}}]},
    "both": {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_time", "arguments": {}}]},
    "forecast": {"text": '{"city": "Paris", "days": [1, 2]}'},
    "ponder": {"reasoning": "let me see", "tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris"}}]},
    "think": {"reasoning": "let me see", "text": "forty-two"},
    "counted": {"text": "a b c", "usage": {"prompt_tokens": 30, "completion_tokens": 5, "cached_tokens": 12}},
    "many": {"text": "a b c d e f g h"},
    "limited": {"status": 429, "retry_after": 7},
    "broken": {"status": 500},
    "full": {"status": 529},
    "barred": {"status": 401, "body": {"error": {"message": "bad key sk-upstream-5e27147a-never-to-be-seen"}}},
    "html": {"raw_body": "<html>", "content_type": "text/html"},
    "empty": {"raw_body": "{}", "content_type": "application/json"},
    "error-event": {"text": "a b c d e f g h", "error_event": 4},
    "malformed-event": {"text": "a b c d e f g h", "malformed_event": 4},
    "no-end": {"text": "a b c d e f g h", "omit_done": True},
    "silent": {"text": "a b c d e f g h", "hang": "mid_stream"},
    "slow": {"text": LONG, "inter_token_ms": 50},
    "never": {"hang": "before_headers"},
}
# Legal ways to send the same stream.
SHAPES: tuple[dict[str, Any], ...] = (
    {"chunk_bytes": 1}, {"chunk_bytes": 7}, {"crlf": True}, {"comments": True},
    {"crlf": True, "comments": True, "chunk_bytes": 3})
# Every byte near the beginning, a comb over the rest of a stream of some 2,000 bytes, and a cut that comes too late.
CUTS = (*range(0, 40), *range(40, 2400, 37), 10_000)


def cut_script(how: str, at: int) -> dict[str, Any]:
    """A short answer whose connection breaks after `at` bytes of its body; the rule of `[cut-HOW-AT]`."""
    return {**SCRIPTS["short"], "cut": how, "cut_at_byte": at}


def suite_script() -> dict[str, Any]:
    """What the scripted upstream of the suites answers to a request without a script of its own."""
    named = {**SCRIPTS, **{f"cut-{how}-{at}": cut_script(how, at) for how in ("fin", "reset") for at in CUTS}}
    rules = [{"when": {"text_contains": f"[{name}]"}, "do": script} for name, script in named.items()]
    for shape in SHAPES:
        name = "-".join(f"{key}={value}" for key, value in shape.items())
        rules.append({"when": {"text_contains": f"[shape-{name}]"}, "do": {**SCRIPTS["naive"], **shape}})
    for suite in ("python", "typescript"):
        stumbling = {"status": 529, "repeat": 2, "then": {"text": "third time lucky"}}
        rules.append({"when": {"text_contains": f"[stumble-{suite}]"}, "do": stumbling})
    return {"rules": rules}


UPSTREAM_SECRET = "sk-upstream-5e27147a-never-to-be-seen"


def suite_config(mock: Mock, llama: LlamaServer | None, local: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration that the SDK suites run against, and the environment that it refers to.

    `mock` is the scripted provider inside the gateway, `upstream` the same script behind HTTP, `messages` the same in
    Anthropic's dialect, `chats` the same by somebody who speaks chat completions alone, `small` and `embed` the embedded models, `llama` a llama.cpp server.
    """
    env = {name: new_secret() for name in ("SUITE_KEY", "NARROW_KEY", "SLOW_KEY", "OPERATOR_KEY")}
    env["VENDOR_KEY"] = UPSTREAM_SECRET
    providers: dict[str, Any] = {
        "inner": {"kind": "mock"},
        "outer": {"kind": "openai", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR_KEY}"},
        "chatty": {"kind": "openai_compatible", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR_KEY}"},
        "hasty": {"kind": "openai", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR_KEY}",
                  "timeouts": {"first_token": "700ms", "idle": "700ms", "total": "4s"}},
        "claude": {"kind": "anthropic", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR_KEY}"},
        "nobody": {"kind": "openai", "base_url": f"http://127.0.0.1:{free_port()}/v1", "api_key": "${VENDOR_KEY}"},
    }
    models: dict[str, Any] = {
        "mock": {"provider": "inner", "model": "mock"},
        "upstream": {"provider": "outer", "model": "vendor-model-1"},
        "hasty": {"provider": "hasty", "model": "vendor-model-1"},
        "messages": {"provider": "claude", "model": "vendor-model-2"},
        "chats": {"provider": "chatty", "model": "vendor-model-1"},
        "unreachable": {"provider": "nobody", "model": "vendor-model-1"},
    }
    if local:
        providers["local"] = {"kind": "local"}
        models["small"] = {"provider": "local", "model": CHAT_MODEL}
        models["embed"] = {"provider": "local", "model": EMBEDDING_MODEL}
    if llama is not None:
        providers["llama"] = {"kind": "llamacpp", "base_url": f"{llama.url}/v1", "api_key": "sk-llama-upstream"}
        models["llama"] = {"provider": "llama", "model": CHAT_MODEL}
    keys = [
        {"name": "suite", "key": "${SUITE_KEY}", "scopes": ["chat:*", "embeddings:*", "models:*"]},
        {"name": "narrow", "key": "${NARROW_KEY}", "scopes": ["chat:invoke:mock", "models:read"]},
        {"name": "operator", "key": "${OPERATOR_KEY}", "scopes": ["role:operator"]},
        {"name": "slow", "key": "${SLOW_KEY}", "scopes": ["chat:*"], "limits": {"requests_per_minute": 2}},
    ]
    return {"providers": providers, "models": models, "keys": keys}, env


@contextlib.contextmanager
def scratch(name: str) -> Iterator[pathlib.Path]:
    base = os.environ.get("PENSTOCK_TEST_SCRATCH") or None
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"penstock-{name}-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sse(url: str, body: Any, key: str, lines: Callable[[str], None] | None = None) -> list[str]:
    """Posts and returns the `data:` payloads until the stream ends, however it ends."""
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST", headers={
        "content-type": "application/json", "authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    events: list[str] = []
    with opener.open(request, timeout=PATIENCE) as reply:
        for raw in reply:
            line = raw.decode().rstrip("\r\n")
            if lines:
                lines(line)
            if line.startswith("data:"):
                events.append(line[5:].strip())
    return events


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Runs `work` beside the test; its result, or the exception, is put in the list."""
    box: list[Any] = []

    def guarded() -> None:
        try:
            box.append(work())
        except BaseException as error:  # noqa: BLE001: the test looks at it
            box.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread, box


def main() -> int:
    """`python harness.py -- COMMAND…`: runs the command with a gateway and a mock beside it, named in its environment."""
    command = sys.argv[sys.argv.index("--") + 1:]
    with scratch("with-gateway") as folder, contextlib.ExitStack() as stack:
        (folder / "mock").mkdir()
        (folder / "gateway").mkdir()
        mock = Mock(folder / "mock", suite_script())
        stack.callback(mock.kill)
        config, env = suite_config(mock, None, local=True)
        gateway = Gateway(folder / "gateway", config, env)
        stack.callback(gateway.kill)
        done = subprocess.run(command, check=False, env={
            **os.environ, "PENSTOCK_URL": gateway.url, "PENSTOCK_KEY": env["SUITE_KEY"], "PENSTOCK_OPERATOR_KEY": env["OPERATOR_KEY"],
            "PENSTOCK_NARROW_KEY": env["NARROW_KEY"], "PENSTOCK_SLOW_KEY": env["SLOW_KEY"], "MOCK_URL": mock.url,
            "MOCK_SCRIPTS": json.dumps(SCRIPTS), "MOCK_CUTS": json.dumps(CUTS)})
        if done.returncode != 0:
            print(gateway.log()[-4000:], file=sys.stderr)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
