// Where the suite finds what `tests/support/harness.py` started.
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

export const hello = [{ role: "user" as const, content: "say hello" }];

/** The members that steer the scripted upstream; the SDK's types know nothing of them. */
export function scripted(directives: Record<string, unknown>): { stream?: never } {
  return { mock: directives } as never;
}

export interface Stats {
  streams_aborted: number;
  wholes_aborted: number;
  in_flight: number;
}

export async function stats(): Promise<Stats> {
  return (await (await fetch(`${mockUrl}/mock/stats`)).json()) as Stats;
}

export async function lastSeen(): Promise<Record<string, unknown>> {
  const all = (await (await fetch(`${mockUrl}/mock/requests`)).json()) as { body: string }[];
  return JSON.parse(all[all.length - 1].body) as Record<string, unknown>;
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
