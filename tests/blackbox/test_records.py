"""Every request is one durable record, and people can find it: searched, watched, added up, explained, after every fault."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import signal
import sqlite3
import threading
import time
import urllib.parse
from typing import Any, Iterator

import pytest

import harness

# Longer than records may take to be safe from kill -9 (docs/how-to/find-a-request.md).
SAFE_AFTER = 0.25
SENTINEL = "zebra-4711-nobody-may-keep-this"
ANSWERED = "quagga-0815-nor-this"

# How the upstream answers and misbehaves; its own count says what it said.
FAULTS: dict[str, dict[str, Any]] = {
    **{name: script for name, script in harness.SCRIPTS.items() if name not in ("slow", "counted")},
    "no-usage": {"text": "a b c d e f g h", "omit_usage": True},
    "wrong-usage": {"text": "a b c d e f g h", "wrong_usage": True},
    "late": {"text": "a b c", "latency_ms": 1_500},
    "late-first": {"text": "a b c", "first_token_ms": 1_500},
    "stuck-after-headers": {"hang": "after_headers"},
    "refused": {"refusal": "I would rather not."},
    "cut-early-fin": harness.cut_script("fin", 0),
    "cut-early-reset": harness.cut_script("reset", 0),
    "cut-fin": harness.cut_script("fin", 500),
    "cut-reset": harness.cut_script("reset", 700),
    "cut-before": {"cut": "reset"},
    "tiny-frames": {"text": "a b c", "chunk_bytes": 1, "crlf": True, "comments": True},
    "finish-length": {"text": "a b c", "finish_reason": "length"},
}


class House:
    """A gateway before a scripted upstream, with prices, a capturing team and keys of every kind."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        rules = [{"when": {"text_contains": f"[{name}]"}, "do": script} for name, script in FAULTS.items()]
        rules.append({"when": {"text_contains": "[counted]"}, "do": harness.SCRIPTS["counted"]})
        rules.append({"when": {"text_contains": "[sentinel]"}, "do": {"text": ANSWERED}})
        self.mock = harness.Mock(folder / "mock", {"rules": rules})
        self.env = {name: harness.new_secret() for name in ("ROOT", "CALLER", "CAPTURED", "READER", "SLOW", "NARROW")}
        self.env["VENDOR"] = harness.UPSTREAM_SECRET
        times = {"first_token": "700ms", "idle": "700ms", "total": "4s"}
        price = {"input": 1.5, "output": 6}
        provider = {"base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}", "timeouts": times}
        config = {
            "providers": {
                "inner": {"kind": "mock"},
                "outer": {"kind": "openai", **provider},
                "claude": {"kind": "anthropic", **provider},
            },
            "models": {
                "inner": {"provider": "inner", "model": "m"},
                "outer": {"provider": "outer", "model": "vendor-1", "price": price},
                "claude": {"provider": "claude", "model": "vendor-2", "price": price},
                "unpriced": {"provider": "outer", "model": "vendor-3"},
            },
            "teams": {"open": {"capture": {"content": True, "retention": "1h"}}},
            "keys": [
                {"name": "root", "key": "${ROOT}", "scopes": ["admin:*"]},
                {"name": "reader", "key": "${READER}", "scopes": ["admin:read"]},
                {"name": "caller", "key": "${CALLER}", "team": "support", "scopes": ["chat:*"]},
                {"name": "captured", "key": "${CAPTURED}", "team": "open", "scopes": ["chat:*"]},
                {"name": "narrow", "key": "${NARROW}", "scopes": ["chat:invoke:inner"]},
                {"name": "slow", "key": "${SLOW}", "scopes": ["chat:*"], "limits": {"requests_per_minute": 1}},
            ],
        }
        self.gateway = harness.Gateway(folder / "gateway", config, self.env)
        self.data = folder / "gateway" / "data"

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def mend(self) -> None:
        """What one fault made of a provider is not to be the next one's trouble."""
        self.gateway.reinstate(self.env["ROOT"])

    def ask(self, text: str, model: str = "outer", key: str = "CALLER", **members: Any) -> harness.Reply:
        self.mend()
        return self.gateway.chat(self.env[key], model, text, **members)

    def admin(self, path: str, who: str = "ROOT", **query: Any) -> Any:
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self.gateway.get(f"/admin/v1/{path}{asked}", self.env[who])

    def record(self, id: str, who: str = "ROOT") -> Any:
        """The record of a request, as soon as it is there."""
        def found() -> Any:
            reply = self.admin(f"requests/{id}", who)
            return reply.json() if reply.status == 200 else None

        return harness.until(found, f"a record of {id}", 10)

    def all(self, **query: Any) -> list[Any]:
        """Every record that fits, page by page."""
        records: list[Any] = []
        after: str | None = None
        while True:
            page = self.admin("requests", limit=37, **query, **({"after": after} if after else {})).json()
            records += page["data"]
            after = page["next"]
            if not after:
                return records

    def explain(self, *arguments: str) -> Any:
        return harness.cli("explain", *arguments, "--config", str(self.gateway.path), folder=self.folder, env=self.env)

    def metric(self, name: str) -> float:
        lines = self.gateway.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with harness.scratch("records") as folder:
        home = House(folder)
        yield home
        home.close()


