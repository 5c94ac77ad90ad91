import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { client, thrown } from "./common.ts";

const capital = [{ role: "user" as const, content: "What is the capital of France?" }];

test("the embedded model answers and streams the same words", async () => {
  const ask = { model: "small", messages: capital, temperature: 0, max_tokens: 24 };
  const whole = await client.chat.completions.create(ask);
  let said = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    said += chunk.choices[0]?.delta.content ?? "";
  }
  assert.ok(said.length > 0);
  assert.equal(said, whole.choices[0].message.content);
});

test("structured output fits its schema", async () => {
  const answer = await client.chat.completions.create({
    model: "small",
    messages: [{ role: "user", content: "Paris. Answer as JSON." }],
    max_tokens: 120,
    temperature: 0,
    response_format: {
      type: "json_schema",
      json_schema: {
        name: "place",
        strict: true,
        schema: {
          type: "object",
          properties: { city: { type: "string", maxLength: 30 }, capital: { type: "boolean" } },
          required: ["city", "capital"],
          additionalProperties: false,
        },
      },
    },
  });
  const value = JSON.parse(answer.choices[0].message.content!) as Record<string, unknown>;
  assert.equal(typeof value.city, "string");
  assert.equal(typeof value.capital, "boolean");
});

test("embeddings, as floats and as the base64 that the SDK asks for", async () => {
  const floats = await client.embeddings.create({ model: "embed", input: ["a cat", "a dog"], encoding_format: "float" });
  const decoded = await client.embeddings.create({ model: "embed", input: "a cat" });
  assert.equal(floats.data.length, 2);
  assert.equal(floats.data[0].embedding.length, 384);
  const product = floats.data[0].embedding.reduce((sum, x, i) => sum + x * decoded.data[0].embedding[i], 0);
  assert.ok(product > 0.999, `the two forms differ: ${product}`);
});

test("an image is refused with a code", async () => {
  const error = await thrown(() =>
    client.chat.completions.create({
      model: "small",
      messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }] }],
    }),
  );
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.code, "unsupported");
});
