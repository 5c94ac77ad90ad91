"""Fixtures that every Python suite may ask for. The expensive processes live as long as the test session."""

from __future__ import annotations

import pathlib
from typing import Any, Iterator

import pytest

import harness


@pytest.fixture(scope="session")
def workshop() -> Iterator[pathlib.Path]:
    """A folder for the session."""
    with harness.scratch("session") as folder:
        yield folder


@pytest.fixture(scope="session")
def mock(workshop: pathlib.Path) -> Iterator[harness.Mock]:
    folder = workshop / "mock"
    folder.mkdir()
    process = harness.Mock(folder, harness.suite_script())
    yield process
    process.kill()


@pytest.fixture(scope="session")
def llama(workshop: pathlib.Path) -> Iterator[harness.LlamaServer]:
    folder = workshop / "llama"
    folder.mkdir()
    process = harness.LlamaServer(folder)
    yield process
    process.kill()


@pytest.fixture(scope="session")
def secrets() -> dict[str, str]:
    """The environment of the shared gateway, filled when it starts."""
    return {}


@pytest.fixture(scope="session")
def gateway(workshop: pathlib.Path, mock: harness.Mock, secrets: dict[str, str]) -> Iterator[harness.Gateway]:
    """The gateway that suites share: it must survive everything that they do to it."""
    folder = workshop / "gateway"
    folder.mkdir()
    config, env = harness.suite_config(mock, None, local=True)
    secrets.update(env)
    process = harness.Gateway(folder, config, env)
    yield process
    alive, log = process.alive(), process.log()
    process.kill()
    assert alive, f"the gateway died during the suite:\n{log[-4000:]}"
    assert "panicked" not in log, log[-4000:]


@pytest.fixture(scope="session")
def llama_gateway(workshop: pathlib.Path, mock: harness.Mock, llama: harness.LlamaServer) -> Iterator[harness.Gateway]:
    """A gateway in front of the llama.cpp server; its key is `key`."""
    folder = workshop / "llama-gateway"
    folder.mkdir()
    config, env = harness.suite_config(mock, llama, local=False)
    process = harness.Gateway(folder, config, env)
    process.key = env["SUITE_KEY"]  # type: ignore[attr-defined]
    yield process
    process.kill()


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """An empty folder for one test."""
    with harness.scratch("test") as path:
        yield path


@pytest.fixture
def spawn() -> Iterator[Any]:
    """Notes processes to be killed at the end of the test: `spawn(Gateway(…))`."""
    started: list[harness.Process] = []

    def note(process: harness.Process) -> Any:
        started.append(process)
        return process

    yield note
    for process in reversed(started):
        process.kill()
