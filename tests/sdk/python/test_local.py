"""The embedded models through the SDK: a real model inside the gateway, no network."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

CAPITAL: Any = [{"role": "user", "content": "What is the capital of France?"}]


def test_the_embedded_model_answers_a_question(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=CAPITAL, temperature=0, max_tokens=48)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 48
    assert answer.usage.prompt_tokens > 5


def test_it_streams_token_by_token_and_the_same_words(client: OpenAI) -> None:
    ask: Any = {"model": "small", "messages": CAPITAL, "temperature": 0, "max_tokens": 24}
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    whole = client.chat.completions.create(**ask)
    assert len(pieces) >= 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_seed_makes_sampling_repeatable(client: OpenAI) -> None:
    ask: Any = {"model": "small", "messages": CAPITAL, "temperature": 1.0, "seed": 42, "max_tokens": 16}
    first, second = (client.chat.completions.create(**ask).choices[0].message.content for _ in range(2))
    assert first == second


def test_a_stop_sequence_ends_the_answer_and_is_not_said(client: OpenAI) -> None:
    ask: Any = {"model": "small", "messages": CAPITAL, "temperature": 0, "max_tokens": 32}
    whole = client.chat.completions.create(**ask).choices[0].message.content or ""
    stop = whole.split()[1]
    short = client.chat.completions.create(stop=[stop, "never said"], **ask)
    assert stop not in (short.choices[0].message.content or "")
    assert whole.startswith((short.choices[0].message.content or "").rstrip())
    assert short.choices[0].finish_reason == "stop"


def test_max_tokens_is_exact(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=CAPITAL, max_tokens=5, temperature=0)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 5


def test_several_answers_to_one_question(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=CAPITAL, n=2, max_tokens=8, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_log_probabilities_are_those_of_the_model(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="small", messages=CAPITAL, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content and len(logprobs.content) == 6
    for token in logprobs.content:
        assert -30 < token.logprob <= 0
        assert len(token.top_logprobs) == 3
        best = max(token.top_logprobs, key=lambda other: other.logprob)
        assert math.isclose(best.logprob, token.logprob, abs_tol=1e-3), "greedy must take the likeliest token"
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.001


@pytest.mark.parametrize("strict", [True, False])
def test_structured_output_always_fits_the_schema(client: OpenAI, strict: bool) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 40},
            "population_millions": {"type": "number"},
            "capital": {"type": "boolean"},
            "kind": {"enum": ["city", "village"]},
        },
        "required": ["city", "population_millions", "capital", "kind"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Describe Paris as JSON."}], max_tokens=200, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": strict}})
    assert answer.choices[0].finish_reason == "stop", answer.choices[0].message.content
    value = json.loads(answer.choices[0].message.content or "")
    assert set(value) == set(schema["required"])
    assert isinstance(value["city"], str) and len(value["city"]) <= 40
    assert isinstance(value["population_millions"], (int, float)) and isinstance(value["capital"], bool)
    assert value["kind"] in ("city", "village")


def test_json_mode_gives_an_object(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Give me a JSON object with one member, name."}],
        max_tokens=300, temperature=0, response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    else:
        assert (answer.choices[0].message.content or "").lstrip().startswith("{")


def test_the_sdk_parses_a_pydantic_model(client: OpenAI) -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str
        capital: bool

    parsed = client.chat.completions.parse(
        model="small", messages=[{"role": "user", "content": "Paris. Answer as JSON."}], max_tokens=120, temperature=0,
        response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)


def test_a_forced_tool_is_called_with_arguments_that_fit(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {
        "name": "get_weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}},
                       "required": ["city"], "additionalProperties": False}}}
    answer = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[tool],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, max_tokens=120, temperature=0)
    calls = answer.choices[0].message.tool_calls
    assert calls is not None and len(calls) == 1
    assert calls[0].function.name == "get_weather"
    assert set(json.loads(calls[0].function.arguments)) == {"city"}


def test_completions_continue_a_prompt(client: OpenAI) -> None:
    whole = client.completions.create(model="small", prompt="The capital of France is", max_tokens=6, temperature=0)
    assert whole.object == "text_completion"
    assert whole.choices[0].text
    pieces = [chunk.choices[0].text for chunk in client.completions.create(
        model="small", prompt="The capital of France is", max_tokens=6, temperature=0, stream=True) if chunk.choices]
    assert "".join(pieces) == whole.choices[0].text


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_embeddings_put_like_things_together(client: OpenAI) -> None:
    texts = ["a cat sits on the mat", "a kitten rests on a rug", "the central bank raised interest rates"]
    reply = client.embeddings.create(model="embed", input=texts, encoding_format="float")
    assert [entry.index for entry in reply.data] == [0, 1, 2]
    cat, kitten, bank = (entry.embedding for entry in reply.data)
    assert len(cat) == 384
    assert cosine(cat, kitten) > cosine(cat, bank) + 0.2
    assert reply.usage.prompt_tokens > 10 and reply.usage.total_tokens == reply.usage.prompt_tokens


def test_embeddings_are_the_same_alone_in_a_batch_and_as_base64(client: OpenAI, gateway: Any, secrets: dict[str, str]) -> None:
    texts = ["a cat sits on the mat", "short", "a longer sentence with quite a few more words in it"]
    batch = client.embeddings.create(model="embed", input=texts, encoding_format="float")
    alone = client.embeddings.create(model="embed", input=texts[0], encoding_format="float")
    assert cosine(batch.data[0].embedding, alone.data[0].embedding) > 0.9999
    # The SDK asks for base64 by default and decodes it; look at the wire once, too.
    decoded = client.embeddings.create(model="embed", input=texts[0])
    assert cosine(decoded.data[0].embedding, alone.data[0].embedding) > 0.9999
    wire = gateway.post("/v1/embeddings", {"model": "embed", "input": texts[0], "encoding_format": "base64"}, secrets["SUITE_KEY"]).json()
    raw = base64.b64decode(wire["data"][0]["embedding"])
    assert cosine(list(struct.unpack(f"<{len(raw) // 4}f", raw)), alone.data[0].embedding) > 0.9999


def test_a_chat_model_does_not_embed_and_an_embedding_model_does_not_chat(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as chat:
        client.chat.completions.create(model="embed", messages=CAPITAL)
    assert chat.value.code == "unsupported"
    with pytest.raises(BadRequestError) as embed:
        client.embeddings.create(model="small", input="x")
    assert embed.value.code == "unsupported"


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=[{"role": "user", "content": "word " * 20_000}])
    assert caught.value.code == "context_length_exceeded"
    assert any(character.isdigit() for character in caught.value.message)