@pytest.fixture
def fresh() -> Iterator[House]:
    """A house that a test may wreck."""
    with harness.scratch("records-own") as folder:
        home = House(folder)
        yield home
        home.close()


def whole_stream(house: House, text: str, model: str) -> str:
    """Asks for a stream, reads it to whatever end it has, and gives the request's id."""
    house.mend()
    connection = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=harness.PATIENCE)
    with contextlib.closing(connection):
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {
            "content-type": "application/json", "authorization": f"Bearer {house.env['CALLER']}"})
        reply = connection.getresponse()
        with contextlib.suppress(http.client.HTTPException, OSError):
            reply.read()
        return reply.getheader("x-request-id") or ""


@pytest.mark.parametrize("model", ["outer", "claude"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_after_every_fault_each_token_is_the_vendors_own_or_marked_estimated(house: House, model: str, stream: bool) -> None:
    unexplained = []
    for name in FAULTS:
        harness.until(lambda: house.mock.stats()["in_flight"] == 0, "the upstream is idle", 10)
        harness.http("POST", f"{house.mock.url}/mock/reset")
        text = f"count [{name}] with me"
        id = whole_stream(house, text, model) if stream else house.ask(text, model).headers["x-request-id"]
        record = house.record(id)
        harness.until(lambda: house.mock.stats()["in_flight"] == 0, "the upstream is idle", 10)
        count = house.mock.stats()
        tokens = record["tokens"] or {"input": 0, "output": 0}
        said = (tokens["input"], tokens["output"])
        if not record["estimated"] and said != (count["prompt_tokens"], count["completion_tokens"]):
            unexplained.append((name, record["code"], said, count["prompt_tokens"], count["completion_tokens"]))
        assert record["attempts"] == len(record["tries"]) >= 1, (name, record)
        assert record["provider"] == model and record["model"] == record["asked"] == model, (name, record)
    assert not unexplained


def test_usage_that_a_vendor_leaves_out_or_contradicts_is_counted_here_and_marked(house: House) -> None:
    for name in ("no-usage", "wrong-usage"):
        record = house.record(house.ask(f"[{name}]").headers["x-request-id"])
        assert record["estimated"] and record["tokens"]["output"] > 0, (name, record)
        assert record["cost"]["state"] == "known", record
    sound = house.record(house.ask("plain").headers["x-request-id"])
    assert not sound["estimated"]
    counted = house.record(house.ask("[counted]").headers["x-request-id"])
    tokens = counted["tokens"]
    assert (tokens["input"], tokens["output"], tokens["cached_input"]) == (30, 5, 12), "the vendor's word, where it is sound"


def test_cost_is_exact_in_micro_dollars_and_unknown_where_no_price_is_set(house: House) -> None:
    record = house.record(house.ask("what does it cost").headers["x-request-id"])
    tokens = record["tokens"]
    micros = (tokens["input"] * 1_500_000 + tokens["output"] * 6_000_000 + 500_000) // 1_000_000
    assert record["cost"] == {"state": "known", "micro_usd": micros, "usd": f"{micros / 1e6:.6f}"}
    unknown = house.record(house.ask("and this", "unpriced").headers["x-request-id"])
    assert unknown["cost"] == {"state": "unknown", "micro_usd": None, "usd": None}
    refused = house.record(house.ask("[limited]").headers["x-request-id"])
    assert refused["status"] == "refused"


def test_refused_requests_are_recorded_with_their_reason_and_whoever_is_known(house: House) -> None:
    post = house.gateway.post
    body = {"model": "inner", "messages": [{"role": "user", "content": "hi"}]}
    house.ask("the one that is allowed", "inner", "SLOW")
    cases = [
        (post("/v1/chat/completions", body, None), "missing_api_key", None),
        (post("/v1/chat/completions", body, "pk_test_" + "0" * 40), "invalid_api_key", None),
        (post("/v1/chat/completions", b"{not json", house.env["CALLER"]), "invalid_json", None),
        (post("/v1/chat/completions", {"model": "inner"}, house.env["CALLER"]), "invalid_request", None),
        (house.ask("hi", "no-such-model"), "model_not_found", "caller"),
        (house.ask("hi", "outer", "NARROW"), "model_not_found", "narrow"),
        (house.ask("hi", "inner", "SLOW"), "rate_limit_exceeded", "slow"),
        (house.ask("[broken]"), "upstream_error", "caller"),
    ]
    names = {key["id"]: key["name"] for key in house.admin("keys").json()["data"]}
    for reply, code, name in cases:
        assert reply.status >= 400
        record = house.record(reply.headers["x-request-id"])
        assert (record["status"], record["code"]) == ("refused", code), record
        assert record["error"]["docs"] == f"/docs/errors/{code}" and record["error"]["stage"], record
        if name:
            assert names[record["key"]] == name
    unknown = house.record(cases[4][0].headers["x-request-id"])
    assert (unknown["asked"], unknown["model"]) == ("no-such-model", None)


def test_an_asker_who_leaves_is_recorded_as_cancelled_with_what_was_said_so_far(house: House) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=harness.PATIENCE)
    body = {"model": "inner", "stream": True, "messages": [{"role": "user", "content": "hi"}],
            "mock": {"tokens": 1_000, "inter_token_ms": 20}}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {
        "content-type": "application/json", "authorization": f"Bearer {house.env['CALLER']}"})
    reply = connection.getresponse()
    reply.read(400)
    id = reply.getheader("x-request-id") or ""
    reply.close()
    connection.close()
    record = house.record(id)
    assert (record["status"], record["code"]) == ("cancelled", "cancelled"), record
    assert record["first_token_ms"] is not None


