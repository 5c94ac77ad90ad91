"""Providers of kind `gemini` in front of the mock's Gemini surface, proven by Google's own client first.

No Gemini server can be reached from here: the surface is a fake, made from Google's public API description. The google-genai
SDK drives it, and its types judge every request body among the golden files of the dialect.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Iterator

import anthropic
import openai
import pytest
from anthropic import Anthropic
from google import genai
from google.genai import errors, types
from openai import OpenAI

import harness

GOLDEN = harness.ROOT / "crates" / "dialect" / "tests" / "fixtures" / "gemini" / "requests"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
CALLS = [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_weather", "arguments": {"city": "Oslo"}, "id": "fc-2"}]
SCRIPTS: dict[str, dict[str, Any]] = {
    "tools": {"reasoning": "let me see", "tool_calls": CALLS},
    "think": {"reasoning": "let me see", "text": "forty-two"},
    "schema": {"text": '{"city": "Paris"}'},
    "blocked": {"text": "", "finish_reason": "content_filter"},
    "withheld": {"text": "Well, ", "finish_reason": "content_filter"},
    "counted": {"text": "a b c", "usage": {"prompt_tokens": 30, "completion_tokens": 9, "cached_tokens": 12, "reasoning_tokens": 4}},
    "key": {"status": 400, "body": {"error": {
        "code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}},
    "busy": {"status": 429, "body": [{"error": {
        "code": 429, "message": "You exceeded your current quota.", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]}}]},
    "error-event": {"text": "a b c d e f", "error_event": 3},
    "no-end": {"text": "a b c d e f", "omit_done": True},
    "shaped": {"text": "One two, a naïve 🦀.", "crlf": True, "comments": True, "chunk_bytes": 3},
}
# The model of the third generation demands a signature on calls.
NAMES = ("gemini-3-pro-preview", "gemini-2.5-flash")


def script() -> dict[str, Any]:
    rules = [{"when": {"text_contains": f"[{name}]"}, "do": act} for name, act in SCRIPTS.items()]
    return {"rules": rules}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Mock]:
    process = harness.Mock(tmp_path_factory.mktemp("gemini-mock"), script())
    yield process
    process.kill()


@pytest.fixture(scope="module")
def gateway(fake: harness.Mock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Gateway]:
    folder: pathlib.Path = tmp_path_factory.mktemp("gemini")
    config = {
        "providers": {"google": {"kind": "gemini", "base_url": f"{fake.url}/v1beta", "api_key": "${GEMINI_API_KEY}"}},
        "models": {name: {"provider": "google", "model": name} for name in (*NAMES, "gemini-embedding-001")},
        "keys": [{"name": "suite", "key": "${SUITE_KEY}", "team": "suite", "scopes": ["*"]}],
        "teams": {"suite": {}},
    }
    env = {"GEMINI_API_KEY": "AIza-upstream-never-to-be-seen", "SUITE_KEY": harness.new_secret()}
    process = harness.Gateway(folder, config, env)
    yield process
    log = process.log()
    process.kill()
    assert "panicked" not in log and "never-to-be-seen" not in log, log[-4000:]


@pytest.fixture(scope="module")
def google(fake: harness.Mock) -> genai.Client:
    return genai.Client(api_key="AIza-test", http_options=types.HttpOptions(base_url=fake.url))


@pytest.fixture(scope="module")
def gpt(gateway: harness.Gateway) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.env["SUITE_KEY"], max_retries=0, timeout=harness.PATIENCE)


@pytest.fixture(scope="module")
def claude(gateway: harness.Gateway) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key=gateway.env["SUITE_KEY"], max_retries=0, timeout=harness.PATIENCE)


# === the oracle: Google's types ===

class Body(types._common.BaseModel):
    """The body of generateContent; unknown members are an error in it and in everything below it."""

    model: str | None = None
    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    generation_config: types.GenerationConfig | None = None
    service_tier: types.ServiceTier | None = None


class Count(types._common.BaseModel):
    generate_content_request: Body


class Embedding(types._common.BaseModel):
    model: str
    content: types.Content
    output_dimensionality: int | None = None


class Embeddings(types._common.BaseModel):
    requests: list[Embedding]


def golden() -> dict[str, Any]:
    bodies = {}
    for path in sorted(GOLDEN.glob("*.snap")):
        text = path.read_text("utf-8").split("---\n", 2)[2]
        first, body = text.split("\n", 1)
        assert first.startswith("dropped "), f"{path.name} holds no body"
        bodies[path.stem] = json.loads(body)
    return bodies


@pytest.mark.parametrize("name", golden())
def test_every_golden_body_is_what_googles_types_allow(name: str) -> None:
    body = golden()[name]
    kind = {"count": Count, "embedding": Embeddings}.get(name, Body)
    read = kind.model_validate(body)
    written = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert plain(written) == plain(body)


def plain(value: Any) -> Any:
    """The same value with bytes in one of base64's two alphabets; everything else must come back as it was."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        coded = ("data", "thoughtSignature")
        return {name: item.replace("-", "+").replace("_", "/") if name in coded else plain(item) for name, item in value.items()}
    return value


