// Where the suite finds what `tests/support/harness.py` started.
import assert from "node:assert/strict";
import { beforeEach } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

function need(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run \`./test typescript\``);
  return value;
}

export const url = need("PENSTOCK_URL");
export const key = need("PENSTOCK_KEY");
export const narrowKey = need("PENSTOCK_NARROW_KEY");
export const mockUrl = need("MOCK_URL");

// No retries: a test of an error must see the error, not the third try.
export const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 90_000 });

export const claude = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 90_000 });

interface Provider {
  name: string;
  targets: { state: string; suspicion: number }[];
}

/** Forgets whatever was learnt of the providers: the faults of one test are not to be the trouble of the next. */
export async function mend(): Promise<void> {
  const headers = { authorization: `Bearer ${need("PENSTOCK_OPERATOR_KEY")}` };
  const listed = await fetch(`${url}/admin/v1/providers`, { headers });
  const { data } = (await listed.json()) as { data: Provider[] };
  for (const { name } of data.filter((one) => one.targets.some((t) => t.state !== "healthy" || t.suspicion > 0))) {
    const reply = await fetch(`${url}/admin/v1/providers/${name}/reinstate`, { method: "POST", headers });
    assert.equal(reply.status, 200);
  }
}
beforeEach(mend);

export const hello = [{ role: "user" as const, content: "say hello" }];

/** The members that steer the scripted upstream; the SDK's types know nothing of them. */
export function scripted(directives: Record<string, unknown>): { stream?: never } {
  return { mock: directives } as never;
}

/** Answers that `tests/support/harness.py` knows by name. */
export const scripts = JSON.parse(need("MOCK_SCRIPTS")) as Record<string, Record<string, unknown>>;
export const cuts = JSON.parse(need("MOCK_CUTS")) as number[];

/**
 * A messages request that is answered by a script: as a member where the vendor understands it, by its name in the text
 * where the translation leaves the member out.
 */
export function play(model: string, name: string, script = scripts[name]): Anthropic.MessageCreateParamsNonStreaming {
  const ask = { model, max_tokens: 1024, messages: [{ role: "user" as const, content: `[${name}]` }] };
  return model === "upstream" ? ask : ({ ...ask, mock: script } as typeof ask);
}

export interface Stats {
  requests: number;
  streams_aborted: number;
  wholes_aborted: number;
  in_flight: number;
}

export async function stats(): Promise<Stats> {
  return (await (await fetch(`${mockUrl}/mock/stats`)).json()) as Stats;
}

export interface Seen {
  path: string;
  headers: [string, string][];
  key_digest: string;
  body: string;
}

/** The last request that the scripted upstream received. */
export async function lastRequest(): Promise<Seen> {
  const all = (await (await fetch(`${mockUrl}/mock/requests`)).json()) as Seen[];
  return all[all.length - 1];
}

export async function lastSeen(): Promise<Record<string, unknown>> {
  return JSON.parse((await lastRequest()).body) as Record<string, unknown>;
}

/** Asks again and again until the answer is true. */
export async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The error that a call throws; fails when it throws none. */
export async function thrown(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("no error was thrown");
}
