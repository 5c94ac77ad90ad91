"""The same request, sent twice, is done once: with duplicates at once, deaths in between, several callers, and by the SDKs."""

from __future__ import annotations

import json
import pathlib
import signal
import threading
import time
from typing import Any, Iterator

import pytest
from anthropic import Anthropic
from openai import OpenAI, UnprocessableEntityError

import harness
from postgres import Postgres, postgres  # noqa: F401: a fixture

PRICE = {"input": 1_000, "output": 1_000}
REPLAYED, ORIGINAL = "idempotent-replayed", "penstock-original-request-id"


class House:
    def __init__(self, folder: pathlib.Path):
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock", harness.suite_script())
        self.env = {"VENDOR": harness.UPSTREAM_SECRET, **{name: harness.new_secret() for name in ("ONE", "TWO", "ROOT")}}
        self.config: dict[str, Any] = {
            "providers": {
                "outer": {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"},
                "claude": {"kind": "anthropic", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"},
            },
            "models": {
                "m": {"provider": "outer", "model": "vendor-1", "price": PRICE},
                "c": {"provider": "claude", "model": "vendor-2", "price": PRICE},
            },
            "keys": [
                {"name": "one", "key": "${ONE}", "scopes": ["chat:*", "embeddings:*"]},
                {"name": "two", "key": "${TWO}", "scopes": ["chat:*"]},
                {"name": "root", "key": "${ROOT}", "scopes": ["role:admin"]},
            ],
            "idempotency": {"lease": "2s"},
        }
        self.gateway = harness.Gateway(folder / "gateway", self.config, self.env)

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def calls(self) -> int:
        """What the vendor was asked."""
        asked = harness.http("GET", f"{self.mock.url}/mock/requests").json()
        return sum(1 for request in asked if request["method"] == "POST")

    def ask(self, name: str, text: str = "say hello", key: str = "ONE", path: str = "/v1/chat/completions", **members: Any) -> harness.Reply:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **members}
        return self.gateway.post(path, body, self.env[key], idempotency_key=name)

    def admin(self, path: str, body: Any, name: str, key: str | None = None) -> harness.Reply:
        return self.gateway.post(f"/admin/v1{path}", body, key or self.env["ROOT"], idempotency_key=name)

    def spent(self) -> tuple[int, int]:
        """Requests and micro-dollars in the ledger."""
        rows = self.gateway.get("/admin/v1/spend?by=key", self.env["ROOT"]).json()["data"]
        return sum(row["requests"] for row in rows), sum(row["cost"]["micro_usd"] for row in rows)

    def recorded(self, code: str) -> int:
        return len(self.gateway.get(f"/admin/v1/requests?limit=100&code={code}", self.env["ROOT"]).json()["data"])


@pytest.fixture
def house(folder: pathlib.Path) -> Iterator[House]:
    house = House(folder)
    yield house
    assert "panicked" not in house.gateway.log()
    house.close()


def test_thirty_duplicates_at_once_are_one_call_and_one_charge(house: House) -> None:
    replies: list[harness.Reply] = []
    gate = threading.Barrier(30)

    def send() -> None:
        gate.wait()
        reply = house.ask("rush", mock={"text": "a b c", "latency_ms": 300})
        while reply.status == 409:
            assert reply.json()["error"]["code"] == "idempotency_in_progress"
            assert reply.headers["x-should-retry"] == "true" and int(reply.headers["retry-after"]) >= 1
            reply = house.ask("rush", mock={"text": "a b c", "latency_ms": 300})
        replies.append(reply)

    threads = [threading.Thread(target=send) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 30 and {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    fresh = [reply for reply in replies if REPLAYED not in reply.headers]
    assert len(fresh) == 1 and house.calls() == 1
    assert {reply.headers[ORIGINAL] for reply in replies if reply is not fresh[0]} == {fresh[0].headers["x-request-id"]}
    cost = round(float(fresh[0].headers["penstock-cost"]) * 1_000_000)
    assert cost > 0
    harness.until(lambda: house.spent()[1] >= cost, "the charge is in the ledger")
    assert house.spent()[1] == cost
    harness.until(lambda: house.recorded("replayed") == 29, "every answer of before has its record")
    assert house.recorded("ok") == 1


def test_after_kill_9_an_answer_of_before_is_still_there_and_what_was_running_runs_again(house: House) -> None:
    first = house.ask("kept")
    harness.in_background(lambda: house.ask("lost", mock={"hang": "before_headers"}))
    harness.until(lambda: house.calls() == 2, "the second call runs")
    house.gateway.signal(signal.SIGKILL)
    house.gateway.wait()
    house.gateway.restart()
    again = house.ask("kept")
    assert again.headers[REPLAYED] == "true" and again.body == first.body and house.calls() == 2
    # The lease of the dead one is over in two seconds; until then nothing else may have its name.
    seen: set[int] = set()

    def free() -> harness.Reply | None:
        reply = house.ask("lost")
        seen.add(reply.status)
        return reply if reply.status == 200 else None

    done = harness.until(free, "the lease runs out")
    assert seen <= {200, 422}
    assert REPLAYED not in done.headers and house.calls() == 3
    assert house.ask("lost").headers[REPLAYED] == "true"


def test_callers_are_apart_another_body_is_422_and_a_failure_is_done_again(house: House) -> None:
    assert REPLAYED not in house.ask("shared").headers
    assert REPLAYED not in house.ask("shared", key="TWO").headers
    assert house.calls() == 2
    other = house.ask("shared", "another question")
    assert (other.status, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    before = house.calls()
    for _ in range(2):
        harness.until(lambda: house.ask("fails", mock={"status": 400}).status == 400, "it is done again")
    assert house.calls() == before + 2
    harness.until(lambda: house.ask("fails").status == 200, "the name is free for another body")


@pytest.mark.parametrize(("path", "model"), [("/v1/chat/completions", "m"), ("/v1/messages", "m"), ("/v1/messages", "c"), ("/v1/responses", "m")])
def test_a_stream_is_given_again_event_for_event(house: House, path: str, model: str) -> None:
    members: dict[str, Any] = {"stream": True, "model": model}
    if path == "/v1/messages":
        members["max_tokens"] = 100
    if path == "/v1/responses":
        members["input"] = "say hello"
    first = house.ask("stream", path=path, **members)
    again = house.ask("stream", path=path, **members)
    assert first.status == again.status == 200, again.text
    assert again.headers[REPLAYED] == "true" and house.calls() == 1
    assert again.body == first.body and first.text.count("data:") > 3
    assert again.headers["content-type"] == first.headers["content-type"]


def test_a_stream_that_broke_is_not_kept(house: House) -> None:
    for number in (1, 2):
        reply = harness.until(
            lambda: (r := house.ask("broken", "[error-event]", stream=True)).status == 200 and r, "it is given back")
        assert REPLAYED not in reply.headers and "[DONE]" not in reply.text and house.calls() >= number


def test_embeddings_and_counts_are_kept_too(house: House) -> None:
    def post(path: str, body: Any) -> harness.Reply:
        return house.gateway.post(path, body, house.env["ONE"], idempotency_key="k")

    for path, body in [
        ("/v1/embeddings", {"model": "m", "input": "words"}),
        ("/v1/messages/count_tokens", {"model": "m", "messages": [{"role": "user", "content": "words"}]}),
    ]:
        first, again = post(path, body), post(path, body)
        assert first.status == 200, first.text
        assert again.body == first.body and again.headers[REPLAYED] == "true"


def test_a_made_key_is_shown_again_to_its_maker_alone_and_lies_nowhere_in_plain(house: House) -> None:
    ask = {"name": "robot", "scopes": ["chat:invoke"]}
    first = house.admin("/keys", ask, "make-robot-zebra")
    assert first.status == 201, first.text
    again = house.admin("/keys", ask, "make-robot-zebra")
    assert (again.status, again.body, again.headers[REPLAYED]) == (201, first.body, "true")
    secret = harness.find_key(first.text)
    assert house.gateway.chat(secret, "m").status == 200
    names = [row["name"] for row in house.gateway.get("/admin/v1/keys", house.env["ROOT"]).json()["data"]]
    assert names.count("robot") == 1
    reused = house.admin("/keys", {**ask, "name": "other"}, "make-robot-zebra")
    assert (reused.status, reused.json()["code"]) == (422, "idempotency_key_reused")
    assert house.admin("/keys", ask, "make-robot-zebra", house.env["ONE"]).status == 403
    assert house.admin("/keys", ask, "another").status == 409, "the name is taken, and that is not kept"
    identity = first.json()["id"]
    rotated = [house.admin(f"/keys/{identity}/rotate", {}, "rotate") for _ in range(2)]
    assert rotated[0].status == 200 and rotated[0].body == rotated[1].body
    assert REPLAYED in rotated[1].headers
    audit = house.gateway.get("/admin/v1/audit?limit=100", house.env["ROOT"]).json()["data"]
    assert [row["action"] for row in audit].count("key.create") == 1
    assert "answer.replay" in {row["action"] for row in audit}, "a secret was shown again, and that is noted"
    folder = pathlib.Path(house.gateway.config["data_dir"])
    house.ask("ask-giraffe", "walrus", mock={"text": "ocelot"})
    data = b"".join(path.read_bytes() for path in folder.glob("idempotency.db*"))
    assert len(data) > 4096
    for word in (secret, harness.find_key(rotated[0].text), "zebra", "giraffe", "walrus", "ocelot", "robot"):
        assert word.encode() not in data, "the store can be read"


def test_a_key_that_may_no_longer_ask_gets_no_answer_of_before(house: House) -> None:
    made = house.admin("/keys", {"name": "brief", "scopes": ["chat:invoke"]}, "a").json()
    key = harness.find_key(json.dumps(made))
    house.env["BRIEF"] = key
    assert house.ask("k", key="BRIEF").status == 200
    assert house.ask("k", key="BRIEF").headers[REPLAYED] == "true"
    # A rotated key is the same caller.
    house.env["BRIEF"] = harness.find_key(house.admin(f"/keys/{made['id']}/rotate", {}, "b").text)
    assert house.ask("k", key="BRIEF").headers[REPLAYED] == "true"
    assert house.admin(f"/keys/{made['id']}/revoke", {}, "c").status == 200
    assert house.ask("k", key="BRIEF").status == 401
    # A scope that was taken away, in the file.
    assert house.ask("k").status == 200
    config = {**house.gateway.config}
    config["keys"] = [{**key, "scopes": ["embeddings:*"]} if key["name"] == "one" else key for key in config["keys"]]
    house.gateway.write(config)
    house.gateway.signal(signal.SIGHUP)
    refused = harness.until(lambda: (r := house.ask("k")).status == 403 and r, "the scope is gone")
    assert refused.json()["error"]["code"] == "insufficient_scope"


def test_the_openai_sdk_retries_into_the_answer_of_its_first_attempt(house: House) -> None:
    with OpenAI(base_url=f"{house.gateway.url}/v1", api_key=house.env["ONE"], max_retries=4, timeout=30) as sdk:
        def ask(text: str = "hello") -> Any:
            return sdk.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": text}], extra_headers={"Idempotency-Key": "sdk-1"},
                extra_body={"mock": {"text": "done once", "latency_ms": 900}})

        thread, box = harness.in_background(ask)
        harness.until(lambda: house.calls() == 1, "the first attempt runs")
        # Meets 409 and comes again by itself.
        again = ask()
        thread.join()
        assert again.headers[REPLAYED] == "true" and house.calls() == 1
        assert again.parse().choices[0].message.content == box[0].parse().choices[0].message.content == "done once"
        with pytest.raises(UnprocessableEntityError) as caught:
            ask("another question")
        assert caught.value.code == "idempotency_key_reused"


def test_the_anthropic_sdk_gets_a_stream_again(house: House) -> None:
    with Anthropic(base_url=house.gateway.url, api_key=house.env["ONE"], max_retries=4) as sdk:
        texts = []
        for _ in range(2):
            with sdk.messages.stream(
                model="c", max_tokens=50, messages=[{"role": "user", "content": "say hello"}],
                extra_headers={"Idempotency-Key": "sdk-2"},
            ) as stream:
                texts.append("".join(stream.text_stream))
        assert texts[0] == texts[1] != "" and house.calls() == 1


def test_a_client_that_left_finds_nothing_kept_and_runs_again(house: House) -> None:
    with pytest.raises(OSError):
        harness.http("POST", f"{house.gateway.url}/v1/chat/completions",
                     {"model": "m", "messages": [{"role": "user", "content": "hi"}], "mock": {"hang": "before_headers"}},
                     {"authorization": f"Bearer {house.env['ONE']}", "idempotency-key": "left"}, timeout=1)
    began = time.monotonic()
    done = harness.until(lambda: (r := house.ask("left")).status == 200 and r, "the key is given back")
    assert REPLAYED not in done.headers
    assert time.monotonic() - began < 60


def test_two_gateways_on_one_database_do_it_once_and_one_outlives_the_other(
    folder: pathlib.Path, postgres: Postgres, spawn: Any,
) -> None:
    mock = spawn(harness.Mock(folder, harness.suite_script()))
    env = {"VENDOR": harness.UPSTREAM_SECRET, "ONE": harness.new_secret(), "PEPPER": "ab" * 32,
           "DATABASE": postgres.url(postgres.create())}
    config = {
        "providers": {"outer": {"kind": "openai", "base_url": f"{mock.url}/v1", "api_key": "${VENDOR}"}},
        "models": {"m": {"provider": "outer", "model": "vendor-1", "price": PRICE}},
        "keys": [{"name": "one", "key": "${ONE}", "scopes": ["chat:*"]}],
        "stores": {"database": "${DATABASE}"},
        "auth": {"pepper": "${PEPPER}"},
    }
    gateways = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        gateways.append(spawn(harness.Gateway(folder / name, config, env)))

    def calls() -> int:
        asked = harness.http("GET", f"{mock.url}/mock/requests").json()
        return sum(1 for request in asked if request["method"] == "POST")

    def ask(gateway: harness.Gateway, name: str, **members: Any) -> harness.Reply:
        body = {"model": "m", "messages": [{"role": "user", "content": "say hello"}], **members}
        return gateway.post("/v1/chat/completions", body, env["ONE"], idempotency_key=name)

    replies: list[harness.Reply] = []
    gate = threading.Barrier(8)

    def send(gateway: harness.Gateway) -> None:
        gate.wait()
        replies.append(harness.until(
            lambda: (r := ask(gateway, "both", mock={"latency_ms": 300})).status == 200 and r, "an answer"))

    threads = [threading.Thread(target=send, args=(gateways[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 8 and len({reply.body for reply in replies}) == 1 and calls() == 1
    assert sum(REPLAYED not in reply.headers for reply in replies) == 1
    gateways[0].signal(signal.SIGKILL)
    gateways[0].wait()
    again = ask(gateways[1], "both", mock={"latency_ms": 300})
    assert again.headers[REPLAYED] == "true" and calls() == 1
