"""The official SDKs of OpenAI and Anthropic, pointed at Penstock."""

from __future__ import annotations

from typing import Any, AsyncIterator, Iterator

import pytest
from anthropic import Anthropic, AsyncAnthropic
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


@pytest.fixture(scope="session")
def claude(gateway: harness.Gateway, secrets: dict[str, str]) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key=secrets["SUITE_KEY"], **PLAIN) as sdk:
        yield sdk


@pytest.fixture
async def aclaude(gateway: harness.Gateway, secrets: dict[str, str]) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=secrets["SUITE_KEY"], **PLAIN) as sdk:
        yield sdk


@pytest.fixture(autouse=True)
def mended(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    gateway.reinstate(secrets["OPERATOR_KEY"])


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

# For Anthropic's dialect: in process, translated for an OpenAI-shaped vendor, and as it is for an Anthropic-shaped one.
everywhere = pytest.mark.parametrize("model", ["mock", "upstream", "messages"])
# The two that go over the wire.
outside = pytest.mark.parametrize("model", ["upstream", "messages"])


def play(model: str, name: str, **members: Any) -> dict[str, Any]:
    """The members of a messages request that is answered by one of `harness.SCRIPTS`, or by `cut-HOW-AT`."""
    ask: dict[str, Any] = {"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": f"[{name}]"}]}
    if model != "upstream":
        _, how, at = name.split("-") if name.startswith("cut-") else ("", "", "")
        ask["extra_body"] = {"mock": harness.cut_script(how, int(at)) if how else harness.SCRIPTS[name]}
    return {**ask, **members}
