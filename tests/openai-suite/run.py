"""Runs the openai package's own tests against a mock of OpenAI's API, directly and through Penstock, and compares.

    python3 run.py SOURCE_PACKAGE [--tally FILE] [-k EXPRESSION]

Of the source package every test module is run that reads TEST_API_BASE_URL: the others never ask a server. What fails
directly (newer than the description that the mock is made from, mostly) is no fault of Penstock's; whatever passes
directly has to pass through it. The mock behind Penstock wants the provider's key, refuses cookies and the asker's key,
and counts what it was asked: what Penstock passes on has to arrive as it was sent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as tree
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import harness  # noqa: E402

#: Fewer than these would mean that the mock or the suite is broken, and the comparison empty.
FEWEST = 6_000
WORKERS = 2
LIMIT = 900


class Mock(harness.Process):
    """The mock server of this folder."""

    def __init__(self, folder: Path, name: str, keys: list[str], *flags: str) -> None:
        port_file, self._tally = folder / f"{name}.port", folder / f"{name}.tally"
        asked = [word for key in keys for word in ("--key", key)]
        super().__init__([sys.executable, "-B", str(HERE / "mock.py"), str(port_file), "--tally", str(self._tally), *asked, *flags],
                         folder, name=name)
        harness.until(lambda: self.must_live() or (port_file.exists() and port_file.read_text()), "the mock listens")
        self.url = f"http://127.0.0.1:{port_file.read_text()}/v1"

    def asked(self) -> Counter:
        """Ends the mock; what it was asked, and how often."""
        self.signal(15)
        self.wait()
        return Counter(json.loads(self._tally.read_text()))


def gateway(folder: Path, mock: Mock, secret: str, keys: dict[str, str]) -> harness.Gateway:
    """Penstock with everything that it does not speak itself relayed."""
    config = {
        "providers": {"mockai": {"kind": "openai", "base_url": mock.url, "api_key": "${MOCKAI_KEY}"}},
        "models": {"*": {"provider": "mockai", "model": "*"}},
        "relay": {"provider": "mockai", "paths": ["/v1/*"]},
        "keys": [{"name": name, "key": f"${{{name.upper()}_KEY}}", "scopes": ["*"]} for name in keys],
        "log": {"level": "warn"},
    }
    env = {"MOCKAI_KEY": secret, **{f"{name.upper()}_KEY": key for name, key in keys.items()}}
    return harness.Gateway(folder, config, env)


def modules(package: Path) -> list[str]:
    """The test modules that ask a server."""
    found = (path for path in sorted((package / "tests").rglob("test_*.py")))
    return [str(path.relative_to(package)) for path in found if "TEST_API_BASE_URL" in path.read_text("utf-8")]


def shards(package: Path, tests: list[str]) -> list[list[str]]:
    """The modules in as many parts of about the same size as there are workers."""
    parts: list[list[str]] = [[] for _ in range(WORKERS)]
    weights = [0] * WORKERS
    for test in sorted(tests, key=lambda test: -(package / test).stat().st_size):
        lightest = weights.index(min(weights))
        parts[lightest].append(test)
        weights[lightest] += (package / test).stat().st_size
    return [part for part in parts if part]


def start(package: Path, report: Path, url: str, tests: list[str], *options: str, env: dict[str, str]) -> subprocess.Popen:
    """Starts one pytest. A failure costs more time to explain than a hundred passes take, so it is explained only where
    it matters; one process of its own per part, because each worker of pytest-xdist would import every module."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"TEST_API_BASE_URL": url, "PYTHONPATH": f"{package / 'src'}:{HERE}", **env}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", "--show-capture=no",
               "-rN", "--durations=1", f"--junitxml={report}", *options, *tests]
    with open(report.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(command, cwd=package, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def run(folder: Path, name: str, package: Path, url: str, options: list[str], env: dict[str, str]) -> dict[str, str]:
    """One run of the suite: the outcome of every test."""
    reports, running = [], []
    for number, part in enumerate(shards(package, modules(package))):
        reports.append(folder / f"{name}.{number}.xml")
        running.append(start(package, reports[-1], url, part, *options, env=env))
    try:
        for child in running:
            child.wait(LIMIT)
    finally:
        for child in running:
            child.kill()
    return {test: outcome for report in reports for test, outcome in outcomes(report).items()}


def outcomes(report: Path) -> dict[str, str]:
    """The outcome of every test of one report, by its name."""
    if not report.exists():
        raise SystemExit(report.with_suffix(".log").read_text("utf-8", "replace")[-4000:])
    found = {}
    for case in tree.parse(report).iter("testcase"):
        bad = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = bad
    return found


def node(name: str) -> str:
    """A test's name as pytest takes it on its command line."""
    classes, _, case = name.partition("::")
    parts = classes.split(".")
    module = next(at for at, part in enumerate(parts) if part.startswith("test_"))
    return "::".join(["/".join(parts[: module + 1]) + ".py", *parts[module + 1 :], case])


def passed(found: dict[str, str]) -> set[str]:
    return {name for name, outcome in found.items() if outcome == "passed"}


#: Answered by Penstock itself, or from its own store.
OWN = ("GET /v1/models", "/v1/responses")


def altered(direct: Counter, through: Counter) -> list[str]:
    """What was asked directly and did not arrive through Penstock as it was sent, and what arrived that was not sent."""
    differ = [(f"lost {count} x", request) for request, count in (direct - through).items()]
    differ += [(f"came {count} x", request) for request, count in (through - direct).items()]
    return sorted(f"{how} {request}" for how, request in differ if not any(own in request for own in OWN))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("--tally", type=Path)
    parser.add_argument("-k", default="")
    asked = parser.parse_args()
    options = ["-k", asked.k] if asked.k else []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PENSTOCK_TEST_SCRATCH")) as scratch:
        folder = Path(scratch)
        with tarfile.open(asked.package) as packed:
            packed.extractall(folder, filter="data")
        package = next(folder.glob("openai-*"))
        lost, wrong, counts = compare(folder, package, options)
    missing = [] if asked.k or counts[0] >= FEWEST else [f"only {counts[0]} tests pass directly, expected {FEWEST}"]
    for line in missing + wrong[:40]:
        print(line)
    print(f"{counts[0]} pass directly, {counts[1]} through Penstock, {len(lost)} only directly; "
          f"{len(wrong)} requests did not arrive as they were sent")
    if asked.tally:
        asked.tally.write_text(f"{counts[1]} {len(lost) + len(missing) + bool(wrong)} 0\n")
    return 1 if lost or missing or wrong else 0


def compare(folder: Path, package: Path, options: list[str]) -> tuple[list[str], list[str], tuple[int, int]]:
    """Both runs: the tests that only the direct one passes, the requests that arrived otherwise, how many passed."""
    started = time.monotonic()
    mock = Mock(folder, "direct", ["My API Key", "My Admin API Key"])
    direct = run(folder, "direct", package, mock.url, options, {})
    asked_directly = mock.asked()
    mock.kill()
    print(f"directly: {tell(direct)} in {time.monotonic() - started:.0f} s", flush=True)

    started = time.monotonic()
    keys = {"suite": harness.new_secret(), "admin": harness.new_secret()}
    secret = "sk-" + harness.new_secret()
    mock = Mock(folder, "behind", [secret], "--behind-gateway")
    penstock = gateway(folder, mock, secret, keys)
    env = {"SUITE_KEY": keys["suite"], "SUITE_ADMIN_KEY": keys["admin"]}
    url = f"{penstock.url}/v1"
    try:
        through = run(folder, "through", package, url, ["-p", "suite_keys", *options], env)
        print(f"through Penstock: {tell(through)} in {time.monotonic() - started:.0f} s", flush=True)
        lost = sorted(passed(direct) - passed(through))
        if lost:
            # Everything is named; a few are explained.
            print("\n".join(["", "pass directly and not through Penstock:", *lost]))
            explain = ["-p", "suite_keys", "--tb=short"]
            why = folder / "why.xml"
            start(package, why, url, [node(name) for name in lost[:20]], *explain, env=env).wait(LIMIT)
            print(why.with_suffix(".log").read_text("utf-8", "replace")[-20_000:])
            print(penstock.log()[-4_000:])
        penstock.stop()
        asked_through = mock.asked()
    finally:
        penstock.kill()
        mock.kill()
    wrong = [] if lost else altered(asked_directly, asked_through)
    return lost, wrong, (len(passed(direct)), len(passed(through)))


def tell(found: dict[str, str]) -> str:
    counts = Counter(found.values())
    return ", ".join(f"{counts[word]} {word}" for word in ("passed", "failure", "error", "skipped") if counts[word])


if __name__ == "__main__":
    sys.exit(main())
