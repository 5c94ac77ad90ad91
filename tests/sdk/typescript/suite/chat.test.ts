import assert from "node:assert/strict";
import { test } from "node:test";
import { client, hello, lastSeen, scripted } from "./common.ts";

const weather = {
  type: "function" as const,
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

for (const model of ["mock", "upstream"]) {
  test(`${model}: a whole answer has content, reason and usage`, async () => {
    const answer = await client.chat.completions.create({ model, messages: hello, ...scripted({ text: "Hello there" }) });
    assert.equal(answer.choices[0].message.content, "Hello there");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage!.total_tokens, answer.usage!.prompt_tokens + answer.usage!.completion_tokens);
    assert.ok(answer.usage!.prompt_tokens > 0);
  });

  test(`${model}: a stream adds up, in several pieces, and brings usage only when asked`, async () => {
    const text = "One two three, and a naïve 🦀 walks into a bar.";
    for (const wanted of [false, true]) {
      const stream = await client.chat.completions.create({
        model,
        messages: hello,
        stream: true,
        ...(wanted ? { stream_options: { include_usage: true } } : {}),
        ...(scripted({ text }) as object),
      });
      let said = "";
      let pieces = 0;
      let counted = 0;
      for await (const chunk of stream) {
        const piece = chunk.choices[0]?.delta.content ?? "";
        said += piece;
        pieces += piece ? 1 : 0;
        counted += chunk.usage ? 1 : 0;
      }
      assert.equal(said, text);
      assert.ok(pieces > 3);
      assert.equal(counted, wanted ? 1 : 0);
    }
  });

  test(`${model}: tool calls arrive whole and in a stream`, async () => {
    const script = scripted({ tool_calls: [{ name: "get_weather", arguments: { city: "Paris" } }] }) as object;
    const answer = await client.chat.completions.create({ model, messages: hello, tools: [weather], ...script });
    const call = answer.choices[0].message.tool_calls![0];
    assert.ok(call.type === "function");
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
    assert.equal(answer.choices[0].finish_reason, "tool_calls");

    const runner = client.chat.completions.stream({ model, messages: hello, tools: [weather], ...script });
    const final = await runner.finalChatCompletion();
    const streamed = final.choices[0].message.tool_calls![0];
    assert.ok(streamed.type === "function");
    assert.deepEqual(JSON.parse(streamed.function.arguments), { city: "Paris" });
  });

  test(`${model}: n, logprobs and max tokens`, async () => {
    const answer = await client.chat.completions.create({
      model,
      messages: hello,
      n: 2,
      logprobs: true,
      top_logprobs: 1,
      max_completion_tokens: 3,
      ...(scripted({ text: "a b c d e f" }) as object),
    });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.choices[0].logprobs!.content!.length, 3);
  });
}

test("images and unknown members reach the vendor unchanged, the gateway's own member does not", async () => {
  const content = [
    { type: "text" as const, text: "what is this?" },
    { type: "image_url" as const, image_url: { url: "data:image/png;base64,AAAA", detail: "low" as const } },
  ];
  await client.chat.completions.create({
    model: "upstream",
    messages: [{ role: "user", content }],
    ...({ future: { a: [1, null] }, penstock: { tags: { a: "b" } } } as object),
  });
  const body = await lastSeen();
  assert.deepEqual((body.messages as { content: unknown }[])[0].content, content);
  assert.deepEqual(body.future, { a: [1, null] });
  assert.ok(!("penstock" in body));
  assert.equal(body.model, "vendor-model-1");
});

test("completions, whole and streamed", async () => {
  const ask = { model: "upstream", prompt: "once upon", ...(scripted({ text: "a time there was" }) as object) };
  assert.equal((await client.completions.create(ask)).choices[0].text, "a time there was");
  let said = "";
  for await (const chunk of await client.completions.create({ ...ask, stream: true })) said += chunk.choices[0]?.text ?? "";
  assert.equal(said, "a time there was");
});
