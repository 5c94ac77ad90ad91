// Anthropic's SDK over every way a message can take: in process, translated, and in the vendor's own dialect.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { claude, cuts, lastRequest, lastSeen, narrowKey, play, scripts, stats, thrown, until, url } from "./common.ts";

const outside = ["upstream", "messages"];
const everywhere = ["mock", ...outside];
const weather: Anthropic.Tool = {
  name: "get_weather",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const images: Anthropic.ContentBlockParam[] = [
  { type: "text", text: "what is this?" },
  { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
  { type: "image", source: { type: "url", url: "https://images.example/cat.png" } },
];

function text(message: Anthropic.Message): string {
  return message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

/** The SDK's exception of this kind, with the gateway's stable code. */
function checked(error: unknown, kind: abstract new (...args: never[]) => Error, status: number | undefined, code: string): Anthropic.APIError {
  assert.ok(error instanceof kind && error instanceof Anthropic.APIError, String(error));
  assert.equal(error.status, status);
  assert.equal((error.error as { error: { code: string } }).error.code, code);
  return error;
}

for (const model of everywhere) {
  test(`messages, ${model}: a whole answer and a stream say the same and count the same`, async () => {
    const whole = await claude.messages.create(play(model, "naive"));
    assert.equal(text(whole), scripts.naive.text);
    assert.deepEqual([whole.type, whole.role, whole.stop_reason], ["message", "assistant", "end_turn"]);
    assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 3);

    const pieces: string[] = [];
    const stream = claude.messages.stream(play(model, "naive")).on("text", (piece) => pieces.push(piece));
    const final = await stream.finalMessage();
    assert.ok(pieces.length > 3);
    assert.equal(pieces.join(""), text(final));
    assert.equal(text(final), scripts.naive.text);
    assert.equal(final.stop_reason, "end_turn");
    assert.equal(final.usage.input_tokens, whole.usage.input_tokens);
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  });

  test(`messages, ${model}: tokens are counted without an answer`, async () => {
    const ask = { model, messages: [{ role: "user" as const, content: "say hello" }], system: "Be kind." };
    const { data, response } = await claude.messages.countTokens(ask).withResponse();
    assert.ok(data.input_tokens > 2);
    assert.equal(response.headers.get("penstock-estimated"), model === "upstream" ? "tokens" : null);
  });

  test(`messages, ${model}: events come in order`, async () => {
    const kinds: string[] = [];
    for await (const event of await claude.messages.create({ ...play(model, "short"), stream: true })) kinds.push(event.type);
    const pieces = kinds.filter((kind) => kind === "content_block_delta");
    assert.ok(pieces.length > 3);
    const expected = ["message_start", "content_block_start", ...pieces, "content_block_stop", "message_delta", "message_stop"];
    assert.deepEqual(kinds, expected);
  });

  test(`messages, ${model}: tool calls arrive whole and in a stream`, async () => {
    const ask = { ...play(model, "both"), tools: [weather, { ...weather, name: "get_time" }] };
    for (const answer of [await claude.messages.create(ask), await claude.messages.stream(ask).finalMessage()]) {
      const calls = answer.content.map((block) => (block.type === "tool_use" ? [block.name, block.input] : block.type));
      assert.deepEqual(calls, [["get_weather", { city: "Paris" }], ["get_time", {}]]);
      assert.equal(answer.stop_reason, "tool_use");
    }
  });

  test(`messages, ${model}: max tokens, thinking and a vendor's rate limit`, async () => {
    assert.equal((await claude.messages.create({ ...play(model, "many"), max_tokens: 3 })).stop_reason, "max_tokens");
    const thought = await claude.messages.stream(play(model, "think")).finalMessage();
    assert.deepEqual(thought.content.map((block) => block.type), ["thinking", "text"]);
    const limited = await thrown(() => claude.messages.create(play(model, "limited")));
    const error = checked(limited, Anthropic.RateLimitError, 429, "upstream_rate_limited");
    assert.deepEqual([error.headers!.get("retry-after"), error.headers!.get("x-should-retry")], ["7", "true"]);
  });
}

test("messages: a request with system, images and the result of a tool is translated for an OpenAI-shaped vendor", async () => {
  const { response } = await claude.messages
    .create({
      model: "upstream",
      max_tokens: 77,
      system: "Be kind.",
      stop_sequences: ["END"],
      tools: [weather],
      messages: [
        { role: "user", content: images },
        { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Paris" } }] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "sunny" }] },
      ],
      ...({ future: 1 } as object),
    })
    .withResponse();
  assert.equal(response.headers.get("penstock-dropped-params"), "future");
  const body = (await lastSeen()) as { messages: { role: string; content: unknown; tool_call_id?: string }[]; stop: unknown };
  assert.deepEqual(body.messages.map((message) => message.role), ["system", "user", "assistant", "tool"]);
  assert.equal(body.messages[0].content, "Be kind.");
  assert.deepEqual(body.messages[1].content, [
    { type: "text", text: "what is this?" },
    { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
    { type: "image_url", image_url: { url: "https://images.example/cat.png" } },
  ]);
  assert.deepEqual([body.messages[3].tool_call_id, body.messages[3].content], ["toolu_1", "sunny"]);
  assert.deepEqual(body.stop, ["END"]);
});

test("messages: the same dialect reaches the vendor as it is, with the operator's key", async () => {
  const body = {
    max_tokens: 99,
    system: [{ type: "text" as const, text: "Be kind.", cache_control: { type: "ephemeral" as const } }],
    messages: [{ role: "user" as const, content: images }],
    stop_sequences: ["END"],
    future: { a: [1, null] },
    mock: { text: "as it is" },
  };
  const { data, response } = await claude.messages
    .create({ model: "messages", ...body, ...({ penstock: { tags: { a: "b" } } } as object) })
    .withResponse();
  assert.equal(text(data), "as it is");
  assert.equal(response.headers.get("penstock-provider"), "claude");
  assert.equal(response.headers.get("penstock-dropped-params"), null);
  assert.equal(response.headers.get("request-id"), data._request_id);
  const seen = await lastRequest();
  assert.equal(seen.path, "/v1/messages");
  assert.deepEqual(JSON.parse(seen.body), { ...body, model: "vendor-model-2" });
  const names = seen.headers.map(([name]) => name);
  assert.ok(names.includes("x-api-key") && !names.includes("authorization"));
  assert.ok(!names.some((name) => name.startsWith("x-stainless")), "headers of the caller reached the vendor");
});

test("messages: each refusal is the SDK's own exception with a stable code", async () => {
  const wrong = new Anthropic({ baseURL: url, apiKey: "pk_wrong", maxRetries: 0 });
  const narrow = new Anthropic({ baseURL: url, apiKey: narrowKey, maxRetries: 0 });
  const authentication = await thrown(() => wrong.messages.create(play("mock", "short")));
  assert.ok(checked(authentication, Anthropic.AuthenticationError, 401, "invalid_api_key").requestID);
  const missing = await thrown(() => claude.messages.create(play("no-such-model", "short")));
  checked(missing, Anthropic.NotFoundError, 404, "model_not_found");
  checked(await thrown(() => narrow.messages.create(play("messages", "short"))), Anthropic.NotFoundError, 404, "model_not_found");
  const bad = await thrown(() => claude.messages.create({ ...play("mock", "short"), messages: [] }));
  checked(bad, Anthropic.BadRequestError, 400, "invalid_request");
  for (const model of outside) {
    const broken = await thrown(() => claude.messages.create(play(model, "broken")));
    checked(broken, Anthropic.InternalServerError, 502, "upstream_error");
    const html = await thrown(() => claude.messages.create(play(model, "html")));
    checked(html, Anthropic.InternalServerError, 502, "upstream_bad_response");
  }
});

for (const model of outside) {
  test(`messages, ${model}: a stream that errs or babbles throws`, async () => {
    for (const fault of ["error-event", "malformed-event"]) {
      const error = await thrown(() => claude.messages.stream(play(model, fault)).finalMessage());
      assert.ok(error instanceof Anthropic.APIError, String(error));
    }
  });

  test(`messages, ${model}: a stream cut at any byte is never taken for a whole answer`, async () => {
    const outcomes = { raised: 0, whole: 0 };
    for (const at of cuts) {
      const ask = play(model, `cut-fin-${at}`, { ...scripts.short, cut: "fin", cut_at_byte: at });
      try {
        const final = await claude.messages.stream(ask).finalMessage();
        assert.deepEqual([text(final), final.stop_reason], [scripts.short.text, "end_turn"], `cut at ${at}`);
        outcomes.whole += 1;
      } catch (error) {
        if (!(error instanceof Anthropic.APIError)) throw error;
        outcomes.raised += 1;
      }
    }
    assert.ok(outcomes.raised > 50 && outcomes.whole > 0, JSON.stringify(outcomes));
  });

  test(`messages, ${model}: leaving stops the upstream, in a stream and before the first byte`, async () => {
    const idle = async () => {
      await until(async () => (await stats()).in_flight === 0, "nothing is on its way");
      const { streams_aborted, wholes_aborted } = await stats();
      return streams_aborted + wholes_aborted;
    };
    const before = await idle();
    const stream = await claude.messages.create({ ...play(model, "slow"), stream: true });
    for await (const event of stream) if (event.type === "content_block_delta") break;
    assert.equal(await idle(), before + 1);

    const controller = new AbortController();
    const waiting = thrown(() => claude.messages.create(play(model, "never"), { signal: controller.signal }));
    await until(async () => (await stats()).in_flight === 1, "the request has reached the mock");
    controller.abort();
    assert.ok((await waiting) instanceof Anthropic.APIUserAbortError);
    assert.equal(await idle(), before + 2);
  });

  test(`messages, ${model}: many requests at once do not mix`, async () => {
    const names = Array.from({ length: 30 }, (_, n) => ["naive", "short", "many"][n % 3]);
    const answers = await Promise.all(names.map((name) => claude.messages.stream(play(model, name)).finalMessage()));
    assert.deepEqual(answers.map(text), names.map((name) => scripts[name].text));
  });
}

test("messages: the SDK's retries recover from a vendor that stumbles", async () => {
  const answer = await claude.messages.create(play("upstream", "stumble-typescript"), { maxRetries: 3 });
  assert.equal(text(answer), "third time lucky");
});

test("messages: the embedded model answers and streams the same words", async () => {
  const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
  const ask = { model: "small", messages, max_tokens: 24, ...({ temperature: 0 } as object) };
  const whole = await claude.messages.create(ask);
  assert.ok(text(whole).includes("Paris"));
  assert.equal(text(await claude.messages.stream(ask).finalMessage()), text(whole));
  const refused = await thrown(() => claude.messages.create({ ...ask, messages: [{ role: "user", content: images }] }));
  checked(refused, Anthropic.BadRequestError, 400, "unsupported");
});
