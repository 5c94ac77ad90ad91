"""Messages as the users of Anthropic's SDK do it: whole answers, streams, tools, images, and the vendor's own dialect."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from conftest import everywhere, outside, play
from openai import OpenAI

import harness

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
HELLO: Any = [{"role": "user", "content": "say hello"}]
# Newer SDKs have no parameter for it.
COOL = {"temperature": 0}
# One black pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGES: Any = [
    {"type": "text", "text": "what is this?"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "image", "source": {"type": "url", "url": "https://images.example/cat.png"}},
]


@everywhere
def test_a_whole_answer_is_a_message(claude: Anthropic, model: str) -> None:
    answer = claude.messages.create(**play(model, "naive"))
    assert (answer.type, answer.role) == ("message", "assistant")
    assert answer.id
    assert [(block.type, block.text) for block in answer.content] == [("text", harness.SCRIPTS["naive"]["text"])]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 3
    assert answer._request_id and answer._request_id.startswith("req_")


@everywhere
def test_the_events_of_a_stream_come_in_order(claude: Anthropic, model: str) -> None:
    events = list(claude.messages.create(stream=True, **play(model, "naive")))
    kinds = [event.type for event in events]
    pieces = kinds.count("content_block_delta")
    assert pieces > 3, "the answer came in one piece: that is no stream"
    assert kinds == ["message_start", "content_block_start", *["content_block_delta"] * pieces, "content_block_stop",
                     "message_delta", "message_stop"]
    assert events[0].message.content == [] and events[0].message.stop_reason is None
    assert {event.index for event in events if hasattr(event, "index")} == {0}
    assert events[-2].delta.stop_reason == "end_turn"


@everywhere
def test_a_stream_adds_up_to_the_whole_answer_and_its_usage(claude: Anthropic, model: str) -> None:
    whole = claude.messages.create(**play(model, "naive"))
    with claude.messages.stream(**play(model, "naive")) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.role == "assistant" and final.id


@everywhere
def test_what_the_cache_read_is_no_part_of_the_input(claude: Anthropic, model: str) -> None:
    whole = claude.messages.create(**play(model, "counted")).usage
    with claude.messages.stream(**play(model, "counted")) as stream:
        streamed = stream.get_final_message().usage
    for usage in (whole, streamed):
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (18, 12, 5)


@everywhere
def test_max_tokens_ends_the_answer(claude: Anthropic, model: str) -> None:
    answer = claude.messages.create(**play(model, "many", max_tokens=3))
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 3
    with claude.messages.stream(**play(model, "many", max_tokens=3)) as stream:
        assert stream.get_final_message().stop_reason == "max_tokens"


@everywhere
def test_a_tool_call_arrives_whole_and_in_a_stream(claude: Anthropic, model: str) -> None:
    ask = play(model, "weather", tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"})
    whole = claude.messages.create(**ask)
    with claude.messages.stream(**ask) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert "input_json" in kinds
    for answer in (whole, streamed):
        assert answer.stop_reason == "tool_use"
        [call] = answer.content
        assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris", "days": [1, 2]})
        assert call.id


@everywhere
def test_parallel_tool_calls_are_blocks_of_their_own(claude: Anthropic, model: str) -> None:
    tools = [WEATHER, {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}]
    whole = claude.messages.create(**play(model, "both", tools=tools))
    with claude.messages.stream(**play(model, "both", tools=tools)) as stream:
        streamed = stream.get_final_message()
    for answer in (whole, streamed):
        assert [(call.name, call.input) for call in answer.content] == [("get_weather", {"city": "Paris"}), ("get_time", {})]
        assert len({call.id for call in answer.content}) == 2


@everywhere
def test_reasoning_is_thinking_before_the_text(claude: Anthropic, model: str) -> None:
    whole = claude.messages.create(**play(model, "think"))
    with claude.messages.stream(**play(model, "think")) as stream:
        streamed = stream.get_final_message()
    for answer in (whole, streamed):
        thought, said = answer.content
        assert (thought.type, thought.thinking) == ("thinking", "let me see")
        assert (said.type, said.text) == ("text", "forty-two")


def test_the_result_of_a_tool_goes_round(claude: Anthropic, seen: Any) -> None:
    question = {"role": "user", "content": "[weather]"}
    call = claude.messages.create(model="upstream", max_tokens=64, messages=[question], tools=[WEATHER])
    result = {"type": "tool_result", "tool_use_id": call.content[0].id, "content": [{"type": "text", "text": "sunny"}]}
    turns: Any = [question, {"role": "assistant", "content": call.content},
                  {"role": "user", "content": [result, {"type": "text", "text": "[naive]"}]}]
    answer = claude.messages.create(model="upstream", max_tokens=64, messages=turns, tools=[WEATHER])
    assert answer.content[0].text == harness.SCRIPTS["naive"]["text"]
    sent = seen()["json"]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    [made] = sent[1]["tool_calls"]
    assert (made["id"], made["type"], made["function"]["name"]) == (call.content[0].id, "function", "get_weather")
    assert '"Paris"' in made["function"]["arguments"]
    assert (sent[2]["tool_call_id"], sent[2]["content"]) == (call.content[0].id, "sunny")
    assert sent[3]["content"] == "[naive]"


@pytest.mark.parametrize("model", ["upstream", "chats"])
def test_a_request_is_translated_for_an_openai_shaped_vendor(claude: Anthropic, seen: Any, model: str) -> None:
    raw = claude.messages.with_raw_response.create(
        model=model, max_tokens=77, system="Be kind.", messages=HELLO, extra_body=dict(temperature=0.25, top_p=0.5, top_k=3),
        stop_sequences=["END", "STOP"], metadata={"user_id": "somebody"}, tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True})
    request = seen()
    body = request["json"]
    assert request["path"] == "/v1/chat/completions"
    assert body["model"] == "vendor-model-1"
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "say hello"}]
    assert body["stop"] == ["END", "STOP"]
    assert (body["temperature"], body["top_p"]) == (0.25, 0.5)
    # OpenAI refuses what servers of open models added, and has newer names for the rest.
    if model == "upstream":
        assert (body["max_completion_tokens"], body["safety_identifier"]) == (77, "somebody")
        assert raw.headers["penstock-dropped-params"] == "top_k" and "top_k" not in body
    else:
        assert (body["max_tokens"], body["user"], body["top_k"]) == (77, "somebody", 3)
        assert "penstock-dropped-params" not in raw.headers
    assert body["tools"] == [{"type": "function", "function": {
        "name": "get_weather", "description": "The weather in a city", "parameters": WEATHER["input_schema"]}}]
    assert body["tool_choice"] == "required" and body["parallel_tool_calls"] is False
    assert not {"system", "stop_sequences", "metadata"} & set(body)


def test_a_system_prompt_of_blocks_is_translated(claude: Anthropic, seen: Any) -> None:
    system: Any = [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}]
    claude.messages.create(model="upstream", max_tokens=9, system=system, messages=HELLO)
    first = seen()["json"]["messages"][0]
    assert first["role"] == "system"
    said = first["content"] if isinstance(first["content"], str) else " ".join(part["text"] for part in first["content"])
    assert said.index("Be kind.") < said.index("Be brief.")


def test_images_reach_an_openai_shaped_vendor_as_image_urls(claude: Anthropic, seen: Any) -> None:
    claude.messages.create(model="upstream", max_tokens=9, messages=[{"role": "user", "content": IMAGES}])
    assert seen()["json"]["messages"][0]["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}},
    ]


def test_what_a_translation_leaves_out_is_named(claude: Anthropic, seen: Any) -> None:
    tools = [WEATHER, {"type": "web_search_20250305", "name": "web_search"}]
    ask: Any = {"max_tokens": 2048, "messages": HELLO, "service_tier": "standard_only", "tools": tools,
                "thinking": {"type": "enabled", "budget_tokens": 1024}, "extra_body": {"future": {"a": 1}}}
    for stream in (False, True):
        raw = claude.messages.with_raw_response.create(model="upstream", stream=stream, **ask)
        assert raw.headers["penstock-dropped-params"].split(", ") == ["future", "tools.web_search_20250305"]
        if stream:
            assert [event.type for event in raw.parse()][-1] == "message_stop"
        sent = seen()["json"]
        assert not {"future", "thinking"} & set(sent)
        assert sent["service_tier"] == "default", "there is a word for the usual tier alone"
        assert (sent["reasoning_effort"], len(sent["tools"])) == ("low", 1)
    assert "penstock-dropped-params" not in claude.messages.with_raw_response.create(model="messages", **ask).headers


def test_the_same_dialect_reaches_the_vendor_as_it_is(claude: Anthropic, seen: Any) -> None:
    script = {"text": "as it is"}
    body: Any = {
        "max_tokens": 2048,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": IMAGES}, {"role": "assistant", "content": "It is"}],
        "stop_sequences": ["END"], "service_tier": "auto", "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{**WEATHER, "cache_control": {"type": "ephemeral"}}, {"type": "web_search_20250305", "name": "web_search"}],
    }
    unknown = {"some_future_member": {"deep": [1, None, "x"]}, "mock": script}
    raw = claude.messages.with_raw_response.create(
        model="messages", **body, extra_body={**unknown, "penstock": {"tags": {"team": "a"}}})
    assert raw.parse().content[0].text == "as it is"
    request = seen()
    assert request["path"] == "/v1/messages"
    sent = {name: value for name, value in request["json"].items() if name != "stream"}
    assert sent == {**body, **unknown, "model": "vendor-model-2"}


def test_the_vendor_gets_the_operators_key_and_of_the_callers_headers_its_betas_alone(
        claude: Anthropic, seen: Any, secrets: dict[str, str], mock: harness.Mock) -> None:
    claude.messages.create(**play("messages", "naive"), extra_headers={"anthropic-beta": "callers-2099-01-01", "x-own": "1"})
    request = seen()
    assert request["headers"]["x-api-key"] == "redacted" and "authorization" not in request["headers"]
    assert request["headers"]["anthropic-version"] == claude.default_headers["anthropic-version"]
    assert request["headers"]["anthropic-beta"] == "callers-2099-01-01" and "x-own" not in request["headers"]
    claude.messages.create(**play("upstream", "naive"), extra_headers={"anthropic-beta": "callers-2099-01-01"})
    assert not {"anthropic-beta", "anthropic-version"} & set(seen()["headers"]), "another dialect's vendor knows none"
    assert secrets["SUITE_KEY"] not in harness.http("GET", f"{mock.url}/mock/requests").text
    # The mock shows a digest of the key: ask it with the operator's own key for the one that is right.
    harness.http("POST", f"{mock.url}/v1/messages", {"model": "m", "max_tokens": 1, "messages": HELLO},
                 {"x-api-key": harness.UPSTREAM_SECRET})
    assert request["key_digest"] == seen()["key_digest"]
    harness.http("POST", f"{mock.url}/v1/messages", {"model": "m", "max_tokens": 1, "messages": HELLO},
                 {"x-api-key": secrets["SUITE_KEY"]})
    assert request["key_digest"] != seen()["key_digest"]


def test_members_that_the_vendor_alone_knows_reach_the_client(claude: Anthropic) -> None:
    body = ('{"id":"msg_v","type":"message","role":"assistant","model":"vendor-model-2","content":[{"type":"text","text":"hi",'
            '"some_future_note":[1]}],"stop_reason":"pause_turn","stop_sequence":null,"usage":{"input_tokens":3,'
            '"output_tokens":1,"server_tool_use":{"web_search_requests":2}},"some_future_member":{"a":null}}')
    answer = claude.messages.create(
        model="messages", max_tokens=9, messages=HELLO, extra_body={"mock": {"raw_body": body, "content_type": "application/json"}})
    whole = answer.to_dict()
    assert whole["some_future_member"] == {"a": None} and whole["content"][0]["some_future_note"] == [1]  # type: ignore[typeddict-item]
    assert answer.stop_reason == "pause_turn" and answer.usage.server_tool_use.web_search_requests == 2


@outside
def test_every_answer_names_itself(claude: Anthropic, model: str) -> None:
    raw = claude.messages.with_raw_response.create(**play(model, "naive"))
    assert raw.headers["request-id"] == raw.headers["x-request-id"] == raw.parse()._request_id
    assert raw.headers["penstock-model"].split("/")[0] == model
    assert raw.headers["penstock-provider"] == {"upstream": "outer", "messages": "claude"}[model]
    with claude.messages.with_streaming_response.create(stream=True, **play(model, "naive")) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.headers["request-id"] not in ("", raw.headers["request-id"])


@outside
def test_any_legal_chunking_of_the_vendors_stream_gives_the_same_answer(claude: Anthropic, model: str) -> None:
    script = harness.SCRIPTS["naive"]
    for shape in harness.SHAPES:
        name = "shape-" + "-".join(f"{key}={value}" for key, value in shape.items())
        ask = {"model": model, "max_tokens": 99, "messages": [{"role": "user", "content": f"[{name}]"}]}
        if model == "messages":
            ask["extra_body"] = {"mock": {**script, **shape}}
        with claude.messages.stream(**ask) as stream:
            assert stream.get_final_message().content[0].text == script["text"], shape


def test_users_of_the_other_dialect_reach_an_anthropic_shaped_vendor(client: OpenAI, seen: Any) -> None:
    function = {"name": "get_weather", "description": "The weather in a city", "parameters": WEATHER["input_schema"]}
    ask: Any = {"model": "messages", "stop": ["END"], "tools": [{"type": "function", "function": function}],
                "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "[both]"}]}
    raw = client.chat.completions.with_raw_response.create(**ask, seed=7)
    assert raw.headers["penstock-dropped-params"] == "seed"
    choice = raw.parse().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls or []] == ["get_weather", "get_time"]  # type: ignore[union-attr]
    request = seen()
    assert request["path"] == "/v1/messages" and request["json"]["max_tokens"] > 0
    assert request["json"]["system"] in ("Be kind.", [{"type": "text", "text": "Be kind."}])
    assert request["json"]["stop_sequences"] == ["END"] and request["json"]["tools"] == [WEATHER]
    ask["messages"][1]["content"] = "[naive]"
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 3 and "".join(pieces) == harness.SCRIPTS["naive"]["text"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 3  # type: ignore[union-attr]


def read(message: Any) -> int:
    """How many tokens went in, whatever of them the prompt cache already had."""
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def test_the_embedded_model_answers_and_streams_the_same_words(claude: Anthropic) -> None:
    ask: Any = {"model": "small", "max_tokens": 24, "extra_body": COOL,
                "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    whole = claude.messages.create(**ask)
    assert "Paris" in whole.content[0].text
    with claude.messages.stream(**ask) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 2 and "".join(pieces) == whole.content[0].text
    assert (read(final), final.usage.output_tokens) == (read(whole), whole.usage.output_tokens)
    cut = claude.messages.create(**{**ask, "max_tokens": 2})
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)


def test_the_embedded_model_stops_at_a_stop_sequence_and_reads_the_system_prompt(claude: Anthropic) -> None:
    ask: Any = {"model": "small", "max_tokens": 24, "extra_body": COOL,
                "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    free = claude.messages.create(**ask)
    assert "Paris" in free.content[0].text
    stopped = claude.messages.create(**ask, stop_sequences=["Paris"])
    said = "".join(block.text for block in stopped.content)
    assert "Paris" not in said and free.content[0].text.startswith(said)
    assert stopped.stop_reason != "max_tokens"
    guided = claude.messages.create(**ask, system="word " * 60)
    assert read(guided) >= read(free) + 50


def test_structured_output_of_the_embedded_model_fits_its_schema(claude: Anthropic) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "capital": {"type": "boolean"}},
              "required": ["city", "capital"], "additionalProperties": False}
    answer = claude.messages.create(
        model="small", max_tokens=120, messages=[{"role": "user", "content": "Tell me about Paris."}],
        extra_body={**COOL, "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    value = json.loads(answer.content[0].text)
    assert set(value) == {"city", "capital"} and isinstance(value["capital"], bool)


def test_the_embedded_model_calls_a_forced_tool_and_takes_no_images(claude: Anthropic) -> None:
    answer = claude.messages.create(
        model="small", max_tokens=64, extra_body=COOL, messages=[{"role": "user", "content": "The weather in Paris?"}],
        tools=[{**WEATHER, "input_schema": {**WEATHER["input_schema"], "additionalProperties": False,
                                            "properties": {"city": {"type": "string", "maxLength": 20}}}}],
        tool_choice={"type": "tool", "name": "get_weather"})
    assert answer.stop_reason == "tool_use"
    assert answer.content[-1].name == "get_weather" and set(answer.content[-1].input) == {"city"}
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model="small", max_tokens=9, messages=[{"role": "user", "content": IMAGES}])
    assert caught.value.body["error"]["code"] == "unsupported"  # type: ignore[index]


@everywhere
def test_tokens_are_counted_without_an_answer(claude: Anthropic, model: str, mock: harness.Mock) -> None:
    ask: Any = {"system": "Be kind.", "messages": HELLO, "tools": [WEATHER]}
    raw = claude.messages.with_raw_response.count_tokens(model=model, **ask)
    assert raw.parse().input_tokens > 2
    # Anthropic's API counts, and so does the scripted provider; an OpenAI-shaped vendor cannot, so the gateway estimates.
    assert raw.headers.get("penstock-estimated") == ("tokens" if model == "upstream" else None)
    more = claude.messages.count_tokens(model=model, **{**ask, "messages": HELLO * 40})
    assert more.input_tokens > raw.parse().input_tokens


def test_the_embedded_model_counts_what_it_bills(claude: Anthropic) -> None:
    ask: Any = {"model": "small", "messages": HELLO, "system": "Be brief."}
    counted = claude.messages.count_tokens(**ask).input_tokens
    billed = claude.messages.create(max_tokens=4, **ask).usage
    assert counted == billed.input_tokens + (billed.cache_read_input_tokens or 0)


def test_the_embedded_model_tells_the_stop_sequence_that_it_met(claude: Anthropic) -> None:
    ask: Any = {"model": "small", "max_tokens": 32, "extra_body": COOL,
                "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    word = claude.messages.create(**ask).content[0].text.split()[1]  # type: ignore[union-attr]
    met = claude.messages.create(stop_sequences=["never said", word], **ask)
    assert (met.stop_reason, met.stop_sequence) == ("stop_sequence", word)
    with claude.messages.stream(stop_sequences=["never said", word], **ask) as stream:
        assert stream.get_final_message().stop_sequence == word


def test_models_are_listed_in_anthropics_shape_and_in_pages(claude: Anthropic, client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert len(names) > 3
    pages = claude.models.list(limit=2)
    assert (len(pages.data), pages.has_more, pages.first_id) == (2, True, names[0])
    assert [model.id for model in pages] == names
    one = claude.models.retrieve("upstream")
    assert (one.type, one.id, one.display_name, one.created_at.year > 2020) == ("model", "upstream", "upstream", True)
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("nothing")


def test_an_openai_client_sends_signed_thinking_back(client: OpenAI, seen: Any) -> None:
    question: Any = {"role": "user", "content": "[ponder]"}
    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    ask: Any = {"model": "messages", "tools": [tool], "reasoning_effort": "low"}
    answer = client.chat.completions.create(messages=[question], **ask).choices[0].message
    turn = answer.to_dict()
    assert turn["reasoning_content"] == "let me see"
    assert turn["reasoning_details"] == [
        {"type": "reasoning.text", "text": "let me see", "signature": "bW9jaw==", "index": 0}]
    result: Any = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "sunny"}  # type: ignore[index]
    turns: Any = [question, turn, result]
    client.chat.completions.create(messages=turns, **ask)
    sent = seen()["json"]
    thought, call = sent["messages"][1]["content"]
    assert thought == {"type": "thinking", "thinking": "let me see", "signature": "bW9jaw=="}
    assert (call["type"], call["input"]) == ("tool_use", {"city": "Paris"})
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 1024} and sent["max_tokens"] > 1024


CHART: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
# What Claude Code sends in the middle of its work.
AGENT: Any = {
    "max_tokens": 32000,
    "system": [{"type": "text", "text": "You are a coding agent.", "cache_control": {"type": "ephemeral"}},
               {"type": "text", "text": "<env>cwd: /src</env>", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "thinking": {"type": "enabled", "budget_tokens": 31999},
    "metadata": {"user_id": "user_" + "ab" * 32 + "_account__session_0f8b"},
    "tools": [{**WEATHER, "name": name, "description": "Does something."} for name in ("Bash", "Read", "Edit", "Grep")]
    + [{**WEATHER, "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What does the chart show?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I should look.", "signature": "EqQBCg=="}, {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"city": "chart.png"}},
            {"type": "tool_use", "id": "toolu_02", "name": "Bash", "input": {"city": "ls"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_01", "content": [{"type": "text", "text": "chart.png"}, CHART]},
            {"type": "tool_result", "tool_use_id": "toolu_02", "content": "not found", "is_error": True,
             "cache_control": {"type": "ephemeral"}}]},
    ],
}
BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14"


@pytest.mark.parametrize("model", ["mock", "upstream", "messages", "small"])
def test_a_coding_agent_works_with_every_provider(claude: Anthropic, model: str, seen: Any) -> None:
    ask: Any = {**AGENT, "model": model, "extra_body": {"mock": harness.SCRIPTS["weather"]}}
    if model == "small":
        ask = {**AGENT, "model": model, "max_tokens": 24}
    if model == "upstream":
        *turns, last = AGENT["messages"]
        ask = {**AGENT, "model": model,
               "messages": [*turns, {**last, "content": [*last["content"], {"type": "text", "text": "[weather]"}]}]}
    with claude.messages.stream(extra_headers={"anthropic-beta": BETAS}, **ask) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
        dropped = set(stream.response.headers.get("penstock-dropped-params", "").split(", "))
    assert "message_stop" in kinds and final.usage.output_tokens > 0
    assert claude.messages.count_tokens(
        model=model, messages=AGENT["messages"], system=AGENT["system"], tools=AGENT["tools"]).input_tokens > 20
    if model == "small":
        assert {"messages.tool_result.media", "messages.thinking.signature", "messages.cache_control"} <= dropped
        return
    [call] = [block for block in final.content if block.type == "tool_use"]
    assert (final.stop_reason, call.name) == ("tool_use", "get_weather")
    if model == "messages":
        assert dropped == {""}
    if model == "upstream":
        assert {"messages.cache_control", "messages.is_error", "user", "tools.cache_control"} <= dropped


def test_what_a_coding_agent_sends_reaches_each_vendor_in_its_own_words(claude: Anthropic, seen: Any) -> None:
    with claude.messages.stream(extra_headers={"anthropic-beta": BETAS}, **AGENT, model="messages") as stream:
        stream.until_done()
    request = seen()
    assert request["json"] == {**AGENT, "model": "vendor-model-2", "stream": True}
    assert request["headers"]["anthropic-beta"] == BETAS
    with claude.messages.stream(**AGENT, model="upstream") as stream:
        stream.until_done()
    sent = seen()["json"]
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert len(sent["messages"][2]["tool_calls"]) == 2 and sent["messages"][4]["content"] == "not found"
    assert all(part["type"] == "text" for part in sent["messages"][3]["content"]), "tool messages hold text"
    assert sent["messages"][5]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert sent["reasoning_effort"] == "high" and len(sent["tools"]) == 5
