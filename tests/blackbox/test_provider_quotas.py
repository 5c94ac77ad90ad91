"""Quotas and budgets of providers hold for all gateways together, outlive a restart, and let those who wait in by turns."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from typing import Any

import pytest

import harness
from postgres import Postgres, postgres  # noqa: F401 (a fixture)
from redis import Redis, redis  # noqa: F401 (a fixture)
from test_replicas import BODY, Houses, houses, rush  # noqa: F401 (a fixture)

LATE = {**BODY, "messages": [{"role": "user", "content": "[late]"}]}
# What ten answers cost, in US dollars.
TEN = {"budget": {"usd": 0.0005, "per": "month"}}
PATIENT = {"shared_timeout": "10s"}


def counted(statuses: list[int]) -> dict[int, int]:
    return {one: statuses.count(one) for one in set(statuses)}


def quiet(at: Houses, spent: int) -> None:
    """Waits until all gateways together have spent so much at the provider, and nothing more."""
    expected = {"spent": spent, "unwritten": 0, "held": 0, "in_flight": 0}
    seen: list[Any] = [None]

    def agreed() -> bool:
        seen[0] = at.redis.account("provider", "outer")
        return seen[0] == expected

    try:
        harness.until(agreed, "the provider's account equals the ledger", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen[0]}") from None


def account(at: Houses, number: int) -> dict[str, Any]:
    rows = at.gateways[number].get("/admin/v1/budgets", at.env["ROOT"]).json()["data"]
    return next(row for row in rows if row["level"] == "provider")


def paid(at: Houses) -> int:
    """What the ledger says that the provider was paid, entry by entry."""
    return int(at.ledger("coalesce(sum(cost), 0)", "entries", "WHERE cost > 0 AND provider = 'outer'")[0][0])


@pytest.mark.parametrize("database", ["files", "postgresql"])
def test_a_providers_budget_for_ten_admits_ten_of_a_thousand_at_four_gateways_and_outlives_all_of_them(
        houses: Any, postgres: Postgres, database: str) -> None:  # noqa: F811
    at = houses(4, provider=TEN, stores=PATIENT, database=postgres if database == "postgresql" else None)
    before = at.mock.stats()["requests"]
    statuses = rush(at, 1000, LATE)
    assert counted(statuses) == {200: 10, 429: 990}
    assert at.mock.stats()["requests"] - before == 10, "who was refused never reached the vendor"
    quiet(at, 500)
    assert paid(at) == 500
    row = account(at, 2)
    assert (row["spent"]["month"]["micro_usd"], row["left"]["micro_usd"]) == (500, 0), row
    # Everything ends, what gateways share is empty, and only the ledger is left to say what was spent.
    for gateway in at.gateways:
        gateway.signal(signal.SIGKILL)
        gateway.wait()
    at.redis.ask("FLUSHALL")
    for gateway in at.gateways[:2]:
        gateway.restart()
    refused = at.chat(1)
    assert refused.status == 429 and "the budget of the provider outer" in refused.text, refused.text
    assert account(at, 1)["left"]["micro_usd"] == 0


def test_a_single_gateway_knows_after_a_restart_what_its_provider_was_paid(house: Any) -> None:
    at = house(provider=TEN)
    assert [at.chat(0).status for _ in range(4)] == [200] * 4
    harness.until(lambda: paid(at) == 200, "the ledger has it", 10)
    at.gateways[0].signal(signal.SIGKILL)
    at.gateways[0].wait()
    at.gateways[0].restart()
    spent = account(at, 0)["spent"]
    assert [spent[span]["micro_usd"] for span in ("day", "month", "lifetime")] == [200, 200, 200]
    assert [at.chat(0).status for _ in range(7)] == [200] * 6 + [429]


def test_a_providers_rate_holds_for_all_gateways_and_says_whose_it_is(houses: Any) -> None:
    provider = {"limits": {"requests_per_day": 20}, "queue": {"max_waiting": 50, "max_wait": "1s"}}
    at = houses(4, provider=provider, stores=PATIENT)
    statuses = rush(at, 200, BODY)
    assert counted(statuses) == {200: 20, 429: 180}
    refused = at.chat(3)
    assert refused.status == 429 and "the provider outer may make 20 requests per day" in refused.text, refused.text
    assert int(refused.headers["retry-after"]) > 60
    assert at.redis.account("provider", "outer")["in_flight"] == 0


def test_who_waits_for_a_providers_rate_goes_in_when_all_gateways_together_have_room(houses: Any) -> None:
    provider = {"limits": {"requests_per_minute": 60}, "queue": {"max_waiting": 100, "max_wait": "60s"}}
    at = houses(2, provider=provider, stores=PATIENT)
    begun = time.monotonic()
    statuses = rush(at, 64, BODY)
    took = time.monotonic() - begun
    assert counted(statuses) == {200: 64}, "sixty at once, the rest one by one"
    assert 3.5 <= took < 20, "a request comes back each second, whichever gateway it is asked at"


def test_a_bounded_provider_costs_one_question_more_and_no_third(houses: Any) -> None:
    at = houses(1, provider={"limits": {"requests_per_day": 1000}}, stores=PATIENT)
    assert at.chat(0).status == 200
    quiet(at, 50)
    for _ in range(10):
        assert at.chat(0).status == 200
    quiet(at, 550)
    asked = at.metric(0, 'penstock_shared_requests_total{outcome="held"}')
    assert asked == 22, "each of eleven asked for what the request takes, and for what its call takes"


def test_without_redis_each_gateway_gives_a_provider_its_part(houses: Any) -> None:
    at = houses(2, provider={**TEN, "queue": 0})
    for number in (0, 1):
        known = lambda number=number: at.metric(number, "penstock_shared_gateways")
        harness.until(lambda: known() == 2, "both know each other", 20)
    assert [at.chat(number).status for number in (0, 1)] == [200, 200]
    quiet(at, 100)
    at.redis.signal(signal.SIGKILL)
    at.redis.wait()
    passed = rush(at, 60, BODY).count(200)
    # The one that asked first believes that 450 micro-dollars are left, the other that 400 are.
    assert 2 <= passed <= 9, passed
    at.redis.restart()
    quiet(at, (2 + passed) * 50)
    assert rush(at, 60, BODY).count(200) == 8 - passed if passed <= 8 else 0
    quiet(at, max(500, (2 + passed) * 50))


def test_what_a_provider_was_paid_is_the_same_everywhere_after_kills(houses: Any) -> None:
    at = houses(3, provider={"budget": {"usd": 1000, "per": "lifetime"}})
    dice, stop = random.Random(4711), threading.Event()

    def work(number: int, stream: bool) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                if stream:
                    body = {"model": "said", "stream": True, "messages": [{"role": "user", "content": "[long]"}]}
                    harness.sse(f"{at.gateways[number].url}/v1/chat/completions", body, at.env["CALLER"])
                else:
                    at.chat(number)
            time.sleep(0.002)

    workers = [threading.Thread(target=work, args=(number, stream), daemon=True)
               for number in range(3) for stream in (False, True)]
    for worker in workers:
        worker.start()
    for _ in range(8):
        time.sleep(dice.uniform(0.3, 1.0))
        gateway = at.gateways[dice.randrange(3)]
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        gateway.restart()
    stop.set()
    for worker in workers:
        worker.join(30)
    spent = at.agree()
    quiet(at, spent)
    assert paid(at) == spent > 0, "every entry that cost something says whom"
    assert int(at.ledger("sum(cost)", "provider_hours")[0][0]) == spent
    assert at.ledger("count(*)", "entries", "WHERE kind = 2")[0][0] > 0, "some were left open by a kill"


def test_refuse_means_that_no_provider_with_bounds_is_called_without_asking(houses: Any) -> None:
    at = houses(1, provider=TEN, stores={"shared_failure": "refuse"})
    assert at.chat(0).status == 200
    at.redis.signal(signal.SIGKILL)
    at.redis.wait()
    refused = at.chat(0)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "store_unavailable"), refused.text
    at.redis.restart()
    harness.until(lambda: at.chat(0).status == 200, "it runs again", 20)


@pytest.fixture
def house(houses: Any) -> Any:  # noqa: F811
    """One gateway that shares nothing."""

    def build(**config: Any) -> Houses:
        return houses(1, **config, stores={"shared": "memory"})

    return build
