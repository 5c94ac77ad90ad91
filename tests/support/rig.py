"""The fault rig: scripted upstreams that fail, a gateway before them, clients of every dialect, and the count of both sides.

A `Rig` has two mocks, `a` and `b`, and models in plenty, each used once, so that what one test taught the gateway about a
target says nothing about the next: `rig.model("openai")` is served by `a` and falls back to `b`, `rig.model("openai",
spare=False)` by `a` alone. `rig.script("a", status=503)` makes `a` misbehave. `rig.call(…)` asks as a client of any dialect and
tells what such a client must conclude; `rig.settle()` holds the records against the mocks' own count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import pathlib
import time
from typing import Any, Iterator

import anthropic
import openai

import harness

ANSWER = "one two three four five six"
# Who is asked in which dialect, and which dialect the vendor speaks: the same, and translations in every direction.
LANES = (("chat", "openai"), ("messages", "anthropic"), ("responses", "openai"), ("chat", "anthropic"),
         ("messages", "openai"), ("chat", "gemini"), ("responses", "anthropic"))
KINDS = ("openai", "anthropic", "gemini")
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
MODELS = 250
TIMEOUTS = {"connect": "1s", "first_token": "700ms", "idle": "700ms", "total": "8s"}


@dataclasses.dataclass
class Outcome:
    """What a client of one dialect makes of a reply."""

    status: int
    headers: dict[str, str]
    text: str
    complete: bool
    """The dialect's own end was there: `[DONE]`, `message_stop`, `response.completed`, or a whole body."""
    code: str | None
    """The code of the error that was answered, or that ended the stream."""
    broken: str | None
    """The transport failed, or something was no JSON."""
    begun: int
    """How many times an answer began."""
    seconds: float

    @property
    def id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def attempts(self) -> int:
        return int(self.headers["penstock-attempts"])

    @property
    def honest(self) -> bool:
        """Either all of it, or it says that it is not."""
        return (self.complete and self.code is None) != (self.code is not None)


def body_of(dialect: str, model: str, text: str, stream: bool, **members: Any) -> dict[str, Any]:
    if dialect == "responses":
        return {"model": model, "input": text, "stream": stream, "store": False, **members}
    bound = {"max_tokens": 1024} if dialect == "messages" else {}
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **bound, **members}


def read_whole(dialect: str, body: Any) -> tuple[str, bool]:
    if dialect == "chat":
        return body["choices"][0]["message"]["content"] or "", True
    if dialect == "messages":
        return "".join(part.get("text", "") for part in body["content"]), True
    said = [part.get("text", "") for item in body["output"] for part in item.get("content") or []]
    return "".join(said), body["status"] == "completed"


def error_code(event: Any) -> str | None:
    """The code of an error in any of the shapes that the three dialects have for it."""
    if event.get("type") == "response.failed":
        return (event["response"].get("error") or {}).get("code") or "failed"
    error = event.get("error")
    if isinstance(error, dict):
        return error.get("code") or error.get("type") or "error"
    if event.get("type") == "error":
        return event.get("code") or "error"
    return None


class Reading:
    """A stream as a client of one dialect reads it."""

    def __init__(self, dialect: str):
        self.dialect = dialect
        self.text, self.complete, self.begun = "", False, 0
        self.code: str | None = None
        self.broken: str | None = None

    def line(self, line: str) -> None:
        if not line.startswith("data:"):
            return
        data = line[5:].strip()
        if data == "[DONE]":
            # Penstock ends a chat so; a stream that failed must not have it.
            self.complete = self.dialect == "chat"
            return
        try:
            event = json.loads(data)
        except ValueError:
            self.broken = f"no JSON: {data[:80]}"
            return
        self.code = error_code(event) or self.code
        if self.dialect == "chat":
            for choice in event.get("choices", ()):
                self.begun += "role" in choice["delta"] and not choice["delta"].get("content")
                self.text += choice["delta"].get("content") or ""
        elif self.dialect == "messages":
            self.begun += event["type"] == "message_start"
            self.text += event.get("delta", {}).get("text", "") if event["type"] == "content_block_delta" else ""
            self.complete |= event["type"] == "message_stop"
        else:
            self.begun += event["type"] == "response.created"
            self.text += event["delta"] if event["type"] == "response.output_text.delta" else ""
            self.complete |= event["type"] == "response.completed"