def test_usage_agrees_with_the_records_exactly(house: House) -> None:
    for tag in ("red", "blue"):
        for model in ("outer", "unpriced"):
            house.ask("tagged [no-usage]", model, penstock={"tags": {"color": tag}})
    last = house.ask("tagged", "inner", penstock={"tags": {"color": "red"}}).headers["x-request-id"]
    house.record(last)
    records = house.all()
    groups: dict[str, Any] = {
        "key": lambda one: one["key"], "model": lambda one: one["model"], "team": lambda one: one["team"],
        "hour": lambda one: one["ended"][:13] + ":00:00Z", "tag": lambda one: one["tags"].get("color"),
    }
    for by, group in groups.items():
        report = house.admin("usage", by=by, **({"tag": "color"} if by == "tag" else {})).json()
        sums: dict[Any, Any] = {}
        for one in records:
            tokens = one["tokens"] or {}
            guessed = one["estimated"]
            counted = (1, tokens.get("input", 0), tokens.get("output", 0), tokens.get("cached_input") or 0,
                       int(guessed), tokens.get("output", 0) if guessed else 0, one["cost"]["micro_usd"] or 0,
                       int(one["cost"]["state"] == "unknown"))
            sums[group(one)] = [a + b for a, b in zip(sums.get(group(one), [0] * 8), counted)]

        def row(of: Any) -> list[int]:
            return [of["requests"], of["tokens"]["input"], of["tokens"]["output"], of["tokens"]["cached_input"],
                    of["estimated"]["requests"], of["estimated"]["output"], of["cost"]["micro_usd"],
                    of["unknown_cost"]["requests"]]

        assert {one["group"]: row(one) for one in report["data"]} == sums, by
        assert row(report["total"]) == [sum(column) for column in zip(*sums.values())], by
        assert not report["truncated"]
        assert report["total"]["cost"]["usd"] == f"{report['total']['cost']['micro_usd'] / 1e6:.6f}"
    assert report["total"]["unknown_cost"]["requests"] > 0 and report["total"]["estimated"]["requests"] > 0


