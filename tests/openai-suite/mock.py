"""A server that answers OpenAI's API as its description says: the partner of the openai package's test suite.

    python3 mock.py PORT_FILE --key KEY [--tally FILE] [--behind-gateway]

Every path and method of the description is answered with a minimal instance of its schema, events where the request asks
for a stream. What the description does not know is refused: 404 for a path, 405 for a method, 415 for a media type, 400
for a body without its required members, 401 without the key. The same request gets the same answer every time. One
process, standard library only.

With `--tally` the digest of every request (method, path, query, media type, body) is counted, and the counts are written
on SIGTERM: two runs of the same suite must have asked the same. With `--behind-gateway` answers carry a cookie and a header that a gateway has to keep.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import re
import signal
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote

from instance import Instances

DESCRIPTION = Path(__file__).with_name("openai-openapi.reduced.json.gz")
PREFIX = "/v1"
#: Larger than anything the suite sends.
MAX_BODY = 64 << 20
#: A header of the asker's side that must not come through a gateway.
NEVER = ("cookie", "proxy-authorization", "x-api-key", "api-key")


class Refused(Exception):
    """A request that the description does not allow."""

    def __init__(self, status: int, say: str) -> None:
        super().__init__(say)
        self.status = status


class Api:
    """The description, ready to be asked."""

    def __init__(self, description: dict, keys: list[str], behind_gateway: bool) -> None:
        self.behind_gateway = behind_gateway
        self._credentials = [f"Bearer {key}" for key in keys]
        self._instances = Instances(description["schemas"])
        self._made: dict[str, bytes] = {}
        # A literal path goes before one with parameters: /files/content would else be a file's id.
        rows = [(path.partition("?"), operations) for path, operations in description["paths"].items()]
        rows.sort(key=lambda row: (row[0][0].count("{"), row[0][2] == ""))
        self._rows = [(re.compile(PREFIX + re.sub(r"\{[^}]*\}", "[^/]+", path) + "$"), query, operations)
                      for (path, _, query), operations in rows]

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer."""
        path, _, query = target.partition("?")
        self._check_credential(headers)
        operation = self._find(method, unquote(path, errors="strict"), parse_qs(query, keep_blank_values=True))
        sent = self._check_body(operation, headers, body)
        status, answers = next(iter(operation.get("answers", {"200": {}}).items()))
        if "text/event-stream" in answers and sent.get("stream"):
            return int(status), "text/event-stream", self._events(path)
        media = next((media for media in answers if media != "text/event-stream"), None)
        if media is None:
            return int(status), "", b""
        if media != "application/json":
            return int(status), media, b"\x00\x01binary\xff" if "sdp" not in media else b"v=0\r\n"
        return int(status), media, self._instance(answers[media])

    def _check_credential(self, headers: dict[str, str]) -> None:
        if headers.get("authorization") not in self._credentials:
            raise Refused(401, "expected the key of this server")
        for name in NEVER:
            if name in headers:
                raise Refused(400, f"a {name} header has no business here")

    def _find(self, method: str, path: str, query: dict) -> dict:
        allowed = set()
        for pattern, needs, operations in self._rows:
            if not pattern.match(path) or (needs and needs.split("=")[0] not in query):
                continue
            if operation := operations.get(method.lower()):
                for name in operation.get("query", ()):
                    if name not in query and f"{name}[]" not in query:
                        raise Refused(400, f"the query lacks {name}")
                return operation
            allowed.update(operations)
        if allowed:
            raise Refused(405, f"this path takes {sorted(allowed)}")
        raise Refused(404, "the description has no such path")

    @staticmethod
    def _check_body(operation: dict, headers: dict[str, str], body: bytes) -> dict:
        described = operation.get("body")
        if not described or (not body and not described["required"]):
            return {}
        media = headers.get("content-type", "").partition(";")[0].strip()
        if media not in described["content"]:
            raise Refused(415, f"expected {sorted(described['content'])}, found {media!r}")
        required = described["content"][media]
        if media == "application/json":
            try:
                sent = json.loads(body)
            except ValueError as error:
                raise Refused(400, f"not JSON: {error}") from None
            if not isinstance(sent, dict):
                raise Refused(400, "expected an object")
        elif media == "multipart/form-data":
            sent = {match.group(1).decode().removesuffix("[]"): body[match.end():match.end() + 16]
                    for match in re.finditer(rb'\bname="([^"]*)"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n', body)}
            sent["stream"] = sent.get("stream", b"").startswith(b"true")
        else:
            return {}
        for name in required:
            if name not in sent:
                raise Refused(400, f"the body lacks {name}")
        return sent

    def _instance(self, schema: dict) -> bytes:
        name = json.dumps(schema, sort_keys=True)
        if name not in self._made:
            self._made[name] = json.dumps(self._instances.of(schema)).encode()
        return self._made[name]

    def _named(self, name: str, **exact: object) -> dict:
        made = self._instances.of({"$ref": f"#/components/schemas/{name}"})
        return {**made, **exact} if isinstance(made, dict) else {**exact}

    def _events(self, path: str) -> bytes:
        """A whole stream, as the vendor would give one: events by type, or chunks and the end marker."""
        if path.endswith("/chat/completions"):
            def chunk(delta: dict, finish: str | None = None) -> dict:
                choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
                return self._named("CreateChatCompletionStreamResponse", choices=[choice])
            events = [chunk({"role": "assistant", "content": ""}), chunk({"content": "string"}), chunk({}, "stop")]
            return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
        if path.endswith("/completions"):
            event = self._named("CreateCompletionResponse")
            return b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(event).encode()
        if path.endswith("/responses"):
            response = self._named("Response")
            events = [
                {"type": "response.created", "sequence_number": 0, "response": {**response, "status": "in_progress", "output": []}},
                {"type": "response.completed", "sequence_number": 1, "response": {**response, "status": "completed"}},
            ]
        else:
            events = [{"type": f"{path.removeprefix(PREFIX).strip('/').replace('/', '.')}.done"}]
        return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def digest(method: str, target: str, headers: dict[str, str], body: bytes) -> str:
    """What a request is, without what differs between two runs of the same client: the boundary of its parts. And without
    the one wish that Penstock adds by design, because it counts every answer: usage at the end of a stream."""
    if target.endswith("/completions") and b'"stream":true' in body.replace(b" ", b""):
        asked = json.loads(body)
        asked["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
        body = json.dumps(asked, sort_keys=True).encode()
    media = headers.get("content-type", "")
    if (boundary := re.search(r'boundary="?([^";]+)', media)) and body:
        mark = boundary.group(1)
        media, body = media.replace(mark, "B"), body.replace(mark.encode(), b"B")
    return f"{method} {target} {media} {hashlib.sha256(body).hexdigest()[:16]}"


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as a client library and a gateway speak it: keep-alive, lengths, chunks."""

    def __init__(self, api: Api, tally: Counter) -> None:
        self._api, self._tally = api, tally
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._take()) is not None:
            self._reply(*request)

    def _take(self) -> tuple[str, str, dict[str, str], bytes] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "chunked" in headers.get("transfer-encoding", ""):
            taken = self._chunks(end + 4)
        else:
            length = int(headers.get("content-length", 0))
            stop = end + 4 + length
            taken = (bytes(self._buffer[end + 4:stop]), stop) if len(self._buffer) >= stop else None
        if taken is None:
            if len(self._buffer) > MAX_BODY:
                self._transport.close()
            return None
        body, stop = taken
        del self._buffer[:stop]
        return method, target, headers, body

    def _chunks(self, at: int) -> tuple[bytes, int] | None:
        body = bytearray()
        while (line := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(self._buffer[at:line].partition(b";")[0], 16)
            stop = line + 2 + size + 2
            if len(self._buffer) < stop:
                return None
            body += self._buffer[line + 2:stop - 2]
            at = stop
            if size == 0:
                return bytes(body), stop
        return None

    def _reply(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._tally[digest(method, target, headers, body)] += 1
        try:
            status, media, out = self._api.answer(method, target, headers, body)
        except Refused as refused:
            error = {"message": f"mock: {refused}", "type": "invalid_request_error", "param": None, "code": None}
            status, media, out = refused.status, "application/json", json.dumps({"error": error}).encode()
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(out)}",
                 "x-request-id: req_mock"]
        if self._api.behind_gateway:
            # The credentials of one asker must not become those of another.
            lines += ["set-cookie: session=secret; path=/", "x-internal: secret"]
        if media:
            lines.append(f"content-type: {media}")
        self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + out)


async def serve(asked: argparse.Namespace) -> None:
    with gzip.open(DESCRIPTION) as file:
        api = Api(json.load(file), asked.key, asked.behind_gateway)
    tally: Counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api, tally), "127.0.0.1", 0)
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    asked.port_file.write_text(str(server.sockets[0].getsockname()[1]))
    await over.wait()
    if asked.tally:
        asked.tally.write_text(json.dumps(tally))
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a mock of OpenAI's API")
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--key", required=True, action="append")
    parser.add_argument("--tally", type=Path)
    parser.add_argument("--behind-gateway", action="store_true")
    asyncio.run(serve(parser.parse_args()))