def ask(port: int, key: str, dialect: str, model: str, text: str = "hello", stream: bool = False, **members: Any) -> Outcome:
    """Asks once, on a connection of its own, and reads to whatever end there is."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", PATHS[dialect], json.dumps(body_of(dialect, model, text, stream, **members)), {
            "content-type": "application/json", "authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"})
        reply = connection.getresponse()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        return read(reply, headers, dialect, began)


def read(reply: http.client.HTTPResponse, headers: dict[str, str], dialect: str, began: float) -> Outcome:
    reading = Reading(dialect)
    if headers["content-type"].startswith("text/event-stream"):
        try:
            for raw in reply:
                reading.line(raw.decode().rstrip("\r\n"))
        except (http.client.HTTPException, OSError) as error:
            reading.broken = repr(error)
    else:
        try:
            body = json.loads(reply.read())
            if reply.status == 200:
                reading.begun = 1
                reading.text, reading.complete = read_whole(dialect, body)
            else:
                reading.code = error_code(body)
        except (http.client.HTTPException, OSError, ValueError) as error:
            reading.broken = repr(error)
    return Outcome(reply.status, headers, reading.text, reading.complete, reading.code, reading.broken, reading.begun,
                   time.monotonic() - began)


class Rig:
    """Two scripted upstreams, `a` and `b`, and a gateway before them."""

    def __init__(self, folder: pathlib.Path, ports: dict[str, int] | None = None, timeouts: dict[str, str] | None = None,
                 **config: Any):
        """`ports` puts something between the gateway and a mock; `config` replaces sections of the configuration."""
        self.folder = folder
        self.mocks: dict[str, harness.Mock] = {}
        for name in ("a", "b"):
            (folder / name).mkdir()
            self.mocks[name] = harness.Mock(folder / name)
        self.given: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.env = {"KEY": harness.new_secret(), "ROOT": harness.new_secret(), "VENDOR": harness.UPSTREAM_SECRET}
        self.timeouts = {**TIMEOUTS, **(timeouts or {})}
        ports = {name: mock.port for name, mock in self.mocks.items()} | (ports or {})
        config = {"providers": self.providers(ports), "models": self.models(), **config}
        config["keys"] = [{"name": "caller", "key": "${KEY}", "scopes": ["*"]},
                          {"name": "root", "key": "${ROOT}", "scopes": ["admin:*"]}, *config.get("keys", [])]
        (folder / "gateway").mkdir()
        self.gateway = harness.Gateway(folder / "gateway", config, self.env)

    def providers(self, ports: dict[str, int]) -> dict[str, Any]:
        found = {}
        for name, port in ports.items():
            for kind in KINDS:
                path = "/v1beta" if kind == "gemini" else "/v1"
                found[f"{name}-{kind}"] = {"kind": kind, "base_url": f"http://127.0.0.1:{port}{path}",
                                           "api_key": "${VENDOR}", "timeouts": self.timeouts}
        return found

    def models(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        price = {"input": 1.5, "output": 6}
        for kind in KINDS:
            for n in range(MODELS):
                found[f"{kind}-{n}"] = {"provider": f"a-{kind}", "model": f"vendor-{n}", "price": price,
                                        "fallbacks": [f"{kind}-{n}-spare"]}
                found[f"{kind}-{n}-spare"] = {"provider": f"b-{kind}", "model": f"vendor-{n}", "price": price}
                found[f"{kind}-{n}-alone"] = {"provider": f"a-{kind}", "model": f"alone-{n}", "price": price}
        return found

    def close(self) -> None:
        self.gateway.kill()
        for mock in self.mocks.values():
            mock.kill()

    def model(self, kind: str, spare: bool = True) -> str:
        """A model that nobody has asked for yet."""
        n = self.given[kind]
        self.given[kind] = n + 1
        assert n < MODELS, "the rig has no more models of this kind; start another"
        return f"{kind}-{n}" if spare else f"{kind}-{n}-alone"

    def script(self, name: str, rules: list[Any] | None = None, **default: Any) -> None:
        """What a mock does from now on; its count begins again."""
        mock = self.mocks[name]
        harness.until(lambda: mock.stats()["in_flight"] == 0, "the upstream is idle", 20)
        harness.http("POST", f"{mock.url}/mock/reset")
        answer = {"text": ANSWER, **default}
        done = harness.http("POST", f"{mock.url}/mock/script", {"default": answer, "rules": rules or []})
        assert done.status == 200, done.text

    def calls(self, name: str) -> list[Any]:
        """The calls that a mock has seen to their end."""
        return list(harness.http("GET", f"{self.mocks[name].url}/mock/calls").json())

    def asked(self, name: str) -> int:
        """How many requests a mock was asked."""
        return int(self.mocks[name].stats()["requests"])

    def call(self, dialect: str, model: str, text: str = "hello", stream: bool = False, **members: Any) -> Outcome:
        return ask(self.gateway.port, self.env["KEY"], dialect, model, text, stream, **members)

    def record(self, id: str) -> Any:
        def found() -> Any:
            reply = self.gateway.get(f"/admin/v1/requests/{id}", self.env["ROOT"])
            return reply.json() if reply.status == 200 else None

        return harness.until(found, f"a record of {id}", 20)

    def settle(self, outcome: Outcome) -> Any:
        """After one request: its record agrees with what the client saw, every call that a vendor bills is an attempt of the
        record, and the tokens of each are the vendor's own or marked estimated."""
        record = self.record(outcome.id)
        for mock in self.mocks.values():
            harness.until(lambda: mock.stats()["in_flight"] == 0, "the upstream is idle", 20)
        assert record["attempts"] == len(record["tries"]), record
        if "penstock-attempts" in outcome.headers:
            assert record["attempts"] >= outcome.attempts, (record, outcome)
        assert (record["status"] == "ok") == (outcome.code is None and outcome.broken is None), (record, outcome)
        for name, mock in self.mocks.items():
            count = mock.stats()
            said = (count["prompt_tokens"], count["completion_tokens"])
            tries = [one for one in record["tries"] if one["provider"].startswith(f"{name}-")]
            told = [(one["tokens"]["input"], one["tokens"]["output"]) for one in tries if one["tokens"]]
            # A stream that begins with an error costs no prompt: it was refused.
            assert told or said[0] == 0, (name, "a call was billed that no attempt shows", record, said)
            if not any(one["estimated"] for one in tries):
                assert not told or tuple(map(sum, zip(*told))) == said, (name, record, said)
        shown = [one["tokens"] for one in record["tries"] if one["tokens"]]
        for part in ("input", "output"):
            assert (record["tokens"] or {part: 0})[part] == sum(one[part] for one in shown), record
        assert record["estimated"] == any(one["estimated"] for one in record["tries"]), record
        return record

    @contextlib.contextmanager
    def sdk(self, dialect: str) -> Iterator[Any]:
        """The official client of a dialect, without retries of its own."""
        plain: dict[str, Any] = {"api_key": self.env["KEY"], "max_retries": 0, "timeout": harness.PATIENCE}
        if dialect == "messages":
            with anthropic.Anthropic(base_url=self.gateway.url, **plain) as client:
                yield client
        else:
            with openai.OpenAI(base_url=f"{self.gateway.url}/v1", **plain) as client:
                yield client


