"""Several candidates behind one name, from outside: who is asked, what the client sees, what is on the record."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Iterator

import pytest

import harness

PRICE = {"input": 1, "output": 2}
SAID = ("The river rises in the hills above the old town, runs through seven villages and three lakes, "
        "and then it widens until nobody can see the other bank any more, which is where the story ends.")
REST = " Nobody has ever asked for more."


class House:
    def __init__(self, folder: pathlib.Path):
        for name in ("a", "b", "gateway"):
            (folder / name).mkdir()
        self.a = harness.Mock(folder / "a")
        self.b = harness.Mock(folder / "b")
        env = {"VENDOR": harness.UPSTREAM_SECRET, "CALLER": harness.new_secret(), "BOUND": harness.new_secret(),
               "READER": harness.new_secret()}
        self.keys = env
        one = {"kind": "openai", "base_url": f"{self.a.url}/v1", "api_key": "${VENDOR}", "region": "us"}
        two = {"kind": "anthropic", "base_url": self.b.url, "api_key": "${VENDOR}", "region": "eu"}

        def model(**more: Any) -> dict[str, Any]:
            return {"provider": "one", "model": "m", "price": PRICE, **more}

        self.config: dict[str, Any] = {
            "providers": {"one": one, "two": two, "tight": {**one, "max_concurrency": 1}},
            "models": {
                "plain": model(fallbacks=["spare"]),
                # One for each test: what one teaches the gateway of a target says nothing about the next.
                **{f"lasting-{name}": {**model(fallbacks=["spare"], failover={"resume": True}), "model": name}
                   for name in ("chat", "messages", "responses", "other")},
                "bounded": model(max_output_tokens=7),
                "usual": model(default_output_tokens=5),
                "alone": model(),
                "narrow": {**model(fallbacks=["spare"]), "provider": "tight"},
                "spare": {"provider": "two", "model": "n", "price": PRICE},
            },
            "keys": [
                {"name": "caller", "key": "${CALLER}", "scopes": ["chat:*"]},
                {"name": "bound", "key": "${BOUND}", "scopes": ["chat:*"], "limits": {"max_output_tokens": 3}},
                {"name": "reader", "key": "${READER}", "scopes": ["admin:read"]},
            ],
        }
        self.gateway = harness.Gateway(folder / "gateway", self.config, env)

    def close(self) -> None:
        for process in (self.gateway, self.a, self.b):
            process.kill()

    def script(self, mock: harness.Mock, **directives: Any) -> None:
        assert harness.http("POST", f"{mock.url}/mock/script", {"default": directives}).status < 300

    def stream(self, model: str, **headers: str) -> tuple[str, list[str], str | None, str]:
        """The text, the comments, the code of the error that ended it, and the request's id."""
        body = {"model": model, "messages": [{"role": "user", "content": "Where does it end?"}], "stream": True}
        reply = self.gateway.post("/v1/chat/completions", body, self.keys["CALLER"], **headers)
        assert reply.status == 200, reply.text
        said, comments, code, done = "", [], None, False
        for line in reply.text.splitlines():
            if line.startswith(":"):
                comments.append(line)
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                done = True
                continue
            event = json.loads(data)
            if "error" in event:
                code = event["error"]["code"]
                continue
            said += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        assert done == (code is None), "an answer ends whole, or says that it did not"
        return said, comments, code, reply.headers["x-request-id"]

    def record(self, id: str) -> Any:
        read = lambda: self.gateway.get(f"/admin/v1/requests/{id}", self.keys["READER"])
        return harness.until(lambda: (reply := read()).status == 200 and reply.json(), "the record is kept")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("failover") as folder:
        house = House(folder)
        try:
            yield house
        finally:
            house.close()


def test_a_text_that_breaks_off_is_continued_by_a_vendor_of_another_dialect(house: House) -> None:
    house.script(house.a, text=SAID, cut="fin", cut_at_event=45)
    house.script(house.b, text="It must not be asked.")
    before = house.b.stats()["requests"]
    said, comments, code, _ = house.stream("lasting-chat", penstock_resume="off")
    assert SAID.startswith(said) and 80 < len(said) < len(SAID)
    assert (comments, code) == ([], "upstream_stream_cut")
    assert house.b.stats()["requests"] == before, "the asker did not want it"

    anchor = said[-60:].lstrip()
    house.script(house.b, text=anchor + SAID[len(said):] + REST)
    whole, comments, code, id = house.stream("lasting-chat")
    assert (whole, code) == (SAID + REST, None)
    assert comments == [": penstock-resumed"]
    record = house.record(id)
    assert [(one["why"], one["provider"], one["code"]) for one in record["tries"]] == [
        ("first", "one", "upstream_stream_cut"), ("resume", "two", "ok")]
    costs = [one["cost"]["micro_usd"] for one in record["tries"]]
    assert all(costs) and record["cost"]["micro_usd"] == sum(costs)
    assert record["estimated"] and record["tries"][0]["estimated"]
    explained = harness.cli("explain", id, "--config", str(house.gateway.path), folder=house.gateway.folder,
                            env=house.keys)
    assert "resume" in explained.stdout and "upstream_stream_cut" in explained.stdout, explained.stdout