def test_records_are_found_by_what_they_are(house: House) -> None:
    id = house.ask("find me", "claude", penstock={"tags": {"trace": "a/b c&d"}}).headers["x-request-id"]
    record = house.record(id)
    for query in ({"tag": "trace:a/b c&d"}, {"tag": "trace:a/b c&d", "key": record["key"], "team": "support"},
                  {"tag": "trace:a/b c&d", "model": "claude", "provider": "claude", "status": "ok", "code": "ok", "since": "1h"}):
        assert [one["id"] for one in house.all(**query)] == [id], query
    for query in ({"tag": "trace:a"}, {"tag": "trace:a/b c&d", "status": "failed"}, {"tag": "trace:a/b c&d", "until": "1h"}):
        assert house.all(**query) == [], query
    assert all(one["code"] == "model_not_found" for one in house.all(code="model_not_found"))
    ended = [one["ended"] for one in house.all()]
    assert ended == sorted(ended, reverse=True), "the newest come first"
    refused = house.admin("requests", limit=0)
    assert refused.status == 400 and refused.headers["content-type"] == "application/problem+json"
    assert house.admin("requests/req_nothing").status == 404
    assert house.admin("requests", "CALLER").status == 403


class Watch:
    """Reads a tail in the background."""

    def __init__(self, house: House, query: str):
        self.connection = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=harness.PATIENCE)
        self.connection.request("GET", f"/admin/v1/requests/tail{query}", headers={
            "authorization": f"Bearer {house.env['READER']}"})
        self.reply = self.connection.getresponse()
        self.events: list[tuple[str, Any]] = []
        self.first = self.reply.readline()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        name = ""
        for raw in self.reply:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                self.events.append((name, json.loads(line[6:])))


def test_a_tail_shows_requests_as_they_end_and_ends_with_the_gateway(fresh: House) -> None:
    everything, some = Watch(fresh, ""), Watch(fresh, "?model=outer&status=ok")
    assert everything.reply.status == 200 and everything.reply.getheader("content-type") == "text/event-stream"
    assert everything.first == b": watching\n"
    ids = [fresh.ask(text, model).headers["x-request-id"] for text, model in
           (("a", "inner"), ("b", "outer"), ("[broken]", "outer"), ("c", "outer"))]
    harness.until(lambda: len(everything.events) == 4 and len(some.events) == 2, "four and two events", 10)
    assert [data["id"] for _, data in everything.events] == ids
    assert [data["id"] for _, data in some.events] == [ids[1], ids[3]]
    assert everything.events[2][1]["status"] == "refused"
    begun = time.monotonic()
    assert fresh.gateway.stop() == 0
    assert time.monotonic() - begun < 4, "those who watch do not hold up the end"
    everything.thread.join(10)
    name, last = everything.events[-1]
    assert (name, last["reason"]) == ("end", "shutdown")


