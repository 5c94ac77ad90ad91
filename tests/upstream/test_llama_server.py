"""Penstock in front of a llama.cpp server: an upstream that speaks OpenAI's dialect in its own way, with the same SDK.

What the SDK gets through the gateway is compared with what it gets from the server itself.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

import openai
import pytest
from openai import OpenAI

import harness

CAPITAL: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: Any = {"temperature": 0, "max_tokens": 12, "seed": 1}


@pytest.fixture(scope="module")
def client(llama_gateway: harness.Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{llama_gateway.url}/v1", api_key=llama_gateway.key, max_retries=0, timeout=150) as sdk:  # type: ignore[attr-defined]
        yield sdk


@pytest.fixture(scope="module")
def direct(llama: harness.LlamaServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{llama.url}/v1", api_key="sk-llama-upstream", max_retries=0, timeout=150) as sdk:
        yield sdk


def said(stream: Any) -> str:
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def test_a_whole_answer_is_the_servers_own(client: OpenAI, direct: OpenAI) -> None:
    through = client.chat.completions.create(model="llama", messages=CAPITAL, **GREEDY)
    straight = direct.chat.completions.create(model="x", messages=CAPITAL, **GREEDY)
    assert through.choices[0].message.content == straight.choices[0].message.content
    assert through.usage is not None and straight.usage is not None
    assert (through.usage.prompt_tokens, through.usage.completion_tokens) == (
        straight.usage.prompt_tokens, straight.usage.completion_tokens)
    # A member that only llama.cpp has survives the gateway: the fast lane re-writes nothing.
    assert "timings" in (through.model_extra or {})


def test_a_stream_is_the_servers_own_and_has_usage_only_when_asked(client: OpenAI, direct: OpenAI) -> None:
    plain = list(client.chat.completions.create(model="llama", messages=CAPITAL, stream=True, **GREEDY))
    straight = said(direct.chat.completions.create(model="x", messages=CAPITAL, stream=True, **GREEDY))
    assert said(plain) == straight
    assert all(chunk.usage is None for chunk in plain)
    counted = list(client.chat.completions.create(
        model="llama", messages=CAPITAL, stream=True, stream_options={"include_usage": True}, **GREEDY))
    assert counted[-1].usage is not None and counted[-1].usage.completion_tokens == 12


def test_structured_output_of_the_server(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
              "additionalProperties": False}
    answer = client.chat.completions.create(
        model="llama", messages=[{"role": "user", "content": "Paris. Answer as JSON."}], temperature=0, max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}})
    assert isinstance(json.loads(answer.choices[0].message.content or "")["city"], str)


def test_log_probabilities_of_the_server(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="llama", messages=CAPITAL, logprobs=True, top_logprobs=2, **GREEDY)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content and len(logprobs.content[0].top_logprobs) == 2


def test_completions_of_the_server(client: OpenAI) -> None:
    ask: Any = {"model": "llama", "prompt": "The capital of France is", "max_tokens": 6, "temperature": 0, "seed": 1}
    whole = client.completions.create(**ask)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(stream=True, **ask) if chunk.choices)
    assert whole.choices[0].text and streamed == whole.choices[0].text


def test_the_servers_refusal_is_told_with_its_reason(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code in ("upstream_rejected", "context_length_exceeded")


def test_leaving_a_stream_frees_the_servers_slot(client: OpenAI, llama: harness.LlamaServer) -> None:
    def busy() -> bool:
        slots = harness.http("GET", f"{llama.url}/slots", headers={"authorization": "Bearer sk-llama-upstream"}).json()
        return any(slot["is_processing"] for slot in slots)

    stream = client.chat.completions.create(
        model="llama", messages=[{"role": "user", "content": "Tell me a very long story."}], stream=True, max_tokens=3000,
        extra_body={"ignore_eos": True})
    next(iter(stream))
    assert busy()
    stream.close()
    harness.until(lambda: not busy(), "the server stops the answer that nobody reads", 30)


def test_the_servers_health_is_the_providers(llama_gateway: harness.Gateway) -> None:
    ready = llama_gateway.get("/readyz").json()
    assert ready["providers"]["llama"]["status"] == "ready"
