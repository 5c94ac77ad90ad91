"""Embeddings and models over the scripted upstream, headers, async clients, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from conftest import scripted
from openai import AsyncOpenAI, OpenAI

import harness

HELLO: Any = [{"role": "user", "content": "say hello"}]
# A long answer that is still running when the test walks away: 20 tokens a second for half a minute.
SLOW = {"text": "word " * 400, "inter_token_ms": 50}


@scripted
def test_embeddings_one_and_many(client: OpenAI, model: str) -> None:
    script = {"mock": {"embedding_dimensions": 16}}
    one = client.embeddings.create(model=model, input="a", extra_body=script)
    many = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float", extra_body=script)
    assert len(one.data) == 1 and len(one.data[0].embedding) == 16
    assert [entry.index for entry in many.data] == [0, 1]
    assert many.data[0].embedding == pytest.approx(one.data[0].embedding, abs=1e-6)
    assert many.data[0].embedding != many.data[1].embedding
    assert many.usage.prompt_tokens == many.usage.total_tokens > 0


def test_token_arrays_reach_the_vendor(client: OpenAI, seen: Any) -> None:
    client.embeddings.create(model="upstream", input=[[1, 2, 3], [4]], encoding_format="float", dimensions=8)
    body = seen()["json"]
    assert body["input"] == [[1, 2, 3], [4]] and body["dimensions"] == 8


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"mock", "upstream", "small", "embed"} <= set(listed)
    one = client.models.retrieve("small")
    assert one.id == "small" and one.object == "model" and one.owned_by
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_a_narrow_key_sees_only_its_models(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["NARROW_KEY"], max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["mock"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("small")


@scripted
def test_completions_whole_and_streamed(client: OpenAI, model: str) -> None:
    ask: Any = {"model": model, "prompt": "once upon", "extra_body": {"mock": {"text": "a time there was"}}}
    whole = client.completions.create(**ask)
    assert whole.choices[0].text == "a time there was" and whole.choices[0].finish_reason == "stop"
    streamed = list(client.completions.create(stream=True, **ask))
    assert "".join(choice.text for chunk in streamed for choice in chunk.choices) == "a time there was"


def test_every_answer_names_itself(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="upstream", messages=HELLO)
    headers = raw.headers
    assert headers["x-request-id"]
    assert headers["penstock-model"].split("/")[0] == "upstream"
    assert headers["penstock-provider"] == "outer"
    assert headers["penstock-attempts"] == "1"
    assert "server-timing" in headers
    assert raw.parse().choices
    again = client.chat.completions.with_raw_response.create(model="upstream", messages=HELLO)
    assert again.headers["x-request-id"] != headers["x-request-id"]


def test_streams_name_themselves_too_and_forbid_buffering(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(model="upstream", messages=HELLO, stream=True) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-request-id"]
        assert "no" in raw.headers.get("x-accel-buffering", "no")
        assert "no-cache" in raw.headers["cache-control"]
        assert list(raw.iter_lines())[-2:], "the stream was empty"


def test_the_penstock_member_sets_a_deadline(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="upstream", messages=HELLO, extra_body={"mock": {"latency_ms": 60_000}, "penstock": {"timeout_ms": 300}})
    assert caught.value.status_code == 504 and caught.value.code == "deadline_exceeded"


async def test_the_async_client_runs_many_at_once(aclient: AsyncOpenAI) -> None:
    async def ask(number: int) -> str:
        reply = await aclient.chat.completions.create(
            model="upstream" if number % 2 else "mock", messages=HELLO, extra_body={"mock": {"text": f"answer {number}"}})
        return reply.choices[0].message.content or ""

    assert await asyncio.gather(*(ask(number) for number in range(40))) == [f"answer {number}" for number in range(40)]


async def test_async_streams_do_not_mix(aclient: AsyncOpenAI) -> None:
    async def ask(number: int) -> str:
        stream = await aclient.chat.completions.create(
            model="upstream", messages=HELLO, stream=True, extra_body={"mock": {"text": f"{number} " * 20}})
        return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

    assert await asyncio.gather(*(ask(number) for number in range(20))) == [f"{number} " * 20 for number in range(20)]


async def test_the_embedded_model_serves_several_at_once(aclient: AsyncOpenAI) -> None:
    async def ask(number: int) -> Any:
        return await aclient.chat.completions.create(
            model="small", messages=[{"role": "user", "content": f"Count to {number + 3}."}], max_tokens=12, temperature=0)

    replies = await asyncio.gather(*(ask(number) for number in range(4)))
    assert all(reply.choices[0].message.content and reply.usage.completion_tokens <= 12 for reply in replies)


def aborted(mock: harness.Mock) -> int:
    stats = mock.stats()
    return int(stats["streams_aborted"]) + int(stats["wholes_aborted"])


def test_closing_a_stream_aborts_the_upstream(client: OpenAI, mock: harness.Mock) -> None:
    before = aborted(mock)
    stream = client.chat.completions.create(model="upstream", messages=HELLO, stream=True, extra_body={"mock": SLOW})
    next(iter(stream))
    stream.close()
    harness.until(lambda: aborted(mock) == before + 1, "the mock sees that the gateway left", 10)


async def test_cancelling_a_task_aborts_a_whole_answer_before_its_first_byte(aclient: AsyncOpenAI, mock: harness.Mock) -> None:
    before, running = aborted(mock), mock.stats()["in_flight"]
    task = asyncio.create_task(aclient.chat.completions.create(
        model="upstream", messages=HELLO, extra_body={"mock": {"latency_ms": 120_000}}))
    while mock.stats()["in_flight"] == running:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(harness.until, lambda: aborted(mock) == before + 1, "the mock sees the cancellation", 10)


def test_leaving_the_embedded_model_frees_it(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Tell me a very long story."}], stream=True, max_tokens=2000)
    next(iter(stream))
    stream.close()
    # Had the engine gone on with 2,000 tokens for each of these, the test's time would run out.
    for _ in range(12):
        stream = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Tell me a very long story."}], stream=True, max_tokens=2000)
        next(iter(stream))
        stream.close()
    answer = client.chat.completions.create(model="small", messages=HELLO, max_tokens=4)
    assert answer.choices
