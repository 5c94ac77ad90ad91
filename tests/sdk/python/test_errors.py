"""Errors arrive as the SDK's own exceptions, and nothing is ever cut short in silence."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from conftest import PLAIN, scripted
from openai import OpenAI

import harness

HELLO: Any = [{"role": "user", "content": "say hello"}]


def ask(client: OpenAI, script: dict[str, Any] | None = None, **members: Any) -> Any:
    members.setdefault("model", "upstream")
    members.setdefault("messages", HELLO)
    return client.chat.completions.create(extra_body={"mock": script} if script else None, **members)


def checked(caught: Any, status: int, code: str) -> None:
    error = caught.value
    assert error.status_code == status, error
    assert error.code == code, error
    assert error.request_id
    assert set(error.body) >= {"message", "type", "param", "code"}


def test_a_wrong_key(gateway: harness.Gateway) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="pk_wrong", **PLAIN) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            ask(client)
    checked(caught, 401, "invalid_api_key")


def test_a_key_without_the_scope(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["NARROW_KEY"], **PLAIN) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.embeddings.create(model="embed", input="x")
        checked(caught, 403, "insufficient_scope")
        with pytest.raises(openai.NotFoundError) as hidden:
            ask(client, model="upstream")
        checked(hidden, 404, "model_not_found")
        assert ask(client, model="mock").choices


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="no-such-model")
    checked(caught, 404, "model_not_found")
    assert caught.value.param == "model"


@pytest.mark.parametrize(("members", "code"), [
    ({"temperature": 99}, "invalid_value"),
    ({"n": 0}, "invalid_value"),
    ({"max_tokens": -1}, "invalid_value"),
    ({"messages": "hello"}, "invalid_request"),
    ({"messages": []}, "invalid_request"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_value"),
    ({"top_logprobs": 3}, "invalid_request"),
])
def test_a_bad_request_names_its_member(client: OpenAI, members: dict[str, Any], code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model="small", **members)
    assert caught.value.code in (code, "invalid_value", "invalid_request")
    assert caught.value.param and next(iter(members)) in caught.value.param


@scripted
def test_a_vendors_rate_limit_brings_its_waiting_time(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, {"status": 429, "retry_after": 7}, model=model)
    checked(caught, 429, "upstream_rate_limited")
    assert caught.value.response.headers["retry-after"] == "7"
    # What is left of it when the answer leaves.
    assert 6_000 < int(caught.value.response.headers["retry-after-ms"]) <= 7_000
    assert caught.value.response.headers["x-should-retry"] == "true"


def test_the_keys_own_rate_limit(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["SLOW_KEY"], **PLAIN) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            for _ in range(4):
                ask(client, model="mock")
    checked(caught, 429, "rate_limit_exceeded")
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "2"


@scripted
@pytest.mark.parametrize(("status", "code"), [(500, "upstream_error"), (503, "upstream_error")])
def test_a_vendors_fault_is_a_server_error(client: OpenAI, model: str, status: int, code: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, {"status": status}, model=model)
    checked(caught, 502, code)


@pytest.mark.parametrize("status", [401, 403])
def test_the_vendors_refusal_of_our_credential_is_not_the_callers_fault(client: OpenAI, status: int) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, {"status": status, "body": {"error": {"message": f"bad key {harness.UPSTREAM_SECRET}"}}})
    checked(caught, 502, "upstream_auth")
    assert harness.UPSTREAM_SECRET not in str(caught.value.body)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_vendor_that_cannot_be_reached(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, model="unreachable")
    checked(caught, 502, "upstream_unreachable")


@pytest.mark.parametrize("script", [
    {"raw_body": "<html><body>502 Bad Gateway</body></html>", "content_type": "text/html"},
    {"raw_body": "not json at all", "content_type": "application/json"},
    {"raw_body": "{\"id\": \"x\", \"choices\": [", "content_type": "application/json"},
    {"raw_body": "{}", "content_type": "application/json"},
    {"raw_body": "", "content_type": "application/json"},
])
def test_garbage_from_the_vendor_is_an_error_and_never_an_answer(client: OpenAI, script: dict[str, Any]) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, script)
    checked(caught, 502, "upstream_bad_response")


def test_an_error_inside_a_200_is_an_error(client: OpenAI) -> None:
    body = "{\"error\": {\"message\": \"overloaded\", \"type\": \"server_error\", \"code\": null}}"
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, {"raw_body": body, "content_type": "application/json"})
    assert caught.value.code in ("overloaded", "upstream_error", "upstream_bad_response")


def test_a_vendor_that_never_begins(client: OpenAI) -> None:
    for members in ({"stream": True}, {}):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, {"hang": "before_headers"}, model="hasty", **members)
        checked(caught, 504, "upstream_timeout")


def test_the_clients_own_timeout_is_the_sdks_exception(client: OpenAI) -> None:
    # A stream, because for a whole answer the gateway honours the SDK's own time-out and may be the first to say so.
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.5), {"hang": "before_headers"}, stream=True)


def test_the_gateway_honours_the_sdks_timeout_for_whole_answers(client: OpenAI, mock: harness.Mock) -> None:
    before = mock.stats()["wholes_aborted"]
    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)) as caught:
        ask(client.with_options(timeout=0.5), {"hang": "before_headers"})
    if isinstance(caught.value, openai.InternalServerError):
        checked(caught, 504, "deadline_exceeded")
    harness.until(lambda: mock.stats()["wholes_aborted"] > before, "nothing goes on behind a client that gave up", 20)


def consume(stream: Any) -> str:
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def test_an_error_event_in_a_stream_raises(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as caught:
        consume(ask(client, {"text": "a b c d e f g h", "error_event": 4}, stream=True))
    assert caught.value.code == "upstream_error"


def test_a_silent_stream_raises(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as caught:
        consume(ask(client, {"text": "a b c d e f g h", "hang": "mid_stream"}, model="hasty", stream=True))
    assert caught.value.code == "upstream_idle_timeout"


def test_a_break_inside_the_gateways_own_scripted_provider_raises(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as caught:
        consume(ask(client, {"text": "a b c d e f g h", "error_event": 3}, model="mock", stream=True))
    assert caught.value.code == "upstream_error"


def test_a_malformed_event_in_a_stream_raises(client: OpenAI) -> None:
    for index in range(6):
        with pytest.raises(openai.APIError) as caught:
            consume(ask(client, {"text": "a b c d e f g h", "malformed_event": index}, stream=True))
        assert caught.value.code == "upstream_bad_response", index


@pytest.mark.parametrize("cut", ["fin", "reset"])
def test_a_stream_cut_at_any_byte_is_never_taken_for_a_whole_answer(client: OpenAI, cut: str) -> None:
    script = {"text": "one two three four five six", "finish_reason": "stop"}
    whole = consume(ask(client, script, stream=True))
    outcomes = {"raised": 0, "whole": 0}
    # Every byte near the beginning and the end, and a comb in between; the whole stream has some 1,500 bytes.
    for at in [*range(0, 40), *range(40, 1400, 37), *range(1400, 1700, 11)]:
        try:
            said = consume(ask(client, {**script, "cut_at_byte": at, "cut": cut}, stream=True))
        except openai.APIError as error:
            assert error.code in ("upstream_stream_cut", "upstream_bad_response", "upstream_unreachable", "upstream_error"), (at, error)
            outcomes["raised"] += 1
        else:
            assert said == whole, f"cut at byte {at}: a part was given as the whole"
            outcomes["whole"] += 1
    assert outcomes["raised"] > 40, outcomes


def test_a_cut_whole_answer_raises(client: OpenAI) -> None:
    for at in (0, 1, 30, 120):
        with pytest.raises(openai.APIError):
            ask(client, {"text": "one two three", "cut_at_byte": at})


def test_a_failed_stream_ends_with_an_error_event_and_without_done(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    body = {"model": "upstream", "messages": HELLO, "stream": True, "mock": {"text": "a b c d e f g h", "error_event": 3}}
    events = harness.sse(f"{gateway.url}/v1/chat/completions", body, secrets["SUITE_KEY"])
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert error["code"] == "upstream_error" and error["message"] and error["type"]


def test_sdk_retries_recover_from_a_vendor_that_stumbles(client: OpenAI) -> None:
    script = {"status": 503, "repeat": 2, "key": "python-retry", "then": {"text": "third time lucky"}}
    answer = ask(client.with_options(max_retries=3), script)
    assert answer.choices[0].message.content == "third time lucky"