@pytest.mark.parametrize("dialect", ["messages", "responses"])
def test_a_continued_text_is_one_answer_in_every_dialect(house: House, dialect: str) -> None:
    house.script(house.a, text=SAID, cut="fin", cut_at_event=45)
    body: dict[str, Any] = {"model": f"lasting-{dialect}", "stream": True}
    if dialect == "messages":
        body |= {"max_tokens": 500, "messages": [{"role": "user", "content": "Where does it end?"}]}
        piece, text = "content_block_delta", lambda event: event["delta"].get("text", "")
    else:
        body |= {"input": "Where does it end?", "store": False}
        piece, text = "response.output_text.delta", lambda event: event["delta"]

    def ask(**headers: str) -> tuple[str, list[dict[str, Any]], str]:
        reply = house.gateway.post(f"/v1/{dialect}", body, house.keys["CALLER"], **headers)
        assert reply.status == 200, reply.text
        events = [json.loads(line[5:]) for line in reply.text.splitlines() if line.startswith("data:")]
        return "".join(text(event) for event in events if event["type"] == piece), events, reply.text

    broken, events, _ = ask(penstock_resume="off")
    assert events[-1]["type"] == ("error" if dialect == "messages" else "response.failed")
    house.script(house.b, text=broken[-60:].lstrip() + SAID[len(broken):] + REST)
    said, events, raw = ask()
    assert said == SAID + REST
    assert raw.count(": penstock-resumed\n\n") == 1
    kinds = [event["type"] for event in events]
    if dialect == "messages":
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "error" not in kinds
        assert kinds.count("message_start") == kinds.count("content_block_start") == 1
    else:
        assert kinds[-1] == "response.completed" and kinds.count("response.created") == 1
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == SAID + REST


def test_a_continuation_that_says_something_else_is_not_shown(house: House) -> None:
    house.script(house.a, text=SAID, cut="fin", cut_at_event=45)
    house.script(house.b, text="Sorry, where was I? The river ends in the sea.")
    said, comments, code, _ = house.stream("lasting-other")
    assert SAID.startswith(said) and (comments, code) == ([], "upstream_stream_cut")


def test_more_tokens_than_model_or_key_allow_are_cut_and_told(house: House) -> None:
    house.script(house.a, tokens=50)
    ask = lambda key, model, **more: house.gateway.chat(house.keys[key], model, **more)
    for key, model, asked, bound in (("CALLER", "bounded", 500, 7), ("BOUND", "bounded", 500, 3), ("CALLER", "bounded", 4, None)):
        reply = ask(key, model, max_tokens=asked)
        assert reply.status == 200, reply.text
        told = f"max_tokens={bound}" if bound else None
        assert reply.headers.get("penstock-clamped-params") == told
        assert reply.json()["usage"]["completion_tokens"] == (bound or asked)
    reply = ask("CALLER", "usual")
    assert reply.json()["usage"]["completion_tokens"] == 5 and "penstock-clamped-params" not in reply.headers


def test_a_provider_with_as_many_calls_as_it_may_have_is_followed_by_the_next(house: House) -> None:
    house.script(house.a, text="slow", first_token_ms=3000)
    house.script(house.b, text="next")
    before = house.a.stats()["requests"]
    slow, box = harness.in_background(lambda: house.gateway.chat(house.keys["CALLER"], "narrow"))
    harness.until(lambda: house.a.stats()["requests"] > before, "the first call is under way")
    reply = house.gateway.chat(house.keys["CALLER"], "narrow")
    assert reply.json()["choices"][0]["message"]["content"] == "next"
    assert house.a.stats()["requests"] == before + 1, "the full provider was not called"
    tries = house.record(reply.headers["x-request-id"])["tries"]
    assert [(one["provider"], one["code"]) for one in tries] == [("two", "ok")], "a full provider costs no attempt"
    slow.join(harness.PATIENCE)
    assert box[0].json()["choices"][0]["message"]["content"] == "slow"


def test_a_region_is_never_left_and_the_refusal_says_why(house: House) -> None:
    house.script(house.a, text="from the us")
    house.script(house.b, text="from the eu")
    calls = lambda: (house.a.stats()["requests"], house.b.stats()["requests"])
    before = calls()
    refused = house.gateway.chat(house.keys["CALLER"], "alone", penstock={"residency": ["eu"]})
    assert (refused.status, refused.json()["error"]["code"]) == (403, "data_residency_mismatch")
    assert "alone" in refused.json()["error"]["message"] and "eu" in refused.json()["error"]["message"]
    assert calls() == before, "nobody was called"
    reply = house.gateway.chat(house.keys["CALLER"], "plain", penstock={"residency": ["eu"]})
    assert reply.json()["choices"][0]["message"]["content"] == "from the eu"
    assert (calls()[0] - before[0], reply.headers["penstock-attempts"]) == (0, "1")
    body = {"model": "plain", "max_tokens": 20, "inference_geo": "eu", "messages": [{"role": "user", "content": "hi"}]}
    reply = house.gateway.post("/v1/messages", body, house.keys["CALLER"])
    assert reply.json()["content"][0]["text"] == "from the eu" and calls()[0] == before[0]


def test_health_is_shown_by_the_admin_api_and_by_metrics(house: House) -> None:
    house.script(house.a, text="fine")
    assert house.gateway.chat(house.keys["CALLER"], "alone").status == 200
    shown = house.gateway.get("/admin/v1/providers", house.keys["READER"])
    one = next(row for row in shown.json()["data"] if row["name"] == "one")
    target = next(target for target in one["targets"] if target["model"] == "m")
    assert target["state"] in ("healthy", "returning", "ejected") and target["in_flight"] == 0
    assert house.gateway.get("/admin/v1/providers", house.keys["CALLER"]).status == 403
    metrics = house.gateway.get("/metrics").text
    assert 'penstock_attempts_total{provider="one",why="first",code="ok"}' in metrics
    assert 'penstock_target_state{provider="one",credential="0",model="m"' in metrics
