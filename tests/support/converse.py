"""Answers of Amazon Bedrock's Converse API on the wire: a whole one, and a stream of its binary frames.

A script says what the answer is: `content` (blocks as the service writes them), and if need be `stop` and `exception`.
`tests/upstream/test_bedrock.py` proves these frames with the vendor's own client.
"""

from __future__ import annotations

import binascii
import contextlib
import http.server
import json
import re
import struct
import threading
from typing import Any, Iterator

USAGE = {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17, "cacheReadInputTokens": 90, "cacheWriteInputTokens": 5}


def frame(kind: str, payload: dict[str, Any], exception: bool = False) -> bytes:
    """One message of `application/vnd.amazon.eventstream`."""
    names = {
        (":exception-type" if exception else ":event-type"): kind,
        ":content-type": "application/json",
        ":message-type": "exception" if exception else "event",
    }
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in names.items())
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    head = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return head + struct.pack(">I", binascii.crc32(head))


def whole(script: dict[str, Any]) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": script["content"]}}, "usage": USAGE,
            "stopReason": script.get("stop", "end_turn"), "metrics": {"latencyMs": 1}}


def events(script: dict[str, Any]) -> Iterator[bytes]:
    yield frame("messageStart", {"role": "assistant"})
    for index, block in enumerate(script["content"]):
        if "toolUse" in block:
            call = block["toolUse"]
            start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
            yield frame("contentBlockStart", {"contentBlockIndex": index, "start": start})
            text = json.dumps(call["input"])
            deltas = [{"toolUse": {"input": part}} for part in (text[:5], text[5:])]
        elif "reasoningContent" in block:
            told = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": told["text"]}}, {"reasoningContent": {"signature": told["signature"]}}]
        else:
            deltas = [{"text": word} for word in re.findall(r"\S+\s*", block["text"])]
        for delta in deltas:
            yield frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
        yield frame("contentBlockStop", {"contentBlockIndex": index})
    if "exception" in script:
        yield frame(script["exception"], {"message": "it is too much"}, exception=True)
        return
    yield frame("messageStop", {"stopReason": script.get("stop", "end_turn")})
    yield frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers whatever it is asked with the one script of its server."""

    protocol_version = "HTTP/1.1"
    server: "Speaker"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        streamed = self.path.endswith("/converse-stream")
        body = json.dumps(whole(self.server.script)).encode()
        frames = list(events(self.server.script))
        self.send_response(200)
        self.send_header("content-type", "application/vnd.amazon.eventstream" if streamed else "application/json")
        self.send_header(*(("transfer-encoding", "chunked") if streamed else ("content-length", str(len(body)))))
        # Who was cut off in between is no news here.
        with contextlib.suppress(OSError):
            self.end_headers()
            if not streamed:
                self.wfile.write(body)
                return
            for data in frames:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")


class Speaker(http.server.ThreadingHTTPServer):
    """A vendor that says one thing, in Converse's words, to everybody; it looks at no credential."""

    daemon_threads = True

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        threading.Thread(target=self.serve_forever, daemon=True).start()
