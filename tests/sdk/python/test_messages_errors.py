"""Errors of messages arrive as the Anthropic SDK's own exceptions, nothing is cut short in silence, leaving is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic, AsyncAnthropic
from conftest import PLAIN, everywhere, outside, play
from openai import OpenAI

import harness


def checked(caught: Any, status: int, kind: str, code: str) -> None:
    error = caught.value
    assert error.status_code == status, error
    assert error.body["type"] == "error"
    assert (error.body["error"]["type"], error.body["error"]["code"]) == (kind, code), error
    assert error.body["error"]["message"]
    assert error.request_id == error.body["request_id"] == error.response.headers["request-id"]


def consume(claude: Anthropic, ask: dict[str, Any]) -> Any:
    with claude.messages.stream(**ask) as stream:
        return stream.get_final_message()


def test_a_wrong_key(gateway: harness.Gateway) -> None:
    with Anthropic(base_url=gateway.url, api_key="pk_wrong", **PLAIN) as claude:
        for ask in (claude.messages.create, lambda **members: consume(claude, members)):
            with pytest.raises(anthropic.AuthenticationError) as caught:
                ask(**play("mock", "short"))
            checked(caught, 401, "authentication_error", "invalid_api_key")


def test_the_key_may_come_as_a_bearer_token(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with Anthropic(base_url=gateway.url, auth_token=secrets["SUITE_KEY"], **PLAIN) as claude:
        assert claude.messages.create(**play("mock", "short")).content[0].text == harness.SCRIPTS["short"]["text"]


def test_a_model_that_is_unknown_or_not_for_this_key(claude: Anthropic, gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(**play("no-such-model", "short"))
    checked(caught, 404, "not_found_error", "model_not_found")
    with Anthropic(base_url=gateway.url, api_key=secrets["NARROW_KEY"], **PLAIN) as narrow:
        with pytest.raises(anthropic.NotFoundError) as hidden:
            narrow.messages.create(**play("messages", "short"))
        checked(hidden, 404, "not_found_error", "model_not_found")
        assert narrow.messages.create(**play("mock", "short")).content


@everywhere
@pytest.mark.parametrize(("member", "value", "code"), [
    ("max_tokens", -1, "invalid_value"),
    ("messages", [], "invalid_request"),
    ("messages", "hello", "invalid_request"),
    ("temperature", 1.5, "invalid_value"),
])
def test_a_bad_request_names_its_member(claude: Anthropic, model: str, member: str, value: Any, code: str) -> None:
    ask = play(model, "short")
    ask["extra_body"] = {**ask.get("extra_body", {}), member: value}
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**ask)
    assert caught.value.body["error"]["param"] == member  # type: ignore[index]
    checked(caught, 400, "invalid_request_error", caught.value.body["error"]["code"])  # type: ignore[index]
    assert caught.value.body["error"]["code"] in (code, "invalid_value", "invalid_request")  # type: ignore[index]


def test_an_answer_of_no_tokens_is_for_anthropics_own_cache(claude: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**play("upstream", "short", max_tokens=0))
    checked(caught, 400, "invalid_request_error", "invalid_value")
    assert caught.value.body["error"]["param"] == "max_tokens"  # type: ignore[index]


@everywhere
def test_counting_refuses_what_a_message_would_be_refused_for(claude: Anthropic, model: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.count_tokens(model=model, messages=[])
    checked(caught, 400, "invalid_request_error", "invalid_request")
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude.messages.count_tokens(model="no-such-model", messages=[{"role": "user", "content": "hello"}])
    checked(unknown, 404, "not_found_error", "model_not_found")


@everywhere
def test_a_vendors_rate_limit_brings_its_waiting_time(claude: Anthropic, model: str) -> None:
    for ask in (claude.messages.create, lambda **members: consume(claude, members)):
        with pytest.raises(anthropic.RateLimitError) as caught:
            ask(**play(model, "limited"))
        checked(caught, 429, "rate_limit_error", "upstream_rate_limited")
        headers = caught.value.response.headers
        assert (headers["retry-after"], headers["x-should-retry"]) == ("7", "true")
    # What is left of it when the answer leaves.
    assert 6_000 < int(headers["retry-after-ms"]) <= 7_000


def test_the_keys_own_rate_limit(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with Anthropic(base_url=gateway.url, api_key=secrets["SLOW_KEY"], **PLAIN) as claude:
        with pytest.raises(anthropic.RateLimitError) as caught:
            for _ in range(4):
                claude.messages.create(**play("mock", "short"))
    checked(caught, 429, "rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


@outside
@pytest.mark.parametrize(("script", "code"), [
    ("broken", "upstream_error"), ("barred", "upstream_auth"), ("html", "upstream_bad_response"), ("empty", "upstream_bad_response")])
def test_a_vendors_fault_is_a_server_error(claude: Anthropic, model: str, script: str, code: str) -> None:
    with pytest.raises(anthropic.InternalServerError) as caught:
        claude.messages.create(**play(model, script))
    checked(caught, 502, "api_error", code)
    assert harness.UPSTREAM_SECRET not in str(caught.value.body)


@outside
def test_an_error_event_in_a_stream_raises(claude: Anthropic, model: str) -> None:
    said: list[str] = []
    with pytest.raises(anthropic.APIError) as caught:
        with claude.messages.stream(**play(model, "error-event")) as stream:
            said.extend(stream.text_stream)
    assert caught.value.body["type"] == "error"  # type: ignore[index]
    assert caught.value.body["error"]["type"] in ("api_error", "overloaded_error")  # type: ignore[index]
    assert len("".join(said)) < len(harness.SCRIPTS["error-event"]["text"])


@outside
def test_a_stream_that_babbles_raises(claude: Anthropic, model: str) -> None:
    with pytest.raises(anthropic.APIError) as caught:
        consume(claude, play(model, "malformed-event"))
    assert caught.value.body["error"]["code"] == "upstream_bad_response"  # type: ignore[index]


def test_only_where_everything_was_said_an_end_marker_may_be_missing(claude: Anthropic) -> None:
    # An OpenAI-shaped vendor has told why it finished, and `[DONE]` adds nothing; `message_stop` is the end itself.
    final = consume(claude, play("upstream", "no-end"))
    assert (final.content[0].text, final.stop_reason) == (harness.SCRIPTS["no-end"]["text"], "end_turn")
    with pytest.raises(anthropic.APIError) as caught:
        consume(claude, play("messages", "no-end"))
    assert caught.value.body["error"]["code"] == "upstream_stream_cut"  # type: ignore[index]


def test_users_of_the_other_dialect_notice_every_cut_as_well(client: OpenAI) -> None:
    raised = 0
    for at in harness.CUTS:
        ask: Any = {"model": "messages", "messages": [{"role": "user", "content": f"[cut-fin-{at}]"}]}
        try:
            chunks = list(client.chat.completions.create(stream=True, **ask))
        except openai.APIError:
            raised += 1
        else:
            said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            assert said == harness.SCRIPTS["short"]["text"], f"cut at byte {at}: a part was given as the whole"
    assert 50 < raised < len(harness.CUTS)


@outside
def test_the_penstock_member_sets_a_deadline(claude: Anthropic, mock: harness.Mock, model: str) -> None:
    before = idle(mock)
    ask = play(model, "never")
    ask["extra_body"] = {**ask.get("extra_body", {}), "penstock": {"timeout_ms": 300}}
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.create(**ask)
    checked(caught, 504, "timeout_error", "deadline_exceeded")
    assert idle(mock) == before + 1


def test_a_silent_stream_raises(claude: Anthropic) -> None:
    with pytest.raises(anthropic.APIError) as caught:
        consume(claude, {**play("upstream", "silent"), "model": "hasty"})
    assert caught.value.body["error"]["code"] == "upstream_idle_timeout"  # type: ignore[index]


@outside
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_stream_cut_at_any_byte_is_never_taken_for_a_whole_answer(claude: Anthropic, model: str, how: str) -> None:
    whole = harness.SCRIPTS["short"]["text"]
    outcomes = {"raised": 0, "whole": 0}
    for at in harness.CUTS:
        try:
            final = consume(claude, play(model, f"cut-{how}-{at}"))
        except anthropic.APIError as error:
            code = error.body["error"]["code"]  # type: ignore[index]
            assert code in ("upstream_stream_cut", "upstream_bad_response", "upstream_unreachable", "upstream_error"), (at, error)
            outcomes["raised"] += 1
        else:
            assert final.content[0].text == whole, f"cut at byte {at}: a part was given as the whole"
            assert final.stop_reason == "end_turn", at
            outcomes["whole"] += 1
    assert outcomes["raised"] > 50 and outcomes["whole"] > 0, outcomes


@outside
def test_the_raw_events_of_a_cut_stream_end_in_an_exception_and_never_in_message_stop(claude: Anthropic, model: str) -> None:
    kinds: list[str] = []
    with pytest.raises(anthropic.APIError):
        for event in claude.messages.create(stream=True, **play(model, "cut-fin-780")):
            kinds.append(event.type)
    assert "message_stop" not in kinds and "content_block_delta" in kinds


@outside
def test_a_cut_whole_answer_raises(claude: Anthropic, model: str) -> None:
    for at in (0, 1, 30, 114):
        with pytest.raises(anthropic.APIError):
            claude.messages.create(**play(model, f"cut-reset-{at}"))


def test_sdk_retries_recover_from_a_vendor_that_stumbles(claude: Anthropic) -> None:
    once = claude.with_options(max_retries=3)
    script = {"status": 529, "repeat": 2, "key": "anthropic-python", "then": {"text": "third time lucky"}}
    ask: Any = {"max_tokens": 99, "messages": [{"role": "user", "content": "[stumble-python]"}]}
    assert once.messages.create(model="upstream", **ask).content[0].text == "third time lucky"
    assert once.messages.create(model="messages", **ask, extra_body={"mock": script}).content[0].text == "third time lucky"


def idle(mock: harness.Mock) -> int:
    """How many answers were left behind, once nothing is on its way."""
    harness.until(lambda: mock.stats()["in_flight"] == 0, "earlier answers have ended", 20)
    stats = mock.stats()
    return int(stats["streams_aborted"]) + int(stats["wholes_aborted"])


@outside
def test_leaving_a_stream_aborts_the_upstream(claude: Anthropic, mock: harness.Mock, model: str) -> None:
    before = idle(mock)
    with claude.messages.stream(**play(model, "slow")) as stream:
        assert next(iter(stream.text_stream))
        assert mock.stats()["in_flight"] == 1
    assert idle(mock) == before + 1


@outside
async def test_cancelling_a_task_aborts_a_whole_answer_before_its_first_byte(aclaude: AsyncAnthropic, mock: harness.Mock, model: str) -> None:
    before = idle(mock)
    task = asyncio.create_task(aclaude.messages.create(**play(model, "never")))
    await asyncio.to_thread(harness.until, lambda: mock.stats()["in_flight"] == 1, "the request has reached the mock", 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(idle, mock) == before + 1


@everywhere
async def test_async_answers_and_streams_at_once_do_not_mix(aclaude: AsyncAnthropic, model: str) -> None:
    names = ["naive", "short", "many"] * 6

    async def streamed(name: str) -> str:
        async with aclaude.messages.stream(**play(model, name)) as stream:
            return "".join([piece async for piece in stream.text_stream])

    async def whole(name: str) -> str:
        return (await aclaude.messages.create(**play(model, name))).content[0].text

    said = await asyncio.gather(*(ask(name) for name in names for ask in (whole, streamed)))
    assert said == [harness.SCRIPTS[name]["text"] for name in names for _ in range(2)]
