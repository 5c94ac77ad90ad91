import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { client, hello, mend, narrowKey, scripted, stats, thrown, until, url } from "./common.ts";

async function consume(script: Record<string, unknown>, model = "upstream"): Promise<string> {
  let said = "";
  const stream = await client.chat.completions.create({ model, messages: hello, stream: true, ...(scripted(script) as object) });
  for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
  return said;
}

test("each refusal is the SDK's own exception with a stable code", async () => {
  const ask = (script: Record<string, unknown>, model = "upstream") =>
    thrown(() => client.chat.completions.create({ model, messages: hello, ...scripted(script) }));
  const wrong = new OpenAI({ baseURL: `${url}/v1`, apiKey: "pk_wrong", maxRetries: 0 });
  const narrow = new OpenAI({ baseURL: `${url}/v1`, apiKey: narrowKey, maxRetries: 0 });

  const authentication = await thrown(() => wrong.models.list());
  assert.ok(authentication instanceof OpenAI.AuthenticationError);
  assert.equal(authentication.code, "invalid_api_key");
  assert.ok(authentication.requestID);

  const permission = await thrown(() => narrow.embeddings.create({ model: "embed", input: "x" }));
  assert.ok(permission instanceof OpenAI.PermissionDeniedError);
  assert.equal(permission.code, "insufficient_scope");

  const missing = await ask({}, "no-such-model");
  assert.ok(missing instanceof OpenAI.NotFoundError);
  assert.equal(missing.code, "model_not_found");

  const bad = await thrown(() => client.chat.completions.create({ model: "small", messages: hello, temperature: 99 }));
  assert.ok(bad instanceof OpenAI.BadRequestError);
  assert.equal(bad.param, "temperature");

  const rate = await ask({ status: 429, retry_after: 7 });
  assert.ok(rate instanceof OpenAI.RateLimitError);
  assert.equal(rate.code, "upstream_rate_limited");
  assert.equal(rate.headers!.get("retry-after"), "7");
  await mend();

  const server = await ask({ status: 500 });
  assert.ok(server instanceof OpenAI.InternalServerError);
  assert.equal(server.code, "upstream_error");

  const html = await ask({ raw_body: "<html>", content_type: "text/html" });
  assert.ok(html instanceof OpenAI.InternalServerError);
  assert.equal(html.code, "upstream_bad_response");
});

test("the client's own timeout is the SDK's exception", async () => {
  const error = await thrown(() =>
    client.chat.completions.create(
      // A stream, because for a whole answer the gateway honours the SDK's time-out and may be the first to say so.
      { model: "upstream", messages: hello, stream: true, ...(scripted({ hang: "before_headers" }) as object) },
      { timeout: 500 },
    ),
  );
  assert.ok(error instanceof OpenAI.APIConnectionTimeoutError);
});

test("a failed stream throws, whether it errs, breaks or babbles", async () => {
  for (const [fault, code] of [
    [{ error_event: 4 }, "upstream_error"],
    [{ malformed_event: 4 }, "upstream_bad_response"],
    [{ cut_at_byte: 700 }, "upstream_stream_cut"],
  ] as const) {
    const error = await thrown(() => consume({ text: "a b c d e f g h", ...fault }));
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.equal(error.code, code);
  }
});

test("a stream cut at any byte is never taken for a whole answer", async () => {
  const script = { text: "one two three four" };
  const whole = await consume(script);
  let raised = 0;
  for (let at = 0; at < 1_500; at += 41) {
    try {
      assert.equal(await consume({ ...script, cut_at_byte: at, cut: "fin" }), whole, `cut at ${at}`);
    } catch (error) {
      if (!(error instanceof OpenAI.APIError)) throw error;
      raised += 1;
    }
  }
  assert.ok(raised > 15, `only ${raised} cuts were noticed`);
});

test("the SDK's retries recover from a vendor that stumbles", async () => {
  const script = { status: 503, repeat: 2, key: "typescript-retry", then: { text: "third time lucky" } };
  const answer = await client.chat.completions.create({ model: "upstream", messages: hello, ...scripted(script) }, { maxRetries: 3 });
  assert.equal(answer.choices[0].message.content, "third time lucky");
});

test("an AbortController stops the upstream, in a stream and before the first byte", async () => {
  const aborted = async () => (await stats()).streams_aborted + (await stats()).wholes_aborted;
  const before = await aborted();
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { model: "upstream", messages: hello, stream: true, ...(scripted({ text: "word ".repeat(400), inter_token_ms: 50 }) as object) },
    { signal: controller.signal },
  );
  for await (const _ of stream) {
    controller.abort();
    break;
  }
  await until(async () => (await aborted()) === before + 1, "the mock sees the stream's end");

  const early = new AbortController();
  const running = (await stats()).in_flight;
  const waiting = thrown(() =>
    client.chat.completions.create(
      { model: "upstream", messages: hello, ...scripted({ latency_ms: 120_000 }) },
      { signal: early.signal },
    ),
  );
  await until(async () => (await stats()).in_flight > running, "the request has reached the mock");
  early.abort();
  assert.ok((await waiting) instanceof OpenAI.APIUserAbortError);
  await until(async () => (await aborted()) === before + 2, "the mock sees the cancellation");
});

test("models are listed and retrieved, and a narrow key sees its own only", async () => {
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(["mock", "upstream", "small", "embed"].every((id) => ids.includes(id)));
  assert.equal((await client.models.retrieve("small")).id, "small");
  const narrow = new OpenAI({ baseURL: `${url}/v1`, apiKey: narrowKey, maxRetries: 0 });
  const seen: string[] = [];
  for await (const model of narrow.models.list()) seen.push(model.id);
  assert.deepEqual(seen, ["mock"]);
});

test("raw responses carry the request id and the gateway's headers", async () => {
  const { response, data } = await client.chat.completions.create({ model: "upstream", messages: hello }).withResponse();
  assert.ok(response.headers.get("x-request-id"));
  assert.equal(response.headers.get("penstock-provider"), "outer");
  assert.ok(data.choices.length);
});

test("many requests at once do not mix", async () => {
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, number) =>
      client.chat.completions.create({ model: "upstream", messages: hello, ...scripted({ text: `answer ${number}` }) }),
    ),
  );
  assert.deepEqual(answers.map((answer) => answer.choices[0].message.content), Array.from({ length: 40 }, (_, n) => `answer ${n}`));
});
