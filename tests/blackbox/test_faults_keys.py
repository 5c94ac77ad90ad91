"""Row 14 of the fault catalogue: a key that is spent or refused is the operator's trouble, and never the caller's 401."""

from __future__ import annotations

import signal
from typing import Any

import pytest

import harness
from rig import ANSWER, Rig

# What a vendor says of a key that is spent or refused, in its own dialect.
SPENT: dict[str, dict[str, Any]] = {
    "quota": {"status": 429, "body": {"error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}},
    "401": {"status": 401}, "402": {"status": 402}, "403": {"status": 403},
}


class Keyed(Rig):
    """A rig whose provider `a-openai` has three keys; the mock tells them apart."""

    KEYS = ("sk-first-0001", "sk-second-0002", "sk-third-0003")

    def providers(self, ports: dict[str, int]) -> dict[str, Any]:
        found = super().providers(ports)
        del found["a-openai"]["api_key"]
        found["a-openai"]["api_keys"] = list(self.KEYS)
        return found

    def used(self) -> dict[str, int]:
        """Calls of the mock `a` by key."""
        digests = {call["key_digest"] for call in self.calls("a")}
        return {digest: sum(call["key_digest"] == digest for call in self.calls("a")) for digest in digests}


@pytest.mark.parametrize("fault", SPENT)
def test_a4_14_a_key_that_is_spent_or_refused_is_retired_and_another_takes_over(fault: str) -> None:
    with harness.scratch("keys") as folder:
        rig = Keyed(folder)
        try:
            bad, good = Keyed.KEYS[:2], Keyed.KEYS[2]
            rig.script("b")
            rig.script("a", rules=[{"when": {"key": key}, "do": SPENT[fault]} for key in bad])
            model = rig.model("openai", spare=False)
            for _ in range(12):
                outcome = rig.call("chat", model)
                assert (outcome.status, outcome.text) == (200, ANSWER), outcome
                assert outcome.attempts <= 3
                rig.record(outcome.id)
            used = sorted(rig.used().values())
            # A plain 403 may be about the model alone, so that key is left alone for a while and tried again.
            most = 2 if fault != "403" else 11
            assert used[-1] == 12 and sum(used[:-1]) <= most, (good, "each refused key was tried once at most", used)
        finally:
            rig.close()


@pytest.mark.parametrize("fault", SPENT)
@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a4_14_when_every_key_is_spent_it_is_never_the_callers_401(dialect: str, fault: str) -> None:
    with harness.scratch("keys") as folder:
        rig = Keyed(folder)
        try:
            rig.script("a", **SPENT[fault])
            rig.script("b")
            for stream in (False, True):
                told = rig.call(dialect, rig.model("openai", spare=False), stream=stream)
                assert told.status in (502, 503) and told.code in ("upstream_auth", "upstream_quota_exceeded"), told
                assert told.headers["x-should-retry"] == "false", "waiting does not help"
                rig.record(told.id)
            spare = rig.call(dialect, rig.model("openai"), stream=True)
            assert (spare.text, spare.complete) == (ANSWER, True), spare
        finally:
            rig.close()


def states(rig: Rig) -> dict[str, set[str]]:
    """The states of each provider's targets."""
    rows = rig.gateway.get("/admin/v1/providers", rig.env["ROOT"]).json()["data"]
    return {row["name"]: {target["state"] for target in row["targets"]} for row in rows}


def test_a4_14_a_reload_with_another_key_reinstates_that_provider_and_no_other() -> None:
    class Filed(Rig):
        """The keys of mock `a` stand in files, whose rotation leaves the configuration as it is."""

        def providers(self, ports: dict[str, int]) -> dict[str, Any]:
            found = super().providers(ports)
            for kind in ("openai", "anthropic"):
                (self.folder / kind).write_text("sk-refused")
                (self.folder / kind).chmod(0o600)
                found[f"a-{kind}"]["api_key"] = f"file:{self.folder / kind}"
            return found

    with harness.scratch("rotation") as folder:
        rig = Filed(folder)
        try:
            rig.script("b")
            rig.script("a", rules=[{"when": {"key": "sk-refused"}, "do": {"status": 401}}])
            asks = {kind: (dialect, rig.model(kind)) for dialect, kind in (("chat", "openai"), ("messages", "anthropic"))}

            def served(kind: str) -> tuple[str, int]:
                outcome = rig.call(*asks[kind])
                assert (outcome.status, outcome.text) == (200, ANSWER), outcome
                return outcome.headers["penstock-provider"], outcome.attempts

            def reload(config: dict[str, Any], sign: str) -> None:
                rig.gateway.write({**config, "models": {**config["models"], sign: config["models"]["openai-0"]}})
                rig.gateway.signal(signal.SIGHUP)
                harness.until(lambda: rig.gateway.get(f"/v1/models/{sign}", rig.env["KEY"]).status == 200, "the reload")

            for kind in asks:
                assert [served(kind), served(kind)] == [(f"b-{kind}", 2), (f"b-{kind}", 1)], "retired, and left alone"
            retired = {"a-openai": {"retired"}, "a-anthropic": {"retired"}}
            assert states(rig).items() >= retired.items()
            reload(rig.gateway.config, "nothing-of-theirs")
            assert states(rig).items() >= retired.items(), "a reload that mends nothing changes nothing"
            assert rig.asked("a") == 2

            (folder / "openai").write_text("sk-accepted")
            reload(rig.gateway.config, "another-key")
            assert states(rig).items() >= {**retired, "a-openai": {"healthy"}}.items()
            assert served("openai") == ("a-openai", 1), "the new key is asked at once, not at the next look"
            assert served("anthropic") == ("b-anthropic", 1), "who was not mended stays away"
        finally:
            rig.close()
