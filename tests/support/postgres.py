"""A real PostgreSQL of the suites' own: a scratch folder, a free port, and an end with the process that started it.

`server()` is a context manager, `postgres` the same as a pytest fixture (import it to use it). Durability is off: the
machine does not crash, and a server that is killed loses nothing that it has committed.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
from typing import Iterator

import pytest

import harness

PASSWORD = "a pass/word:with@signs"
# The same for a URL.
QUOTED = "a%20pass%2Fword%3Awith%40signs"

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
    "log_statement": "ddl",
}


def program(name: str) -> str:
    """Debian keeps them off the path; Homebrew does not link them."""
    found = shutil.which(name)
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    folders += [pathlib.Path(prefix) for prefix in (
        "/opt/homebrew/opt/postgresql@17/bin", "/usr/local/opt/postgresql@17/bin")]
    for folder in reversed(folders):
        if os.access(folder / name, os.X_OK):
            return str(folder / name)
    if found:
        return found
    raise RuntimeError(f"there is no {name}; `./test` installs PostgreSQL")


def user() -> pwd.struct_passwd | None:
    """Whom it runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("neither postgres nor nobody is a user of this machine")


def as_user(*command: str, dies: bool = False) -> list[str]:
    """The command as that user; `dies`: also killed when the process that starts it ends, where the system can."""
    setpriv = shutil.which("setpriv")
    owner = user()
    if not setpriv:
        if owner:
            raise RuntimeError("there is no setpriv to leave root with; it is part of util-linux")
        return list(command)
    who = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []
    death = ["--pdeathsig=KILL"] if dies else []
    return [setpriv, *who, *death, "--", *command] if who or death else list(command)


def base() -> str | None:
    """Where its folder may lie: the user that it runs as has to reach it."""
    own = os.environ.get("PENSTOCK_TEST_SCRATCH")
    if not own or not user():
        return own
    reachable = all(folder.stat().st_mode & 0o001 for folder in (pathlib.Path(own), *pathlib.Path(own).parents))
    return own if reachable else None


class Postgres(harness.Process):
    """One server with as many databases as are asked for."""

    def __init__(self, folder: pathlib.Path):
        self.port = harness.free_port()
        self.data = folder / "data"
        self.sockets = folder
        self.databases = 0
        # Key and certificate in one file, for `encrypt`.
        self.proof: pathlib.Path | None = None
        owner = user()
        if owner:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        done = subprocess.run(
            as_user(program("initdb"), "--pgdata", str(self.data), "--username=penstock", "--encoding=UTF8", "--locale=C",
                    "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}", "--no-sync"),
            cwd=folder, capture_output=True, text=True, timeout=harness.PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        super().__init__(self.command(), folder, name="postgres")
        self.wait_open()

    def command(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.port), "listen_addresses": "127.0.0.1",
                    "unix_socket_directories": str(self.sockets)}
        if self.proof:
            settings |= {"ssl": "on", "ssl_cert_file": str(self.proof), "ssl_key_file": str(self.proof)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return as_user(program("postgres"), "-D", str(self.data), *options, dies=True)

    def wait_open(self) -> None:
        def opened() -> bool:
            self.must_live()
            return self.psql("postgres", "SELECT 1").returncode == 0

        harness.until(opened, f"PostgreSQL answers\n{self.log()[-2000:]}")

    def psql(self, database: str, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
             "--host", str(self.sockets), "--port", str(self.port), "--username=penstock", "--dbname", database,
             "--command", text],
            capture_output=True, text=True, timeout=harness.PATIENCE, check=False)

    def sql(self, database: str, text: str) -> str:
        """What a statement says, fields with | between."""
        done = self.psql(database, text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create(self) -> str:
        """A new, empty database; its name."""
        self.databases += 1
        name = f"t{self.databases}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        """The address of a database, with the password in it."""
        return f"postgres://penstock:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def children(self) -> list[int]:
        found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        rows = (line.split() for line in found.splitlines())
        return [int(pid) for pid, parent in rows if int(parent) == self.child.pid]

    def pause(self) -> None:
        """Stops every process of it: connections stay open and nothing answers."""
        for pid in (self.child.pid, *self.children()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in (*self.children(), self.child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def encrypt(self, proof: pathlib.Path) -> None:
        """Takes a file with key and certificate, and starts again with TLS."""
        self.proof = self.data / "server.pem"
        shutil.copyfile(proof, self.proof)
        self.proof.chmod(0o600)
        owner = user()
        if owner:
            os.chown(self.proof, owner.pw_uid, owner.pw_gid)
        self.crash()
        self.restart()

    def crash(self) -> None:
        """Ends it at once, without a word to whom it serves (`pg_ctl stop -m immediate`)."""
        self.signal(signal.SIGQUIT)
        self.wait()

    def restart(self) -> None:
        """Starts it again, after it ended."""
        assert not self.alive()
        self.kill()
        super().__init__(self.command(), self.folder, name="postgres")
        self.wait_open()

    def kill(self) -> None:
        if self.alive():
            self.go_on()
            # The others see that it is gone, and end.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.signal(signal.SIGQUIT)
            with contextlib.suppress(AssertionError):
                self.wait(20)
        super().kill()


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-postgres-", dir=base()))
    running = None
    try:
        running = Postgres(folder)
        yield running
    finally:
        if running:
            running.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with server() as running:
        yield running