def test_explain_tells_the_story_of_a_request_while_the_gateway_runs_and_after(fresh: House) -> None:
    fine = fresh.ask("explain me", "outer", penstock={"tags": {"app": "shop"}}).headers["x-request-id"]
    record = fresh.record(fine)
    broken = fresh.ask("[broken]").headers["x-request-id"]
    fresh.record(broken)
    for _ in range(2):
        told = fresh.explain(fine)
        assert told.returncode == 0, told.stderr
        for part in (fine, "caller", "team support", "outer → outer/vendor-1", "authenticate", "call", "outer/vendor-1: ok",
                     f"{record['tokens']['input']} input", "input 1.5, output 6 USD per million", record["cost"]["usd"],
                     "app=shop", "outcome   ok"):
            assert part in told.stdout, (part, told.stdout)
        assert "explain me" not in told.stdout
        told = fresh.explain(broken)
        for part in ("refused in call: upstream_error", "outer/vendor-1: upstream_error", "/docs/errors/upstream_error"):
            assert part in told.stdout, (part, told.stdout)
        shown = json.loads(fresh.explain(fine, "--json").stdout)
        assert {name: shown[name] for name in record if name != "content"} == {
            name: value for name, value in record.items() if name != "content"}
        for id in ("req_nothing", "'; DROP TABLE records; --"):
            missing = fresh.explain(id)
            assert missing.returncode == 1 and "there is no record" in missing.stderr, missing.stderr
        if fresh.gateway.alive():
            assert fresh.gateway.stop() == 0


def test_explain_makes_no_file_and_says_what_is_missing(folder: pathlib.Path) -> None:
    path = folder / "penstock.yaml"
    path.write_text(json.dumps({"version": 1, "data_dir": str(folder / "data"), "providers": {"m": {"kind": "mock"}},
                                "models": {"m": {"provider": "m", "model": "m"}}}))
    told = harness.cli("explain", "req_x", "--config", str(path), folder=folder)
    assert told.returncode == 1 and "there is no record" in told.stderr
    assert not (folder / "data" / "records.db").exists()


def test_no_record_is_lost_that_was_answered_a_quarter_of_a_second_before_kill_minus_nine(fresh: House) -> None:
    for _ in range(6):
        answered: list[tuple[str, float]] = []
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    reply = fresh.ask("again", "inner")
                except OSError:
                    return
                answered.append((reply.headers["x-request-id"], time.monotonic()))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        harness.until(lambda: answered and time.monotonic() - answered[0][1] > 3 * SAFE_AFTER, "some time of answers", 30)
        killed = time.monotonic()
        fresh.gateway.signal(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join(10)
        fresh.gateway.wait()
        due = {id for id, when in answered if when < killed - SAFE_AFTER}
        assert len(due) > 20, "the test looks at something"
        with contextlib.closing(sqlite3.connect(fresh.data / "records.db")) as database:
            kept = {id for (id,) in database.execute("SELECT id FROM records")}
            (whole,) = database.execute("PRAGMA integrity_check").fetchone()
            sums = database.execute("SELECT sum(requests) FROM hours").fetchone()[0]
        assert due <= kept, f"{len(due - kept)} of {len(due)} are missing"
        assert whole == "ok" and sums == len(kept)
        fresh.gateway.restart()


def test_every_record_is_written_before_the_gateway_ends(fresh: House) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: fresh.ask(f"number {n}", "inner"), range(200)))
    assert fresh.gateway.stop() == 0
    with contextlib.closing(sqlite3.connect(fresh.data / "records.db")) as database:
        kept = {id for (id,) in database.execute("SELECT id FROM records")}
    assert {reply.headers["x-request-id"] for reply in replies} <= kept
    assert not (fresh.data / "records.db-wal").exists(), "the file was closed"


