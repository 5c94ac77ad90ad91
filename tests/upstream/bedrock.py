"""A fake of Amazon Bedrock's Converse API, for no account is at hand.

Built from the public description of the service that botocore carries: every request body is checked against the shape
`ConverseRequest` (unknown members are an error), every signature is computed again by botocore's own signer, answers are
written as the service's own frames. `test_bedrock.py` proves the fake with botocore's client before Penstock meets it.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from typing import Any, Iterator

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.loaders
import botocore.model
import botocore.validate
from converse import events, whole

ACCESS_KEY, SECRET_KEY, SESSION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token=="
REGION = "eu-central-1"

SERVICE = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2"))


def blobs(shape: botocore.model.Shape, value: Any) -> Any:
    """The body as botocore's validator wants it: base64 text of a blob becomes bytes."""
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "structure" and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
        return {name: blobs(shape.members[name], inner) if name in shape.members else inner for name, inner in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [blobs(shape.member, inner) for inner in value]
    return value


def faults(operation: str, model: str, body: Any) -> str:
    """What the service's own description finds wrong with a request; empty when nothing is."""
    shape = SERVICE.operation_model(operation).input_shape
    unknown = sorted(strangers(shape, body))
    if unknown:
        return "unknown members: " + ", ".join(unknown)
    report = botocore.validate.ParamValidator().validate({"modelId": model, **blobs(shape, body)}, shape)
    return report.generate_report() if report.has_errors() else ""


def strangers(shape: botocore.model.Shape, value: Any, path: str = "") -> Iterator[str]:
    if getattr(shape, "is_document_type", False):
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            if name not in shape.members:
                yield f"{path}.{name}"
            else:
                yield from strangers(shape.members[name], inner, f"{path}.{name}")
    elif shape.type_name == "list" and isinstance(value, list):
        for inner in value:
            yield from strangers(shape.member, inner, f"{path}[]")


class Handler(http.server.BaseHTTPRequestHandler):
    """One request: signature, shape, script."""

    protocol_version = "HTTP/1.1"
    server: "Bedrock"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.signed(body):
            return self.reply(403, {"message": "The request signature we calculated does not match."})
        path = urllib.parse.urlsplit(self.path).path
        found = re.fullmatch(r"/model/([^/]+)/(converse|converse-stream|count-tokens)", path)
        if not found:
            return self.reply(404, {"message": "no such operation"})
        model, verb = urllib.parse.unquote(found[1]), found[2]
        operation = {"converse": "Converse", "converse-stream": "ConverseStream", "count-tokens": "CountTokens"}[verb]
        asked = json.loads(body)
        wrong = faults(operation, model, asked)
        if wrong:
            return self.reply(400, {"message": wrong})
        self.server.seen.append({"model": model, "operation": operation, "body": asked, "headers": dict(self.headers)})
        if verb == "count-tokens":
            return self.reply(200, {"inputTokens": len(json.dumps(asked["input"])) // 4})
        script = self.server.script(model, asked)
        if "status" in script:
            return self.reply(script["status"], {"message": script["message"]}, script.get("headers", {}))
        if verb == "converse":
            return self.reply(200, whole(script))
        self.stream(script)

    def signed(self, body: bytes) -> bool:
        given = self.headers.get("authorization", "")
        if given == "Bearer bedrock-api-key":
            return True
        names = re.search(r"SignedHeaders=([^,]+)", given)
        digest = hashlib.sha256(body).hexdigest()
        if not names or self.headers.get("x-amz-content-sha256", digest) != digest:
            return False
        request = botocore.awsrequest.AWSRequest("POST", f"http://{self.headers['host']}{self.path}", data=body)
        for name in names[1].split(";"):
            request.headers[name] = self.headers[name]
        request.context["timestamp"] = self.headers["x-amz-date"]
        session = self.headers.get("x-amz-security-token")
        signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY, session), "bedrock", REGION)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return given.endswith("Signature=" + signer.signature(text, request)) and session in (None, SESSION)

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, script: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/vnd.amazon.eventstream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        frames = list(events(script))
        for data in frames[: script.get("cut", len(frames))]:
            # Two chunks per frame: whoever reads must put them together.
            for piece in (data[:7], data[7:]):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
        if "cut" in script:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


class Bedrock(http.server.ThreadingHTTPServer):
    """The fake, with what it saw and what it answers by model."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.scripts: dict[str, dict[str, Any]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def script(self, model: str, asked: dict[str, Any]) -> dict[str, Any]:
        return self.scripts.get(model) or {"content": [{"text": "Hello from " + model}]}
