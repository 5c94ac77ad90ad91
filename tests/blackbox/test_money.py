"""What an answer costs: told in a header, counted in the metrics, by prices that change with their date and by reload."""

from __future__ import annotations

import json
import pathlib
import signal
from typing import Any, Iterator

import pytest

import harness

PRICE = {"input": 1.5, "cached_input": 0.5, "output": 6}
# 30 tokens of prompt, 12 of them cached, and 5 of answer: 18 × 1.5 + 12 × 0.5 + 5 × 6 micro-dollars.
ASKED, COST = "count this [counted]", "0.000063"


class House:
    def __init__(self, folder: pathlib.Path):
        for name in ("mock", "gateway"):
            (folder / name).mkdir()
        self.mock = harness.Mock(folder / "mock", harness.suite_script())
        self.env = {"VENDOR": harness.UPSTREAM_SECRET, "CALLER": harness.new_secret()}
        outer = {"kind": "openai", "base_url": f"{self.mock.url}/v1", "api_key": "${VENDOR}"}
        self.config: dict[str, Any] = {
            "providers": {"inner": {"kind": "mock"}, "outer": outer},
            "models": {
                "inner": {"provider": "inner", "model": "m"},
                "priced": {"provider": "outer", "model": "vendor-1", "price": PRICE},
                "unpriced": {"provider": "outer", "model": "gpt-5"},
                "dated": {"provider": "outer", "model": "vendor-2", "price": [
                    {"from": "2999-01-01", "input": 99, "output": 99}, {"from": "2020-01-01", **PRICE}]},
                "future": {"provider": "outer", "model": "vendor-3", "price": [{"from": "2999-01-01", **PRICE}]},
            },
            "keys": [{"name": "caller", "key": "${CALLER}", "scopes": ["chat:*"]}],
        }
        self.gateway = harness.Gateway(folder / "gateway", self.config, self.env)

    def close(self) -> None:
        self.gateway.kill()
        self.mock.kill()

    def cost(self, model: str, **members: Any) -> str | None:
        reply = self.gateway.chat(self.env["CALLER"], model, ASKED, **members)
        assert reply.status == 200, reply.text
        return reply.headers["penstock-cost"]

    def counts(self, series: str, value: float) -> bool:
        lines = self.gateway.get("/metrics").text.splitlines()
        return any(line.startswith(series + " ") and float(line.split()[-1]) == value for line in lines)

    def reload(self, models: dict[str, Any], outcome: str) -> None:
        config = {**self.gateway.config, "models": {**self.config["models"], **models}}
        self.gateway.write(config)
        self.gateway.signal(signal.SIGHUP)
        series = f'penstock_config_reloads_total{{outcome="{outcome}"}}'
        harness.until(lambda: series in self.gateway.get("/metrics").text, f"a reload that is {outcome}", 30)


@pytest.fixture
def house() -> Iterator[House]:
    with harness.scratch("money") as folder:
        home = House(folder)
        yield home
        home.close()


def test_a_whole_answer_says_what_it_cost_and_unknown_is_not_zero(house: House) -> None:
    assert house.cost("priced") == COST
    assert house.cost("inner") == "0.000000", "own hardware costs nothing"
    assert house.cost("unpriced") is None, "the list price holds at the vendor's own address alone"
    assert house.cost("priced", stream=True) is None, "not known when the headers of a stream leave"
    refused = house.gateway.chat(house.env["CALLER"], "nobody", ASKED)
    assert refused.status == 404 and refused.headers["penstock-cost"] is None

    paid = '{model="priced",provider="outer"}'
    harness.until(lambda: house.counts(f"penstock_cost_usd_total{paid}", 0.000126), "both costs are counted", 10)
    unknown = 'penstock_unpriced_requests_total{model="unpriced",provider="outer"}'
    harness.until(lambda: house.counts(unknown, 1), "the unknown one is counted apart", 10)


def test_the_price_of_the_day_holds(house: House) -> None:
    assert house.cost("dated") == COST, "the last price that has begun, wherever it stands in the list"
    assert house.cost("future") is None, "before the first price none is known"


def test_a_malformed_price_keeps_the_old_table_and_a_good_one_replaces_it(house: House) -> None:
    priced = house.config["models"]["priced"]
    house.reload({"priced": {**priced, "price": {"input": "cheap", "output": 6}}}, "refused")
    assert house.cost("priced") == COST
    assert "models.priced.price.input" in house.gateway.log()
    house.reload({"priced": {**priced, "price": {"input": 3, "cached_input": 1, "output": 12}}}, "applied")
    harness.until(lambda: house.cost("priced") == "0.000126", "the new price holds", 10)


def test_check_names_models_without_a_known_price_and_accepts_them(house: House) -> None:
    folder = house.gateway.folder
    done = harness.cli("check", "--json", folder=folder, env=house.env)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["ok"] is True, done.stdout
    named = {problem["path"]: problem["severity"] for problem in report["problems"] if "price" in problem["message"]}
    assert named == {"models.unpriced.price": "warning", "models.future.price": "warning"}