def test_the_oracle_refuses_what_the_api_does_not_have() -> None:
    for wrong in ({"contents": [], "temperature": 1}, {"contents": [{"role": "user", "parts": [{"txt": "x"}]}]}):
        with pytest.raises(ValueError):
            Body.model_validate(wrong)


# === the fake, driven by Google's client ===

def test_googles_client_gets_an_answer_whole_and_streamed(google: genai.Client) -> None:
    whole = google.models.generate_content(model=NAMES[0], contents="hello there")
    assert whole.text and "hello there" in whole.text
    assert whole.candidates and whole.candidates[0].finish_reason == types.FinishReason.STOP
    assert whole.usage_metadata and whole.usage_metadata.total_token_count
    pieces = [piece.text or "" for piece in google.models.generate_content_stream(model=NAMES[0], contents="hello there")]
    assert "".join(pieces) == whole.text and len(pieces) > 3


def test_googles_client_runs_tools_in_a_chat_with_thoughts_and_signatures(google: genai.Client) -> None:
    tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)])
    config = types.GenerateContentConfig(
        tools=[tool], thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True))
    chat = google.chats.create(model=NAMES[0], config=config)
    first = chat.send_message("weather? [tools]")
    calls = first.function_calls or []
    assert [(call.name, call.args, call.id) for call in calls] == [
        ("get_weather", {"city": "Paris"}, None), ("get_weather", {"city": "Oslo"}, "fc-2")]
    assert first.candidates and first.candidates[0].content and first.candidates[0].content.parts
    assert first.candidates[0].content.parts[0].thought
    results = [types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "7"}))
               for call in calls]
    assert chat.send_message(results).candidates
    # Without its signature the call is refused, as by the models themselves.
    bare = types.Content(role="model", parts=[types.Part(function_call=calls[0])])
    result = types.Content(role="user", parts=[results[0]])
    with pytest.raises(errors.ClientError, match="thought_signature"):
        google.models.generate_content(model=NAMES[0], contents=["x", bare, result])


def test_googles_client_sees_blocked_prompts_errors_counts_and_vectors(google: genai.Client) -> None:
    blocked = google.models.generate_content(model=NAMES[0], contents="[blocked]")
    assert not blocked.candidates
    assert blocked.prompt_feedback and blocked.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT
    with pytest.raises(errors.ClientError) as refused:
        google.models.generate_content(model=NAMES[0], contents="[busy]")
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    counted = google.models.count_tokens(model=NAMES[0], contents="one two three").total_tokens
    usage = google.models.generate_content(model=NAMES[0], contents="one two three").usage_metadata
    assert counted and usage and counted == usage.prompt_token_count
    vectors = google.models.embed_content(
        model="gemini-embedding-001", contents=["a", "b"], config=types.EmbedContentConfig(output_dimensionality=8)).embeddings
    assert vectors and [len(vector.values or []) for vector in vectors] == [8, 8]


# === Penstock in front of it ===

def test_an_openai_client_chats_whole_and_streamed(gpt: OpenAI) -> None:
    for model in NAMES:
        asks: dict[str, Any] = {"model": model, "messages": [
            {"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]}
        whole = gpt.chat.completions.create(**asks)
        assert "hello there" in (whole.choices[0].message.content or "")
        assert whole.choices[0].finish_reason == "stop" and whole.usage and whole.usage.prompt_tokens > 0
        stream = list(gpt.chat.completions.create(**asks, stream=True, stream_options={"include_usage": True}))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert said == whole.choices[0].message.content and len(stream) > 3
        assert stream[-1].usage == whole.usage


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", NAMES)
def test_an_openai_client_runs_parallel_tools_and_brings_the_signature_back(gpt: OpenAI, model: str, stream: bool) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
    messages: list[Any] = [{"role": "user", "content": "weather? [tools]"}]
    if stream:
        with gpt.chat.completions.stream(model=model, messages=messages, tools=tools, reasoning_effort="low") as events:
            for _ in events:
                pass
            message = events.get_final_completion().choices[0].message
    else:
        answer = gpt.chat.completions.create(model=model, messages=messages, tools=tools, reasoning_effort="low")
        assert answer.choices[0].finish_reason == "tool_calls"
        message = answer.choices[0].message
    calls = message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls if call.type == "function"] == [{"city": "Paris"}, {"city": "Oslo"}]
    assert len({call.id for call in calls}) == 2 and calls[1].id == "fc-2"
    assert calls[0].to_dict()["extra_content"] == {"google": {"thought_signature": "bW9jaw=="}}
    # Out of order, as tools may end.
    results = [{"role": "tool", "tool_call_id": call.id, "content": "7"} for call in reversed(calls)]
    turn = {"role": "assistant", "tool_calls": [call.to_dict() for call in calls]}
    last = gpt.chat.completions.create(model=model, messages=[*messages, turn, *results, {"role": "user", "content": "and now?"}])
    assert "and now?" in (last.choices[0].message.content or "")


def test_a_client_that_loses_the_signature_is_served_all_the_same(gpt: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages: list[Any] = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]},
                           {"role": "tool", "tool_call_id": "call_1", "content": "7"}, {"role": "user", "content": "so?"}]
    assert gpt.chat.completions.create(model=NAMES[0], messages=messages).choices[0].message.content


