"""The documentation, executed: every command, Python snippet and configuration on every page, in order, in an empty folder.

Changed on the way, because two gateways may run on one machine: the ports, and the key that a reader would paste.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any, Iterator

import pytest

import harness

PAGES = sorted(
    str(path.relative_to(harness.ROOT))
    for path in [harness.ROOT / "README.md", *(harness.ROOT / "docs").rglob("*.md")]
    if not path.relative_to(harness.ROOT).as_posix().startswith(("docs/errors/", "docs/decisions/")))
ALL_PAGES = sorted(str(path.relative_to(harness.ROOT)) for path in [
    harness.ROOT / "README.md", harness.ROOT / "CHANGELOG.md", *(harness.ROOT / "docs").rglob("*.md")])
CODES = sorted(path.stem for path in (harness.ROOT / "docs" / "errors").glob("*.md") if path.stem != "README")

SHOWN = {"text", "nginx"}  # For the eye alone.
SERVERS = re.compile(r"^(\./run|penstock (up|serve|mock))\b(?!.*(--once|--help))")


def blocks(page: str) -> list[tuple[str, str, int]]:
    """Language, text and line of every fenced block."""
    found: list[tuple[str, str, int]] = []
    language: str | None = None
    lines: list[str] = []
    for number, line in enumerate((harness.ROOT / page).read_text("utf-8").splitlines(), 1):
        fence = re.match(r"^(\s*)```(.*)$", line)
        if fence and language is None:
            language, lines, start = fence.group(2).strip(), [], number + 1
        elif fence:
            found.append((language or "", "\n".join(lines) + "\n", start))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}: a block is not closed"
    return found


class Reader:
    """Somebody who types what a page says."""

    def __init__(self, folder: pathlib.Path, spawn: Any, mock: harness.Mock):
        self.folder, self.spawn = folder, spawn
        self.key = ""
        self.servers: list[harness.Process] = []
        self.port, self.mock_port, self.admin_port = (harness.free_port() for _ in range(3))
        (folder / "bin").mkdir()
        (folder / "bin" / "penstock").symlink_to(harness.binary())
        (folder / "work").mkdir()
        self.work = folder / "work"
        for name in ("run", "scripts", "models.lock"):
            (self.work / name).symlink_to(harness.ROOT / name)
        for name in ("mistral-key", "second-openai-key"):
            (self.work / name).write_text(f"sk-{name}\n")
            (self.work / name).chmod(0o600)
        self.env = folder / "env.sh"
        self.env.write_text("")
        # The model servers that the pages speak of are the mock's.
        upstream = f"127.0.0.1:{mock.port}"
        self.changes = [
            ("127.0.0.1:8080", f"127.0.0.1:{self.port}"), ("127.0.0.1:8079", f"127.0.0.1:{self.admin_port}"),
            ("127.0.0.1:9100", f"127.0.0.1:{self.mock_port}"), ("127.0.0.1:8000", upstream), ("127.0.0.1:11434", upstream),
            ("127.0.0.1:8001", upstream), ("127.0.0.1:8081", upstream),
        ]

    def adapt(self, text: str) -> str:
        for old, new in self.changes:
            text = text.replace(old, new)
        if "pk_live_…" in text:
            harness.until(lambda: any("pk_live_" in server.log() for server in self.servers), "a first key is shown")
            text = text.replace("pk_live_…", harness.find_key("\n".join(server.log() for server in self.servers)))
        return text

    def environment(self) -> dict[str, str]:
        return {
            "CI_KEY": "pk_test_" + "c" * 40,
            "BATCH_JOBS_KEY": "pk_test_" + "b" * 40,
            "DESK_KEY": "pk_test_" + "d" * 40,
            "CRAWLER_KEY": "pk_test_" + "e" * 40,
            "HOOK_SECRET": "whsec_" + "c" * 43 + "=",
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PENSTOCK_BIN": harness.binary(),
            "PENSTOCK_ADDRESS": f"127.0.0.1:{self.port}",
        }

    def shell(self, text: str, place: str) -> str:
        """Runs commands as one script; variables live on into the next block."""
        script = f"set -euo pipefail\n. {shlex.quote(str(self.env))}\n{text}\nexport -p > {shlex.quote(str(self.env))}\n"
        # What a page's configuration refers to is there; a server that was started before has not seen it, so that `up`
        # finds a machine without vendors.
        vendors = {name: f"sk-{name.lower()}" for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "GEMINI_API_KEY", "HOUSE_KEY",
                                                      "CONSOLE_SECRET", "GATEWAY_SECRET")}
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.work, env={**os.environ, **vendors, **self.environment()}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=150, check=False)
        logs = "\n".join(server.log()[-1500:] for server in self.servers)
        assert done.returncode == 0, f"{place} ended with {done.returncode}:\n{text}\n{done.stdout}\n{done.stderr}\n{logs}"
        # curl is content with a refusal; a reader is not, unless the page has announced it.
        for code in re.findall(r'"error":\s*\{.*?"code":\s*"(\w+)"', done.stdout, re.S):
            page = (harness.ROOT / place.split(":")[0]).read_text("utf-8")
            assert code in page, f"{place} was refused:\n{text}\n{done.stdout}"
        return done.stdout + done.stderr

    def serve(self, line: str) -> None:
        """Starts what a reader would leave running in another terminal."""
        words = shlex.split(line, comments=True)
        if words[0] == "penstock":
            words[0] = harness.binary()
        mock = words[1:2] == ["mock"]
        if not mock:
            words += ["--listen", f"127.0.0.1:{self.port}"]
        else:
            words += ["--listen", f"127.0.0.1:{self.mock_port}"]
        server = self.spawn(harness.Process(words, self.work, self.environment(), f"server-{len(self.servers)}"))
        self.servers.append(server)
        server.wait_ready(f"http://127.0.0.1:{self.mock_port}/v1/models" if mock else f"http://127.0.0.1:{self.port}/readyz")

    def follow(self, language: str, text: str, place: str) -> None:
        if language == "console":
            self.console(text, place)
        elif language == "sh":
            pending: list[str] = []
            for line in text.splitlines():
                if SERVERS.match(line):
                    if pending:
                        self.shell(self.adapt("\n".join(pending)), place)
                    pending = []
                    self.serve(self.adapt(line))
                else:
                    pending.append(line)
            if "".join(pending).strip():
                self.shell(self.adapt("\n".join(pending)), place)
        elif language == "python":
            (self.folder / "snippet.py").write_text(self.adapt(text))
            self.shell(f"{shlex.quote(sys.executable)} {shlex.quote(str(self.folder / 'snippet.py'))}", place)
        elif language == "yaml":
            (self.work / "penstock.yaml").write_text(self.adapt(text))
            self.yaml_checked(text, place)
        elif language == "json":
            json.loads(text)
        else:
            assert language in SHOWN, f"{place}: no test runs blocks marked `{language}`"

    def yaml_checked(self, text: str, place: str) -> None:
        needs_file = re.search(r"path: (\./\S+)", text)
        if needs_file and not (self.work / needs_file.group(1)).exists():
            return  # The page puts the file there and runs `penstock check` afterwards.
        self.shell("penstock check", place)

    def console(self, text: str, place: str) -> None:
        command, expected = "", []
        for line in [*text.splitlines(), "$ :"]:
            if line.startswith("$ "):
                if command:
                    said = self.shell(self.adapt(command), place)
                    for wanted in expected:
                        pattern = ".*".join(re.escape(part) for part in wanted.strip().split("…"))
                        assert re.search(pattern, said), f"{place}: `{command}` did not say `{wanted}` but:\n{said}"
                command, expected = line[2:], []
            elif command.endswith("\\"):
                command += "\n" + line
            elif line.strip():
                expected.append(line)


@pytest.fixture
def reader(folder: pathlib.Path, spawn: Any, mock: harness.Mock) -> Iterator[Reader]:
    yield Reader(folder, spawn, mock)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
@pytest.mark.timeout(400)
def test_what_a_page_says_works_as_written(page: str, reader: Reader) -> None:
    for language, text, line in blocks(page):
        reader.follow(language, text, f"{page}:{line}")
    for server in reader.servers:
        server.must_live()


def test_the_pages_are_there_and_have_something_to_run() -> None:
    languages = [language for page in PAGES for language, _, _ in blocks(page)]
    assert len(PAGES) > 12 and languages.count("sh") > 15 and languages.count("yaml") > 6 and languages.count("python") > 2


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (harness.ROOT / page).read_text("utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, _ = target.partition("#")
        assert not path or ((harness.ROOT / page).parent / path).exists(), f"{page} links to {target}, which is not there"


def test_every_code_of_the_program_has_its_page_and_every_page_its_code() -> None:
    source = (harness.ROOT / "crates/domain/src/error.rs").read_text("utf-8")
    table = re.findall(r'/// (.+)\n\s+\w+ = "(\w+)", (\w+), (\w+);', source)
    assert sorted(code for _, code, _, _ in table) == CODES and len(CODES) > 30
    for meaning, code, _, _ in table:
        lines = (harness.ROOT / "docs" / "errors" / f"{code}.md").read_text("utf-8").splitlines()
        assert lines[:3] == [f"# {code}", "", meaning], f"docs/errors/{code}.md must begin with its name and: {meaning}"


@pytest.mark.parametrize("code", CODES)
def test_an_error_page_is_whole(code: str) -> None:
    text = (harness.ROOT / "docs" / "errors" / f"{code}.md").read_text("utf-8")
    for heading in ("## What it looks like", "## Common causes", "## How to mend it"):
        assert heading in text
    example = json.loads(re.search(r"```json\n(.*?)```", text, re.S).group(1))["error"]  # type: ignore[union-attr]
    assert example["code"] == code and set(example) == {"message", "type", "param", "code", "penstock"}
    assert example["message"][0] in "`abcdefghijklmnopqrstuvwxyz0123456789/" and not example["message"].endswith("."), (
        "a sentence of an error is lower case and has no final stop")
    for section in ("## Common causes", "## How to mend it"):
        body = text.split(section)[1].split("\n## ")[0]
        assert body.count("\n- ") >= 1


def test_real_refusals_look_as_their_pages_say(gateway: harness.Gateway, secrets: dict[str, str]) -> None:
    key = secrets["SUITE_KEY"]
    real = [
        gateway.chat(None), gateway.chat("pk_wrong"), gateway.chat(key, "no-such-model"), gateway.get("/v1/nothing", key),
        gateway.get("/v1/chat/completions", key), gateway.post("/v1/chat/completions", b"{", key),
        gateway.chat(key, "unreachable"), gateway.chat(key, "upstream", mock={"status": 500}),
        gateway.chat(secrets["NARROW_KEY"], "small"), gateway.post("/v1/embeddings", {"model": "mock", "input": "x"}, secrets["NARROW_KEY"]),
    ]
    for reply in real:
        error = reply.json()["error"]
        page = (harness.ROOT / "docs" / "errors" / f"{error['code']}.md").read_text("utf-8")
        assert f"Status {reply.status}." in page, (reply.status, error)
        shown = json.loads(re.search(r"```json\n(.*?)```", page, re.S).group(1))["error"]  # type: ignore[union-attr]
        assert set(shown) == set(error) and shown["type"] == error["type"]
        assert error["penstock"]["request_id"] == reply.headers["x-request-id"]
        served = gateway.get(error["penstock"]["docs_url"])
        assert served.text == page, "the gateway serves another page than the documentation has"


def test_the_reference_names_every_verb_scope_and_metric(gateway: harness.Gateway, folder: pathlib.Path) -> None:
    reference = (harness.ROOT / "docs/reference/cli.md").read_text("utf-8")
    verbs = re.findall(r"^  ([a-z]+)  ", harness.cli("--help", folder=folder).stdout, re.M)
    assert {"up", "serve", "check"} <= set(verbs)
    for verb in verbs:
        assert verb == "help" or f"`{verb}" in reference, f"docs/reference/cli.md does not name the verb {verb}"
    metrics = (harness.ROOT / "docs/reference/metrics.md").read_text("utf-8")
    for family in re.findall(r"^# TYPE (\S+) ", gateway.get("/metrics").text, re.M):
        assert f"`{family}" in metrics, f"docs/reference/metrics.md does not name {family}"
    schema = json.loads(harness.cli("config", "schema", folder=folder).stdout)
    configuration = (harness.ROOT / "docs/reference/configuration.md").read_text("utf-8")
    for section in schema["properties"]:
        assert f"| `{section}` |" in configuration, f"docs/reference/configuration.md does not name the section {section}"
    http = (harness.ROOT / "docs/reference/http-api.md").read_text("utf-8")
    for path in gateway.get("/openapi.json").json()["paths"]:
        assert path in http or path.endswith(".js"), f"docs/reference/http-api.md does not name {path}"


@pytest.mark.parametrize(("file", "command"), [("config.schema.json", ("config", "schema")), ("openapi.json", ("openapi",))])
def test_generated_reference_files_are_fresh(file: str, command: tuple[str, ...], folder: pathlib.Path) -> None:
    printed = harness.cli(*command, folder=folder).stdout
    kept = (harness.ROOT / "docs" / "reference" / file).read_text("utf-8")
    assert json.loads(printed) == json.loads(kept), f"docs/reference/{file} is stale: cargo build -p penstock && cargo xtask generate"