# What an official client raises when something is wrong.
RAISED = (openai.APIError, anthropic.APIError)


def say(client: Any, dialect: str, model: str, text: str = "hello", stream: bool = False) -> str:
    """The answer as the official client of a dialect gives it; whatever it raises is raised."""
    if dialect == "messages":
        ask: dict[str, Any] = {"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": text}]}
        if not stream:
            return "".join(part.text for part in client.messages.create(**ask).content)
        with client.messages.stream(**ask) as running:
            return "".join(part.text for part in running.get_final_message().content)
    if dialect == "responses":
        if not stream:
            whole = client.responses.create(model=model, input=text, store=False)
            return failed_or(whole)
        for event in client.responses.create(model=model, input=text, store=False, stream=True):
            # This client hands `response.failed` to its user instead of raising; a user looks at it.
            if event.type == "response.failed":
                raise openai.APIError(event.response.error.message, request=None, body=None)  # type: ignore[arg-type]
            if event.type == "response.completed":
                return failed_or(event.response)
        raise openai.APIError("the stream ended without an end", request=None, body=None)  # type: ignore[arg-type]
    messages = [{"role": "user", "content": text}]
    if not stream:
        return client.chat.completions.create(model=model, messages=messages).choices[0].message.content or ""
    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def failed_or(response: Any) -> str:
    assert response.status == "completed", response
    return str(response.output_text)
