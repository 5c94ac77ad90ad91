"""Providers of kind `bedrock` in front of a fake of the service, proven by the vendor's own client first."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Iterator

import anthropic
import botocore.config
import botocore.exceptions
import botocore.session
import openai
import pytest
from anthropic import Anthropic
from bedrock import ACCESS_KEY, REGION, SECRET_KEY, SESSION, Bedrock
from converse import USAGE
from openai import OpenAI

import harness

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"
KEY = "sk-suite-for-bedrock-alone"
TOOL = {"toolUse": {"toolUseId": "tool-1", "name": "weather", "input": {"city": "Paris", "days": [1, 2]}}}
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "It asks for weather.", "signature": "c2ln"}}}
SCRIPTS: dict[str, dict[str, Any]] = {
    CLAUDE: {"content": [{"text": "Hello from the fake, in words."}]},
    "tools": {"content": [THOUGHT, {"text": "I look."}, TOOL], "stop": "tool_use"},
    "long": {"content": [{"text": "and so on"}], "stop": "max_tokens"},
    "guarded": {"content": [{"text": "Sorry."}], "stop": "guardrail_intervened"},
    "busy": {"status": 429, "message": "Too many requests, please wait before trying again."},
    "strange": {"status": 403, "message": "You don't have access to the model with the specified model ID."},
    "cut": {"content": [{"text": "one two three four"}], "cut": 4},
    "throttled": {"content": [{"text": "one two"}], "exception": "throttlingException"},
}


@pytest.fixture(scope="module")
def service() -> Iterator[Bedrock]:
    fake = Bedrock()
    fake.scripts.update(SCRIPTS)
    yield fake
    fake.shutdown()


@pytest.fixture(scope="module")
def gateway(service: Bedrock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Gateway]:
    folder: pathlib.Path = tmp_path_factory.mktemp("bedrock")
    key = {"region": REGION, "base_url": service.url}
    signed = {**key, "access_key_id": "${AWS_ID}", "secret_access_key": "${AWS_SECRET}", "session_token": "${AWS_SESSION}"}
    names = [*SCRIPTS, ARN]
    config = {
        "providers": {
            "signed": {"kind": "bedrock", **signed},
            "bearer": {"kind": "bedrock", "api_key": "${AWS_BEARER}", **key},
            "wrong": {"kind": "bedrock", **{**signed, "secret_access_key": "${AWS_WRONG}"}},
        },
        "models": {
            **{name: {"provider": "signed", "model": name} for name in names},
            "by-key": {"provider": "bearer", "model": CLAUDE},
            "forged": {"provider": "wrong", "model": CLAUDE},
        },
        "keys": [{"name": "suite", "key": "${SUITE_KEY}", "scopes": ["chat:*", "models:*"]}],
    }
    env = {"AWS_ID": ACCESS_KEY, "AWS_SECRET": SECRET_KEY, "AWS_SESSION": SESSION, "AWS_BEARER": "bedrock-api-key",
           "AWS_WRONG": "not the secret", "SUITE_KEY": KEY}
    running = harness.Gateway(folder, config, env)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def client(gateway: harness.Gateway) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="module")
def claude(gateway: harness.Gateway) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0)


def vendors_client(service: Bedrock, secret: str = SECRET_KEY) -> Any:
    return botocore.session.get_session().create_client(
        "bedrock-runtime", region_name=REGION, endpoint_url=service.url, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret, config=botocore.config.Config(retries={"total_max_attempts": 1}))


def test_the_vendors_own_client_takes_the_fake_for_the_service(service: Bedrock) -> None:
    aws = vendors_client(service)
    ask = {"modelId": "tools", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    whole = aws.converse(**ask)
    assert whole["output"]["message"]["content"][2] == TOOL and whole["usage"]["cacheReadInputTokens"] == 90
    kinds = [next(iter(event)) for event in aws.converse_stream(**ask)["stream"]]
    assert kinds[0] == "messageStart" and kinds[-2:] == ["messageStop", "metadata"]
    assert aws.count_tokens(modelId=CLAUDE, input={"converse": {"messages": ask["messages"]}})["inputTokens"] > 0
    with pytest.raises(botocore.exceptions.EventStreamError):
        list(aws.converse_stream(**{**ask, "modelId": "throttled"})["stream"])
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        vendors_client(service, "not the secret").converse(**ask)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("model", [CLAUDE, "by-key", ARN])
def test_an_answer_comes_whole_and_streamed_with_every_kind_of_credential(client: OpenAI, model: str) -> None:
    ask: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    answer = client.chat.completions.create(**ask)
    text = answer.choices[0].message.content or ""
    assert text.startswith("Hello from") and answer.choices[0].finish_reason == "stop"
    stream = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == text
    for usage in (answer.usage, stream[-1].usage):
        assert usage is not None and usage.prompt_tokens == 105 and usage.completion_tokens == USAGE["outputTokens"]
        assert usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens == 90


def test_a_signature_with_the_wrong_secret_is_the_operators_fault(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="forged", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.status_code == 502 and caught.value.code == "upstream_auth"


def test_a_tool_loop_with_thinking_goes_round(claude: Anthropic, service: Bedrock) -> None:
    tools: Any = [{"name": "weather", "description": "tells it", "input_schema": {"type": "object"}}]
    messages: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    ask: Any = {"model": "tools", "max_tokens": 2000, "tools": tools}
    answer = claude.messages.create(messages=messages, **ask)
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use"]
    assert answer.stop_reason == "tool_use" and answer.content[2].input == TOOL["toolUse"]["input"]
    with claude.messages.stream(messages=messages, **ask) as stream:
        streamed = stream.get_final_message().content
    assert [block.type for block in streamed] == ["thinking", "text", "tool_use"]
    assert (streamed[0], streamed[1].text, streamed[2].input) == (answer.content[0], "I look.", answer.content[2].input)
    messages += [{"role": "assistant", "content": [block.to_dict() for block in answer.content]},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "tool-1", "content": "sunny"}]}]
    claude.messages.create(messages=messages, **ask)
    sent = service.seen[-1]["body"]["messages"]
    assert sent[1]["content"] == [THOUGHT, {"text": "I look."}, TOOL]
    assert sent[2]["content"] == [{"toolResult": {"toolUseId": "tool-1", "content": [{"text": "sunny"}]}}]


def test_everything_that_converse_can_say_passes_the_services_own_check(client: OpenAI, claude: Anthropic, service: Bedrock) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    reply = client.chat.completions.with_raw_response.create(
        model=CLAUDE, temperature=0.5, top_p=0.9, stop=["END"], max_completion_tokens=50, seed=7, reasoning_effort="high",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
                {"type": "file", "file": {"filename": "a_b.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"}}]}],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], tool_choice="required",
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}})
    assert "seed" in reply.headers["penstock-dropped-params"].split(", ")
    body = service.seen[-1]["body"]
    assert body["inferenceConfig"] == {"maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    assert json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]) == {"type": "object"}
    assert [next(iter(block)) for block in body["messages"][0]["content"]] == ["text", "image", "document"]
    claude.messages.create(
        model=CLAUDE, max_tokens=4000, extra_body={"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": "hi"}])
    body = service.seen[-1]["body"]
    assert body["system"] == [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]
    assert body["additionalModelRequestFields"]["top_k"] == 5


@pytest.mark.parametrize("model, reason", [("long", "length"), ("guarded", "content_filter")])
def test_reasons_to_stop_keep_their_meaning(client: OpenAI, model: str, reason: str) -> None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].finish_reason == reason


@pytest.mark.parametrize("model, status, code", [("busy", 429, "upstream_rate_limited"), ("strange", 502, "upstream_auth")])
def test_a_refusal_has_its_meaning(client: OpenAI, model: str, status: int, code: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize("model", ["cut", "throttled"])
def test_a_broken_stream_raises_in_both_sdks(client: OpenAI, claude: Anthropic, model: str) -> None:
    ask: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(openai.APIError):
        for _ in client.chat.completions.create(stream=True, **ask):
            pass
    with pytest.raises(anthropic.APIError), claude.messages.stream(max_tokens=100, **ask) as stream:
        stream.get_final_message()


def test_an_image_by_address_is_refused_and_not_left_out(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=CLAUDE, messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}}]}])
    assert caught.value.code == "unsupported"
