// The same request twice: answered once by the vendor, given again by the gateway, as the official SDKs see it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomUUID } from "node:crypto";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { claude, client, hello, play, scripted, stats, thrown, until } from "./common.ts";

const other = [{ role: "user" as const, content: "say goodbye" }];

/** A key of its own for each test, as a header of one request. */
function keyed(): { headers: Record<string, string> } {
  return { headers: { "Idempotency-Key": `ts-${randomUUID()}` } };
}

/** How often the vendor is asked while this runs. */
async function calls(work: () => Promise<void>): Promise<number> {
  const before = (await stats()).requests;
  await work();
  return (await stats()).requests - before;
}

/** An answer and the response that brought it. */
async function both<T>(promise: { withResponse(): Promise<{ data: T; response: Response }> }): Promise<[T, Headers]> {
  const { data, response } = await promise.withResponse();
  return [data, response.headers];
}

function replays(first: Headers, again: Headers): void {
  assert.equal(first.get("idempotent-replayed"), null);
  assert.equal(again.get("idempotent-replayed"), "true");
  assert.equal(again.get("penstock-original-request-id"), first.get("x-request-id"));
}

test("openai: a success is given again, and the vendor is asked once", async () => {
  const key = keyed();
  const ask = { model: "upstream", messages: hello, ...scripted({ text: "done once" }) };
  const asked = await calls(async () => {
    const [first, its] = await both(client.chat.completions.create(ask, key));
    const [again, theirs] = await both(client.chat.completions.create(ask, key));
    assert.equal(again.choices[0].message.content, "done once");
    assert.deepEqual(again, first);
    replays(its, theirs);
  });
  assert.equal(asked, 1);
});

test("openai: a stream is given again event for event", async () => {
  const key = keyed();
  const ask = { model: "upstream", messages: hello, ...(scripted({ text: "one two three" }) as object), stream: true as const };
  const read = async (): Promise<OpenAI.ChatCompletionChunk[]> => {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create(ask, key)) chunks.push(chunk);
    return chunks;
  };
  const asked = await calls(async () => {
    const first = await read();
    assert.ok(first.length > 3);
    assert.deepEqual(await read(), first);
  });
  assert.equal(asked, 1);
});

test("openai: another body under the same key is 422 and reaches no vendor", async () => {
  const key = keyed();
  await client.chat.completions.create({ model: "upstream", messages: hello }, key);
  const asked = await calls(async () => {
    const error = await thrown(() => client.chat.completions.create({ model: "upstream", messages: other }, key));
    assert.ok(error instanceof OpenAI.UnprocessableEntityError);
    assert.equal(error.code, "idempotency_key_reused");
  });
  assert.equal(asked, 0);
});

test("openai: who asks again while it runs waits and gets its answer", async () => {
  const patient = client.withOptions({ maxRetries: 6 });
  const key = keyed();
  const ask = { model: "upstream", messages: hello, ...scripted({ text: "done once", latency_ms: 900 }) };
  const asked = await calls(async () => {
    const before = (await stats()).requests;
    const running = client.chat.completions.create(ask, key);
    await until(async () => (await stats()).requests > before, "the first attempt runs");
    const [again, headers] = await both(patient.chat.completions.create(ask, key));
    assert.equal(headers.get("idempotent-replayed"), "true");
    assert.deepEqual(again, await running);
  });
  assert.equal(asked, 1);
});

test("openai: a failure is not kept", async () => {
  const key = keyed();
  const ask = { model: "upstream", messages: hello };
  const failing = { ...ask, ...scripted({ status: 400 }) };
  assert.ok((await thrown(() => client.chat.completions.create(failing, key))) instanceof OpenAI.BadRequestError);
  const [answer, headers] = await both(client.withOptions({ maxRetries: 6 }).chat.completions.create(ask, key));
  assert.equal(headers.get("idempotent-replayed"), null);
  assert.ok(answer.choices[0].message.content);
});

for (const model of ["messages", "upstream"]) {
  test(`anthropic, ${model}: a success is given again, and another body is 422`, async () => {
    const key = keyed();
    const asked = await calls(async () => {
      const [first, its] = await both(claude.messages.create(play(model, "short"), key));
      const [again, theirs] = await both(claude.messages.create(play(model, "short"), key));
      assert.ok(again.content[0].type === "text");
      assert.equal(again.content[0].text, "one two three four five six");
      assert.deepEqual(again, first);
      replays(its, theirs);
      const error = await thrown(() => claude.messages.create(play(model, "many"), key));
      assert.ok(error instanceof Anthropic.UnprocessableEntityError);
      assert.match(error.message, /idempotency/i);
    });
    assert.equal(asked, 1);
  });
}

test("anthropic: a stream is given again word for word", async () => {
  const key = keyed();
  const asked = await calls(async () => {
    const first = await claude.messages.stream(play("messages", "naive"), key).finalMessage();
    const again = await claude.messages.stream(play("messages", "naive"), key).finalMessage();
    assert.deepEqual(again, first);
    assert.ok(first.content[0].type === "text" && first.content[0].text.includes("🦀"));
  });
  assert.equal(asked, 1);
});