def test_a_store_that_is_locked_slows_no_request_and_gets_its_records_later(fresh: House) -> None:
    fresh.record(fresh.ask("before", "inner").headers["x-request-id"])
    with contextlib.closing(sqlite3.connect(fresh.data / "records.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        ids = [fresh.ask(f"meanwhile {n}", "inner").headers["x-request-id"] for n in range(50)]
        took = time.monotonic() - begun
        harness.until(lambda: fresh.metric("penstock_records_waiting") > 0, "records wait", 15)
        assert took < 20, "no request waits for the store"
        assert fresh.admin("requests").status == 200, "what is there can be read"
        assert fresh.ask("still", "inner").status == 200
        database.execute("ROLLBACK")
    for id in ids:
        fresh.record(id)
    assert fresh.metric("penstock_records_waiting") == 0 and fresh.metric("penstock_records_lost_total") == 0
    log = fresh.gateway.log()
    assert log.count("they wait in memory") == 1 and "records are stored again" in log


def test_a_damaged_store_costs_records_and_no_request(fresh: House) -> None:
    assert fresh.gateway.stop() == 0
    (fresh.data / "records.db").write_bytes(b"this is no database" * 400)
    fresh.gateway.restart()
    assert fresh.ask("on we go", "inner").status == 200
    refused = fresh.admin("requests")
    assert refused.status == 503 and refused.json()["code"] == "store_unavailable"
    told = fresh.explain("req_x")
    assert told.returncode == 1 and "damaged" in told.stderr, told.stderr
    found = json.loads(harness.cli("doctor", "--config", str(fresh.gateway.path), "--json", folder=fresh.folder, env=fresh.env).stdout)
    assert [one["verdict"] for one in found["findings"] if one["check"] == "records"] == ["error"]
    (fresh.data / "records.db").unlink()
    fresh.record(fresh.ask("mended", "inner").headers["x-request-id"])


def test_neither_keys_nor_prompts_nor_answers_are_kept_unless_the_team_captures(fresh: House) -> None:
    def holds(text: str) -> bool:
        files = [path for path in fresh.data.rglob("*") if path.is_file()]
        return any(text.encode() in path.read_bytes() for path in files)

    for model in ("outer", "claude", "inner"):
        fresh.record(fresh.ask(f"[sentinel] {SENTINEL}", model).headers["x-request-id"])
        fresh.record(whole_stream(fresh, f"[sentinel] {SENTINEL}", model))
    fresh.record(fresh.ask(f"{SENTINEL}", "no-such-model").headers["x-request-id"])
    fresh.gateway.post("/v1/chat/completions", f'{{"{SENTINEL}"'.encode(), fresh.env["CALLER"])
    for secret in (SENTINEL, ANSWERED, *fresh.env.values()):
        assert not holds(secret)
    id = fresh.ask(f"[sentinel] {SENTINEL}", "outer", "CAPTURED").headers["x-request-id"]
    record = fresh.record(id)
    assert record["captured"] and SENTINEL in record["content"]["request"] and ANSWERED in record["content"]["answer"]
    assert holds(SENTINEL) and holds(ANSWERED)
    hidden = fresh.record(id, "READER")
    assert hidden["captured"] and hidden["content"] is None
    assert SENTINEL not in fresh.admin("requests").text and SENTINEL not in fresh.explain(id).stdout
    assert SENTINEL not in fresh.gateway.log()
    for secret in fresh.env.values():
        assert not holds(secret)


def test_old_records_are_deleted_and_their_sums_stay(fresh: House) -> None:
    fresh.record(fresh.ask("soon forgotten", "inner").headers["x-request-id"])
    assert fresh.gateway.stop() == 0
    fresh.gateway.write({**fresh.gateway.config, "records": {"retention": "1s"}})
    fresh.gateway.restart()
    harness.until(lambda: fresh.admin("requests").json()["data"] == [], "the first sweep", 30)
    assert fresh.admin("usage").json()["total"]["requests"] == 1
