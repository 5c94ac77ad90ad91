"""Chat as the SDK's users do it: whole answers, streams, usage, tools, images, sampling."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import scripted
from openai import BadRequestError, OpenAI

import harness

HELLO: Any = [{"role": "user", "content": "say hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
# One black pixel.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@scripted
def test_a_whole_answer_has_the_shape_that_the_sdk_promises(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, extra_body={"mock": {"text": "Hello there"}})
    assert answer.object == "chat.completion"
    assert answer.id and answer.created > 0 and answer.model
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@scripted
def test_a_stream_adds_up_to_the_whole_answer(client: OpenAI, model: str) -> None:
    text = "One two three, and a naïve 🦀 walks into a bar."
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True, extra_body={"mock": {"text": text}}))
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 3, "the answer came in one piece: that is no stream"
    assert "".join(pieces) == text
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["stop"]


@scripted
def test_a_stream_without_include_usage_has_no_usage(client: OpenAI, model: str) -> None:
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert chunks
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks), "the gateway's own question for usage reached the client"


@scripted
def test_include_usage_adds_one_last_chunk_with_the_same_count_as_the_whole_answer(client: OpenAI, model: str) -> None:
    ask: Any = {"model": model, "messages": HELLO, "extra_body": {"mock": {"text": "four little words here"}}}
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    whole = client.chat.completions.create(**ask)
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


@scripted
def test_scripted_tool_calls_arrive_whole(client: OpenAI, model: str) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    answer = client.chat.completions.create(
        model=model, messages=HELLO, tools=[WEATHER], extra_body={"mock": {"tool_calls": [call, call]}})
    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls is not None and len(calls) == 2
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    assert calls[0].id and calls[0].id != calls[1].id


@scripted
def test_streamed_tool_calls_can_be_put_together_by_index(client: OpenAI, model: str) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2, 3]}}
    together: dict[int, dict[str, str]] = {}
    reasons = []
    for chunk in client.chat.completions.create(
            model=model, messages=HELLO, tools=[WEATHER], stream=True, extra_body={"mock": {"tool_calls": [call, call]}}):
        for choice in chunk.choices:
            reasons.append(choice.finish_reason)
            for part in choice.delta.tool_calls or []:
                entry = together.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                entry["id"] += part.id or ""
                assert part.function is not None
                entry["name"] += part.function.name or ""
                entry["arguments"] += part.function.arguments or ""
    assert sorted(together) == [0, 1]
    assert all(entry["name"] == "get_weather" and entry["id"] for entry in together.values())
    assert all(json.loads(entry["arguments"]) == call["arguments"] for entry in together.values())
    assert [reason for reason in reasons if reason] == ["tool_calls"]


def test_the_sdk_stream_helper_collects_a_tool_call(client: OpenAI) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    with client.chat.completions.stream(
            model="upstream", messages=HELLO, tools=[WEATHER], extra_body={"mock": {"tool_calls": [call]}}) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None and json.loads(calls[0].function.arguments) == {"city": "Paris"}


def test_a_tool_conversation_reaches_the_vendor_as_it_was_sent(client: OpenAI, seen: Any) -> None:
    messages: Any = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\":\"Paris\"}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    client.chat.completions.create(model="upstream", messages=messages, tools=[WEATHER], tool_choice="auto", parallel_tool_calls=False)
    body = seen()["json"]
    assert body["messages"] == messages
    assert body["tools"] == [WEATHER]
    assert body["tool_choice"] == "auto"
    assert body["parallel_tool_calls"] is False


def test_image_parts_reach_the_vendor_unchanged(client: OpenAI, seen: Any) -> None:
    content: Any = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}},
    ]
    client.chat.completions.create(model="upstream", messages=[{"role": "user", "content": content}])
    assert seen()["json"]["messages"][0]["content"] == content


def test_the_text_model_says_that_it_takes_no_images(client: OpenAI) -> None:
    content: Any = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=[{"role": "user", "content": content}])
    assert caught.value.code == "unsupported"
    assert "image" in caught.value.message


def test_members_that_the_gateway_does_not_know_reach_the_vendor_and_its_own_do_not(client: OpenAI, seen: Any) -> None:
    client.chat.completions.create(
        model="upstream", messages=HELLO, temperature=0.25, seed=7, user="somebody",
        extra_body={"some_future_member": {"deep": [1, None, "x"]}, "penstock": {"tags": {"team": "a"}}})
    body = seen()["json"]
    assert body["some_future_member"] == {"deep": [1, None, "x"]}
    assert body["temperature"] == 0.25 and body["seed"] == 7 and body["user"] == "somebody"
    assert "penstock" not in body
    assert body["model"] == "vendor-model-1", "the vendor must get its own name for the model"
    assert "max_tokens" not in body and "top_p" not in body, "absent must stay absent"


def test_the_vendor_gets_its_own_credential_and_never_the_callers(client: OpenAI, seen: Any, secrets: dict[str, str], mock: harness.Mock) -> None:
    client.chat.completions.create(model="upstream", messages=HELLO)
    everything = harness.http("GET", f"{mock.url}/mock/requests").text
    assert secrets["SUITE_KEY"] not in everything
    assert seen()["key_digest"], "the vendor got no credential at all"


@scripted
def test_n_answers_come_back_numbered(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


@scripted
def test_log_probabilities_come_with_their_alternatives(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=HELLO, logprobs=True, top_logprobs=2, extra_body={"mock": {"text": "one two"}})
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content
    assert "".join(token.token for token in logprobs.content) == "one two"
    assert all(token.logprob <= 0 for token in logprobs.content)
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


@scripted
def test_max_tokens_ends_the_answer_with_length(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_completion_tokens=3, extra_body={"mock": {"text": "a b c d e f g h"}})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 3


@scripted
def test_a_refusal_is_a_refusal(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, extra_body={"mock": {"refusal": "I will not"}})
    assert answer.choices[0].message.refusal == "I will not"
    assert not answer.choices[0].message.content


def test_any_legal_chunking_of_the_vendors_stream_gives_the_same_answer(client: OpenAI) -> None:
    text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich 🌊"
    for shape in ({}, {"chunk_bytes": 1}, {"chunk_bytes": 7}, {"crlf": True}, {"comments": True},
                  {"crlf": True, "comments": True, "chunk_bytes": 3}):
        stream = client.chat.completions.create(
            model="upstream", messages=HELLO, stream=True, extra_body={"mock": {"text": text, **shape}})
        said = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        assert said == text, shape
