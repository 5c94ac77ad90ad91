// OpenAI's SDK over responses: answers, streams, tools, and what was said before.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { client, lastSeen, narrowKey, scripts, stats, thrown, until, url } from "./common.ts";

type Ask = OpenAI.Responses.ResponseCreateParamsNonStreaming;
type Item = OpenAI.Responses.ResponseInputItem;

const outside = ["upstream", "messages", "chats"];
const everywhere = ["mock", ...outside];
const weather: OpenAI.Responses.FunctionTool = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  strict: true,
};

/** A request that is answered by a script. */
function say(model: string, name: string, members: Partial<Ask> = {}, before: Item[] = []): Ask {
  const input: Item[] = [...before, { role: "user", content: `[${name}]` }];
  return { model, input, ...members, ...(model === "mock" ? { mock: scripts[name] } : {}) } as Ask;
}

/** The SDK's exception, with the gateway's stable code. */
function checked(error: unknown, status: number, code: string): void {
  assert.ok(error instanceof OpenAI.APIError, String(error));
  assert.deepEqual([error.status, error.code], [status, code]);
}

for (const model of everywhere) {
  test(`responses, ${model}: a whole answer and a stream say the same, and both can be read again`, async () => {
    const whole = await client.responses.create(say(model, "naive"));
    assert.equal(whole.output_text, scripts.naive.text);
    assert.equal(whole.status, "completed");
    assert.deepEqual((await client.responses.retrieve(whole.id)).output, whole.output);

    const pieces: string[] = [];
    const stream = client.responses.stream(say(model, "naive")).on("response.output_text.delta", (event) => pieces.push(event.delta));
    const final = await stream.finalResponse();
    assert.ok(pieces.length > 3);
    assert.equal(pieces.join(""), scripts.naive.text);
    assert.deepEqual(final.usage, whole.usage);
    assert.deepEqual((await client.responses.retrieve(final.id)).usage, final.usage);
  });

  test(`responses, ${model}: events come in order`, async () => {
    const kinds: string[] = [];
    for await (const event of await client.responses.create({ ...say(model, "short"), stream: true })) kinds.push(event.type);
    const pieces = kinds.filter((kind) => kind === "response.output_text.delta");
    assert.ok(pieces.length > 3);
    const begin = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"];
    const end = ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"];
    assert.deepEqual(kinds, [...begin, ...pieces, ...end]);
  });

  test(`responses, ${model}: tool calls arrive whole and in a stream`, async () => {
    const ask = say(model, "both", { tools: [weather, { ...weather, name: "get_time" }] });
    for (const answer of [await client.responses.create(ask), await client.responses.stream(ask).finalResponse()]) {
      const calls = answer.output.map((item) => (item.type === "function_call" ? [item.name, JSON.parse(item.arguments)] : item.type));
      assert.deepEqual(calls, [["get_weather", { city: "Paris" }], ["get_time", {}]]);
    }
  });

  test(`responses, ${model}: input items are everything that was asked, and what is deleted is gone`, async () => {
    const first = await client.responses.create(say(model, "short"));
    const second = await client.responses.create(say(model, "naive", { previous_response_id: first.id }));
    const said: string[] = [];
    for await (const item of client.responses.inputItems.list(second.id, { order: "asc", limit: 1 })) {
      if (item.type === "message") said.push((item.content[0] as { text: string }).text);
    }
    assert.deepEqual(said, ["[short]", scripts.short.text, "[naive]"]);
    await client.responses.delete(second.id);
    checked(await thrown(() => client.responses.retrieve(second.id)), 404, "not_found");
    const on = say(model, "short", { previous_response_id: second.id });
    checked(await thrown(() => client.responses.create(on)), 400, "previous_response_not_found");
  });
}

for (const model of outside) {
  test(`responses, ${model}: a tool loop goes on from what is stored`, async () => {
    const first = await client.responses.create(say(model, "weather", { tools: [weather] }));
    const call = first.output.find((item) => item.type === "function_call");
    assert.ok(call);
    const result: Item = { type: "function_call_output", call_id: call.call_id, output: "sunny, 21 degrees" };
    const second = await client.responses.create(say(model, "short", { tools: [weather], previous_response_id: first.id }, [result]));
    assert.equal(second.output_text, scripts.short.text);
    const sent = JSON.stringify(await lastSeen());
    assert.ok(sent.includes("[weather]") && sent.includes(call.call_id) && sent.includes("sunny, 21 degrees"));
  });

  test(`responses, ${model}: a stream that breaks ends as failed`, async () => {
    const kinds: string[] = [];
    const name = model === "chats" ? "error-event" : "no-end";
    for await (const event of await client.responses.create({ ...say(model, name), stream: true })) kinds.push(event.type);
    assert.equal(kinds.at(-1), "response.failed");
    assert.ok(!kinds.includes("response.completed"));
  });
}

test("responses: a stream that is left ends the upstream call and is not stored", async () => {
  const before = (await stats()).streams_aborted;
  let id = "";
  for await (const event of await client.responses.create({ ...say("upstream", "slow"), stream: true })) {
    if (event.type === "response.created") id = event.response.id;
    if (event.type === "response.output_text.delta") break;
  }
  await until(async () => (await stats()).streams_aborted > before, "the upstream call ends");
  checked(await thrown(() => client.responses.retrieve(id)), 404, "not_found");
});

test("responses: nothing is stored where the asker forbids it, and nobody reads what another key stored", async () => {
  const passing = await client.responses.create(say("upstream", "short", { store: false }));
  checked(await thrown(() => client.responses.retrieve(passing.id)), 404, "not_found");
  const mine = await client.responses.create(say("mock", "short"));
  const narrow = new OpenAI({ baseURL: `${url}/v1`, apiKey: narrowKey, maxRetries: 0 });
  const on = say("mock", "short", { previous_response_id: mine.id });
  checked(await thrown(() => narrow.responses.create(on)), 400, "previous_response_not_found");
});

for (const model of everywhere) {
  test(`responses, ${model}: tokens are counted without an answer`, async () => {
    const ask = { model, instructions: "Be kind.", tools: [weather] };
    const few = await client.responses.inputTokens.count({ ...ask, input: "hello" });
    assert.equal(few.object, "response.input_tokens");
    const more = await client.responses.inputTokens.count({ ...ask, input: "hello ".repeat(40) });
    assert.ok(few.input_tokens > 2 && more.input_tokens > few.input_tokens, `${few.input_tokens}, ${more.input_tokens}`);
  });
}
