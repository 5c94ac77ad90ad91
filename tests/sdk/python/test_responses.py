"""Responses as the SDK's users do it: answers, streams, tools, images, structured output, and what was said before."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import harness

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
# In process, in the vendor's own dialect, and translated for two that speak another one.
everywhere = pytest.mark.parametrize("model", ["mock", "upstream", "messages", "chats"])
# Those that go over the wire.
outside = pytest.mark.parametrize("model", ["upstream", "messages", "chats"])
# One black pixel.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def say(model: str, name: str, *before: Any, **members: Any) -> dict[str, Any]:
    """The members of a request that is answered by one of `harness.SCRIPTS`; `before` are items of its input."""
    ask: dict[str, Any] = {"model": model, "input": [*before, {"role": "user", "content": f"[{name}]"}]}
    if model == "mock":
        ask["extra_body"] = {"mock": harness.SCRIPTS[name]}
    return {**ask, **members}


def texts(seen: dict[str, Any]) -> list[tuple[str, str]]:
    """Who said what, in the request that a vendor received, in whichever dialect."""
    said = []
    for message in seen["json"].get("messages") or seen["json"]["input"]:
        content = message.get("content") or ""
        parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        said.append((message["role"], "".join(parts)))
    return said


def code(error: Any) -> str:
    return error.value.body["code"]


@everywhere
def test_a_whole_answer_is_a_response_and_can_be_read_again(client: OpenAI, model: str) -> None:
    answer = client.responses.create(**say(model, "naive", instructions="be brief", metadata={"a": "b"}))
    assert (answer.object, answer.status, answer.error, answer.store) == ("response", "completed", None, True)
    assert answer.id.startswith("resp_") and answer.created_at > 0 and answer.model
    assert answer.output_text == harness.SCRIPTS["naive"]["text"]
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    # What a vendor of this dialect repeats is its own affair.
    assert model == "upstream" or (answer.instructions, answer.metadata) == ("be brief", {"a": "b"})
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 3
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()


@everywhere
def test_a_text_is_input_enough(client: OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="say hello")
    assert answer.output_text


@everywhere
def test_the_events_of_a_stream_come_in_order_and_end_with_what_is_stored(client: OpenAI, model: str) -> None:
    events = list(client.responses.create(stream=True, **say(model, "naive")))
    kinds = [event.type for event in events]
    pieces = kinds.count("response.output_text.delta")
    assert pieces > 3, "the answer came in one piece: that is no stream"
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * pieces, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == harness.SCRIPTS["naive"]["text"]
    final = events[-1].response
    assert events[0].response.id == final.id
    assert (final.status, final.store) == ("completed", True)
    assert client.responses.retrieve(final.id).to_dict() == final.to_dict()


@everywhere
def test_the_sdks_stream_helper_adds_up_to_the_whole_answer(client: OpenAI, model: str) -> None:
    whole = client.responses.create(**say(model, "naive"))
    with client.responses.stream(**say(model, "naive")) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert final.usage is not None and whole.usage is not None
    assert final.usage.to_dict() == whole.usage.to_dict()


@everywhere
def test_tool_calls_arrive_whole_and_in_a_stream(client: OpenAI, model: str) -> None:
    ask = say(model, "both", tools=[WEATHER, {**WEATHER, "name": "get_time"}], parallel_tool_calls=True)
    whole = client.responses.create(**ask)
    with client.responses.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds
    for answer in (whole, streamed):
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", {"city": "Paris"}), ("get_time", {})]
        assert len({call.call_id for call in calls}) == 2
        assert answer.status == "completed"


@outside
def test_a_tool_loop_goes_on_from_what_is_stored(client: OpenAI, model: str, seen: Any) -> None:
    first = client.responses.create(**say(model, "weather", tools=[WEATHER]))
    [call] = [item for item in first.output if item.type == "function_call"]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny, 21 degrees"}
    second = client.responses.create(**say(model, "short", result, tools=[WEATHER], previous_response_id=first.id))
    assert second.output_text == harness.SCRIPTS["short"]["text"]
    assert second.previous_response_id == first.id
    sent = json.dumps(seen()["json"])
    assert sent.index("[weather]") < sent.index(call.call_id) < sent.index("sunny, 21 degrees") < sent.index("[short]")


@outside
def test_a_coding_agents_loop_needs_no_state(client: OpenAI, model: str, seen: Any) -> None:
    """As Codex asks: everything in each request, nothing stored, reasoning carried sealed, freeform tools, events."""
    agent: Any = {
        "instructions": "You are a coding agent.", "store": False, "stream": True, "tool_choice": "auto",
        "parallel_tool_calls": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "session-1",
        "reasoning": {"effort": "medium", "summary": "auto"},
        "tools": [WEATHER, {"type": "custom", "name": "apply_patch", "description": "Edits files", "format": {"type": "text"}},
                  {"type": "local_shell"}],
    }
    history: list[Any] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what is it like in Paris?"}]}]
    finals = []
    for name, result in (("weather", "sunny"), ("short", None)):
        events = list(client.responses.create(**say(model, name, *history, **agent)))
        assert [event.type for event in events][-1] == "response.completed"
        final = events[-1].response
        assert final.store is False
        finals.append(final)
        history += [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"[{name}]"}]}]
        for item in final.output:
            history.append(item.to_dict())
            if item.type == "function_call":
                history.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
    assert [item.type for item in finals[0].output][-1] == "function_call"
    assert finals[1].output_text == harness.SCRIPTS["short"]["text"]
    sent = json.dumps(seen()["json"])
    assert "You are a coding agent." in sent and "sunny" in sent
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(finals[0].id)


@outside
def test_images_reach_the_vendor(client: OpenAI, model: str, seen: Any) -> None:
    picture: Any = [{"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": PIXEL, "detail": "auto"}]
    answer = client.responses.create(model=model, input=[{"role": "user", "content": picture}])
    assert answer.output_text
    assert PIXEL.split(",")[1] in json.dumps(seen()["json"])


class Forecast(BaseModel):
    city: str
    days: list[int]


@everywhere
def test_structured_output_is_parsed_by_the_sdk(client: OpenAI, model: str) -> None:
    answer = client.responses.parse(text_format=Forecast, **say(model, "forecast"))
    assert answer.output_parsed == Forecast(city="Paris", days=[1, 2])
    with client.responses.stream(text_format=Forecast, **say(model, "forecast")) as stream:
        streamed = stream.get_final_response() if list(stream) else None
    assert streamed is not None and streamed.output_parsed == Forecast(city="Paris", days=[1, 2])


@everywhere
def test_too_short_a_bound_makes_an_incomplete_response(client: OpenAI, model: str) -> None:
    whole = client.responses.create(**say(model, "many", max_output_tokens=3))
    events = list(client.responses.create(stream=True, **say(model, "many", max_output_tokens=3)))
    assert events[-1].type == "response.incomplete"
    for answer in (whole, events[-1].response):
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None and answer.incomplete_details.reason == "max_output_tokens"
        assert client.responses.retrieve(answer.id).status == "incomplete"


@outside
def test_a_conversation_goes_on_branches_and_forgets_instructions(client: OpenAI, model: str, seen: Any) -> None:
    first = client.responses.create(**say(model, "short", instructions="answer like a pirate"))
    assert "answer like a pirate" in json.dumps(seen()["json"])
    second = client.responses.create(**say(model, "naive", previous_response_id=first.id))
    other = client.responses.create(**say(model, "many", previous_response_id=first.id, stream=True))
    [done] = [event.response for event in other if event.type == "response.completed"]
    third = client.responses.create(**say(model, "short", previous_response_id=second.id))
    said = texts(seen())
    assert said == [
        ("user", "[short]"), ("assistant", harness.SCRIPTS["short"]["text"]),
        ("user", "[naive]"), ("assistant", harness.SCRIPTS["naive"]["text"]), ("user", "[short]")]
    assert "answer like a pirate" not in json.dumps(seen()["json"]), "instructions are not carried over"
    client.responses.create(**say(model, "short", previous_response_id=done.id))
    assert ("user", "[naive]") not in texts(seen()), "the other branch was not said here"
    assert third.previous_response_id == second.id


@everywhere
def test_input_items_are_everything_that_was_asked(client: OpenAI, model: str) -> None:
    first = client.responses.create(**say(model, "short"))
    second = client.responses.create(**say(model, "naive", {"role": "user", "content": "well"}, previous_response_id=first.id))
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.content[0].text for item in items] == ["[short]", harness.SCRIPTS["short"]["text"], "well", "[naive]"]
    assert [item.role for item in items] == ["user", "assistant", "user", "user"]
    assert len({item.id for item in items}) == 4
    page = client.responses.input_items.list(second.id, limit=2)
    assert [item.content[0].text for item in page.data] == ["[naive]", "well"]
    assert page.has_more


@everywhere
def test_items_can_be_named_instead_of_sent_again(client: OpenAI, model: str) -> None:
    first = client.responses.create(**say(model, "short"))
    named: Any = {"type": "item_reference", "id": first.output[0].id}
    second = client.responses.create(**say(model, "naive", named))
    [before, _] = client.responses.input_items.list(second.id, order="asc").data
    assert (before.role, before.content[0].text) == ("assistant", harness.SCRIPTS["short"]["text"])


@everywhere
def test_a_stored_response_is_replayed(client: OpenAI, model: str) -> None:
    live = list(client.responses.create(stream=True, **say(model, "naive")))
    final = live[-1].response
    events = list(client.responses.retrieve(final.id, stream=True))
    assert events[-1].response.to_dict() == final.to_dict()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    rest = list(client.responses.retrieve(final.id, stream=True, starting_after=3))
    assert [event.sequence_number for event in rest] == list(range(4, len(events)))


@everywhere
def test_a_deleted_response_is_gone(client: OpenAI, model: str) -> None:
    answer = client.responses.create(**say(model, "short"))
    client.responses.delete(answer.id)
    for again in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list, client.responses.cancel):
        with pytest.raises(openai.NotFoundError) as caught:
            again(answer.id)
        assert code(caught) == "not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**say(model, "short", previous_response_id=answer.id))
    assert (code(refused), refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_the_responses_of_another_key_do_not_exist(client: OpenAI, gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    mine = client.responses.create(**say("mock", "short"))
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["SLOW_KEY"], max_retries=0) as other:
        with pytest.raises(openai.NotFoundError) as caught:
            other.responses.retrieve(mine.id)
        assert code(caught) == "not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            other.responses.create(**say("mock", "short", previous_response_id=mine.id))
        assert code(refused) == "previous_response_not_found"
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["NARROW_KEY"], max_retries=0) as narrow:
        own = narrow.responses.create(**say("mock", "short"))
        narrow.responses.create(**say("mock", "short", previous_response_id=own.id))
        with pytest.raises(openai.PermissionDeniedError) as denied:
            narrow.responses.retrieve(own.id)
        assert code(denied) == "insufficient_scope"
    assert client.responses.retrieve(mine.id).id == mine.id


@pytest.mark.parametrize(("members", "kind", "code_", "param"), [
    ({"model": "nothing"}, openai.NotFoundError, "model_not_found", "model"),
    ({"previous_response_id": "resp_nothing"}, openai.BadRequestError, "previous_response_not_found", "previous_response_id"),
    ({"background": True}, openai.BadRequestError, "unsupported", "background"),
    ({"conversation": "conv_1"}, openai.BadRequestError, "unsupported", "conversation"),
    ({"temperature": 3}, openai.BadRequestError, "invalid_value", "temperature"),
])
def test_a_bad_request_names_its_member(client: OpenAI, members: dict[str, Any], kind: Any, code_: str, param: str) -> None:
    with pytest.raises(kind) as caught:
        client.responses.create(**{"model": "mock", "input": "x", **members})
    assert (code(caught), caught.value.param) == (code_, param)
    assert caught.value.request_id.startswith("req_")


@outside
def test_a_vendors_refusal_is_the_sdks_exception_and_nothing_is_stored(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.responses.create(**say(model, "limited"))
    assert code(caught) == "upstream_rate_limited"
    with pytest.raises(openai.APIStatusError):
        client.responses.create(stream=True, **say(model, "broken"))


@outside
def test_a_stream_that_breaks_ends_as_failed_and_is_stored_so(client: OpenAI, model: str) -> None:
    # Before its first content a vendor's failure is an HTTP error, and where that is differs by dialect.
    events = list(client.responses.create(stream=True, **say(model, "error-event" if model == "chats" else "no-end")))
    assert events[-1].type == "response.failed"
    failed = events[-1].response
    assert failed.status == "failed" and failed.error is not None and failed.error.code
    assert client.responses.retrieve(failed.id).status == "failed"


def test_a_stream_that_is_left_is_not_stored(client: OpenAI, mock: harness.Mock) -> None:
    before = mock.stats()["streams_aborted"]
    with client.responses.create(stream=True, **say("upstream", "slow")) as stream:
        begun = next(iter(stream)).response
        next(event for event in stream if event.type == "response.output_text.delta")
    harness.until(lambda: mock.stats()["streams_aborted"] > before, "the upstream call ends with the client")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(begun.id)


def test_the_headers_of_the_contract_are_there(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(**say("upstream", "short"))
    for name in ("x-request-id", "penstock-model", "penstock-provider", "penstock-attempts", "server-timing"):
        assert raw.headers.get(name), name
    lost = client.responses.with_raw_response.create(**say("chats", "short", tools=[{"type": "web_search"}]))
    assert "tools" in lost.headers["penstock-dropped-params"]


async def test_the_asynchronous_client_does_all_of_it(aclient: AsyncOpenAI) -> None:
    first = await aclient.responses.create(**say("upstream", "short"))
    stream = await aclient.responses.create(stream=True, **say("upstream", "naive", previous_response_id=first.id))
    events = [event async for event in stream]
    final = events[-1].response
    assert final.output_text == harness.SCRIPTS["naive"]["text"]
    assert (await aclient.responses.retrieve(final.id)).to_dict() == final.to_dict()
    items = [item async for item in aclient.responses.input_items.list(final.id, order="asc", limit=2)]
    assert [item.role for item in items] == ["user", "assistant", "user"]
    parsed = await aclient.responses.parse(text_format=Forecast, **say("upstream", "forecast"))
    assert parsed.output_parsed == Forecast(city="Paris", days=[1, 2])
    async with aclient.responses.stream(**say("upstream", "weather", tools=[WEATHER])) as helper:
        async for _ in helper:
            pass
        [call] = (await helper.get_final_response()).output
    assert call.type == "function_call"
    await aclient.responses.delete(final.id)
    with pytest.raises(openai.NotFoundError):
        await aclient.responses.retrieve(final.id)


def test_the_embedded_model_remembers(client: OpenAI) -> None:
    ask: Any = {"model": "small", "temperature": 0, "max_output_tokens": 32}
    first = client.responses.create(input="What is the capital of France?", **ask)
    assert "Paris" in first.output_text
    events = list(client.responses.create(input="And what did I ask before?", previous_response_id=first.id, stream=True, **ask))
    final = events[-1].response
    assert len([event for event in events if event.type == "response.output_text.delta"]) >= 3
    assert final.usage is not None and first.usage is not None
    assert final.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens, "the model read what was said"
    assert client.responses.retrieve(final.id).output_text == final.output_text


def on_disk(folder: pathlib.Path, word: str) -> list[str]:
    """Files of a data folder that hold a word."""
    return [path.name for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


@everywhere
def test_tokens_are_counted_without_an_answer(client: OpenAI, model: str, mock: harness.Mock) -> None:
    ask: Any = {"instructions": "Be kind.", "tools": [WEATHER]}
    raw = client.responses.input_tokens.with_raw_response.count(model=model, input="hello", **ask)
    count = raw.parse()
    assert (count.object, count.input_tokens > 2) == ("response.input_tokens", True)
    # Anthropic's API counts, and so does the scripted provider; for others at foreign addresses the gateway estimates.
    estimated = None if model in ("mock", "messages") else "tokens"
    assert raw.headers.get("penstock-estimated") == estimated
    more = client.responses.input_tokens.count(model=model, input="hello " * 40, **ask)
    assert more.input_tokens > count.input_tokens


def test_a_count_counts_what_was_said_before(client: OpenAI) -> None:
    kept = client.responses.create(**say("upstream", "naive", instructions="be brief"))
    alone = client.responses.input_tokens.count(model="upstream", input="go on")
    after = client.responses.input_tokens.count(model="upstream", input="go on", previous_response_id=kept.id)
    assert after.input_tokens > alone.input_tokens
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_tokens.count(model="upstream", input="x", previous_response_id="resp_none")
    assert code(caught) == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_tokens.count(model="upstream", input=[])
    assert refused.value.param == "input"


def test_only_what_is_stored_is_at_rest(mock: harness.Mock, folder: pathlib.Path, spawn: Any) -> None:
    config, env = harness.suite_config(mock, None, local=False)
    gateway = spawn(harness.Gateway(folder, config, env))
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=env["SUITE_KEY"], max_retries=0) as sdk:
        for stream in (False, True):
            answer = sdk.responses.create(model="upstream", input="zanzibar-7f3a [short]", store=False, stream=stream)
            assert not stream or [event for event in answer][-1].response.store is False
        assert on_disk(folder / "data", "zanzibar-7f3a") == []
        kept = sdk.responses.create(model="upstream", input="zanzibar-7f3a [short]")
        assert {name.split("-")[0] for name in on_disk(folder / "data", "zanzibar-7f3a")} == {"responses.db"}
        assert gateway.stop() == 0
    gateway.restart()
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=env["SUITE_KEY"], max_retries=0) as sdk:
        assert sdk.responses.retrieve(kept.id).to_dict() == kept.to_dict(), "it outlives the process"
        assert 'penstock_responses_total{outcome="stored"}' not in gateway.get("/metrics").text
        sdk.responses.create(model="upstream", input="again", previous_response_id=kept.id)
        assert 'penstock_responses_total{outcome="stored"} 1' in gateway.get("/metrics").text


def test_an_operator_can_keep_nothing_and_change_that_while_it_runs(mock: harness.Mock, folder: pathlib.Path, spawn: Any) -> None:
    config, env = harness.suite_config(mock, None, local=False)
    gateway = spawn(harness.Gateway(folder, {**config, "responses": {"store": False}}, env))
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=env["SUITE_KEY"], max_retries=0) as sdk:
        answer = sdk.responses.create(model="upstream", input="zanzibar-7f3a", store=True)
        assert answer.store is False
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(answer.id)
        assert on_disk(folder / "data", "zanzibar-7f3a") == []
        gateway.write({**gateway.config, "responses": {"store": True, "retention": "1h"}})
        harness.until(lambda: sdk.responses.create(model="upstream", input="x").store, "the new policy is in force")
