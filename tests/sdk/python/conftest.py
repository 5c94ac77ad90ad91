"""The official OpenAI SDK, pointed at Penstock."""

from __future__ import annotations

from typing import Any, AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

import harness

# Where no retry is wanted, none is made: a test of an error must see the error, not the third try.
PLAIN: dict[str, Any] = {"max_retries": 0, "timeout": harness.PATIENCE}


@pytest.fixture(scope="session")
def client(gateway: harness.Gateway, secrets: dict[str, str]) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["SUITE_KEY"], **PLAIN) as sdk:
        yield sdk


@pytest.fixture
async def aclient(gateway: harness.Gateway, secrets: dict[str, str]) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secrets["SUITE_KEY"], **PLAIN) as sdk:
        yield sdk


@pytest.fixture
def seen(mock: harness.Mock) -> Any:
    """The last request that the mock upstream received: `seen()["body"]` is parsed."""
    import json

    def last() -> dict[str, Any]:
        request = harness.http("GET", f"{mock.url}/mock/requests").json()[-1]
        return {**request, "json": json.loads(request["body"]), "headers": dict(request["headers"])}

    return last


# The scripted provider inside the gateway, and the same script behind HTTP: what a client sees must not differ.
scripted = pytest.mark.parametrize("model", ["mock", "upstream"])
