"""A real Redis of the suites' own: a free port, no file, and an end with the process that started it.

`Redis` starts one; `redis` is the same as a pytest fixture (import it to use it). It is asked in its own protocol, so nothing
has to be installed beside the server.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
from typing import Any, Iterator

import pytest

import harness

PASSWORD = "a-pass-word"


def program() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        raise RuntimeError("there is no redis-server; `./test` installs Redis")
    return found


class Redis(harness.Process):
    """`proof`: a file with key and certificate, for one that also listens with TLS, at `tls_url`."""

    def __init__(self, folder: pathlib.Path, proof: pathlib.Path | None = None):
        self.port = harness.free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}"
        self.proof, self.tls_port = proof, harness.free_port() if proof else 0
        self.tls_url = f"rediss://:{PASSWORD}@localhost:{self.tls_port}"
        super().__init__(self.command(), folder, name="redis")
        self.wait_open()

    def command(self) -> list[str]:
        tls = ["--tls-port", str(self.tls_port), "--tls-cert-file", str(self.proof), "--tls-key-file", str(self.proof),
               "--tls-auth-clients", "no"] if self.proof else []
        return [program(), *tls, "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "",
                "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"]

    def wait_open(self) -> None:
        def opened() -> bool:
            self.must_live()
            with contextlib.suppress(OSError, AssertionError):
                return self.ask("PING") == "PONG"
            return False

        harness.until(opened, f"Redis answers\n{self.log()[-2000:]}")

    def restart(self) -> None:
        """Starts an empty one in the same place, after it ended."""
        assert not self.alive()
        self.kill()
        super().__init__(self.command(), self.folder, name="redis")
        self.wait_open()

    def ask(self, *words: str) -> Any:
        """One command and its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as line, line.makefile("rwb") as file:
            for command in (("AUTH", PASSWORD), words):
                file.write(b"*%d\r\n" % len(command))
                for word in command:
                    text = word.encode()
                    file.write(b"$%d\r\n%b\r\n" % (len(text), text))
            file.flush()
            assert self.read(file) == "OK"
            return self.read(file)

    def read(self, file: Any) -> Any:
        head = file.readline().decode().rstrip("\r\n")
        if not head:
            raise OSError("Redis hung up")
        kind, rest = head[0], head[1:]
        assert kind != "-", rest
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else file.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
        if kind == "*":
            return [self.read(file) for _ in range(int(rest))]
        return rest

    def account(self, level: str, name: str = "") -> dict[str, int]:
        """An account as all gateways see it: `spent` ever, `held` money, `in_flight`; all 0 for one that is not known."""
        flat = self.ask("HGETALL", f"{{penstock}}:a:{level[0]}:{name}")
        has = dict(zip(flat[::2], flat[1::2]))
        number = lambda field: int(has.get(field, "0"))
        return {"spent": number("T") + number("U"), "unwritten": number("U"), "held": number("H"), "in_flight": number("n")}


@pytest.fixture
def redis(tmp_path: pathlib.Path) -> Iterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Redis(folder)
    yield server
    server.kill()