def test_images_schemas_settings_and_dropped_members(gpt: OpenAI, gateway: harness.Gateway) -> None:
    picture: Any = [{"type": "text", "text": "look [schema]"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
    answer = gpt.chat.completions.with_raw_response.create(
        model=NAMES[0], messages=[{"role": "user", "content": picture}], n=2, temperature=0.5, top_p=0.9, seed=7, stop=["END"],
        logprobs=True, top_logprobs=2, max_completion_tokens=50, logit_bias={"7": 1}, user="somebody",
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}})
    dropped = answer.headers["penstock-dropped-params"]
    assert sorted(name.strip() for name in dropped.split(",")) == ["logit_bias", "user"]
    completion = answer.parse()
    assert [json.loads(choice.message.content or "") for choice in completion.choices] == [{"city": "Paris"}] * 2
    logprobs = completion.choices[0].logprobs
    assert logprobs and logprobs.content and len(logprobs.content[0].top_logprobs) == 2


def test_usage_blocked_prompts_and_withheld_answers(gpt: OpenAI, claude: Anthropic) -> None:
    ask = lambda text, **more: gpt.chat.completions.create(  # noqa: E731
        model=NAMES[0], messages=[{"role": "user", "content": text}], **more)
    usage = ask("[counted]").usage
    assert usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (30, 9, 39)
    assert usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens == 12
    assert usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens == 4
    choice = ask("[withheld]").choices[0]
    assert choice.finish_reason == "content_filter" and choice.message.content == "Well, "
    ends = [chunk.choices[0].finish_reason for chunk in ask("[withheld]", stream=True) if chunk.choices]
    assert ends[-1] == "content_filter"
    message = claude.messages.create(model=NAMES[0], max_tokens=50, messages=[{"role": "user", "content": "[withheld]"}])
    assert message.stop_reason == "refusal"
    # A prompt that is refused before a word was said is an error, as it is with every other vendor.
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError) as refused:
            ask("[blocked]", **more)
        assert refused.value.code == "content_filtered"


def test_errors_become_the_askers(gpt: OpenAI, claude: Anthropic) -> None:
    ask: Any = {"model": NAMES[0], "messages": [{"role": "user", "content": "[busy]"}]}
    with pytest.raises(openai.RateLimitError) as busy:
        gpt.chat.completions.create(**ask)
    assert busy.value.code == "upstream_rate_limited" and busy.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(**ask, max_tokens=9)
    ask["messages"][0]["content"] = "[key]"
    with pytest.raises(openai.InternalServerError) as key:
        gpt.chat.completions.create(**ask)
    assert key.value.code == "upstream_auth"
    for broken in ("[error-event]", "[no-end]"):
        ask["messages"][0]["content"] = broken
        with pytest.raises(openai.APIError):
            list(gpt.chat.completions.create(**ask, stream=True))
    ask["messages"][0]["content"] = "[shaped]"
    chunks = gpt.chat.completions.create(**ask, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "One two, a naïve 🦀."


@pytest.mark.parametrize("model", NAMES)
def test_an_anthropic_client_thinks_calls_tools_and_goes_on(claude: Anthropic, model: str) -> None:
    tools: Any = [{"name": "get_weather", "input_schema": SCHEMA}]
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    first: Any = {"role": "user", "content": "weather? [tools]"}
    with claude.messages.stream(model=model, max_tokens=2048, thinking=thinking, tools=tools, messages=[first]) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
    assert message.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "7"} for block in message.content if block.type == "tool_use"]
    second: Any = {"role": "user", "content": [*results, {"type": "text", "text": "and now? [think]"}]}
    last = claude.messages.create(
        model=model, max_tokens=2048, thinking=thinking, tools=tools,
        messages=[first, {"role": "assistant", "content": message.content}, second])
    texts = [block.text for block in last.content if block.type == "text"]
    assert texts == ["forty-two"] and last.content[0].type == "thinking"
    third: Any = {"role": "user", "content": "thanks"}
    turns: Any = [first, {"role": "assistant", "content": message.content}, second, {"role": "assistant", "content": last.content}, third]
    assert claude.messages.create(model=model, max_tokens=2048, tools=tools, messages=turns).content


def test_counts_and_vectors_reach_their_own_paths(gpt: OpenAI, claude: Anthropic) -> None:
    asks: Any = {"model": NAMES[0], "system": "one two", "messages": [{"role": "user", "content": "three four five"}]}
    count = claude.messages.count_tokens(**asks)
    assert count.input_tokens > 4 and count.input_tokens == claude.messages.create(**asks, max_tokens=9).usage.input_tokens
    rows = gpt.embeddings.create(model="gemini-embedding-001", input=["a", "b"], dimensions=8).data
    assert [len(row.embedding) for row in rows] == [8, 8] and rows[0].embedding != rows[1].embedding
