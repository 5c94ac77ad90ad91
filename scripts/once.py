"""`./run --once`: starts `penstock up` in an empty folder, asks the embedded model over HTTP, prints answer and cost, ends.

Only the standard library. Standard output gets the answer and the cost line, standard error everything else.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# Loading the model takes a second; a machine that swaps takes longer.
START_SECONDS = 120
ANSWER_SECONDS = 300
MODEL = "smollm2-135m"

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(text, log=""):
    if log:
        print(log.rstrip(), file=sys.stderr)
    print(f"run: {text}", file=sys.stderr)
    sys.exit(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url, key=None, body=None, seconds=10):
    request = urllib.request.Request(url, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("content-type", "application/json")
    if key:
        request.add_header("authorization", f"Bearer {key}")
    with direct.open(request, timeout=seconds) as reply:
        return reply.headers, reply.read()


def refusal(error):
    """The gateway's own sentence, where there is one."""
    try:
        said = json.loads(error.read())["error"]
        return f"{said['message']} ({said['code']})"
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"


def wait_ready(server, base, log):
    end = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None:
            fail(f"Penstock ended with status {server.returncode} (its output is above)", read(log))
        try:
            call(f"{base}/readyz")
            return
        except (OSError, ValueError):
            if time.monotonic() > end:
                fail(f"Penstock was not ready after {START_SECONDS} s (its output is above)", read(log))
            time.sleep(0.05)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def first_key(server, log):
    """`up` prints the first key once, a moment before or after it is ready."""
    end = time.monotonic() + START_SECONDS
    while True:
        found = re.search(r"first key\s+(pk_[A-Za-z0-9_]+)", read(log))
        if found:
            return found.group(1)
        if server.poll() is not None or time.monotonic() > end:
            fail("Penstock printed no first key (its output is above)", read(log))
        time.sleep(0.05)


def ask(base, key, question):
    """Asks the embedded chat model under the name that the starter configuration gives it."""
    _, listed = call(f"{base}/v1/models", key)
    names = [model["id"] for model in json.loads(listed)["data"]]
    if MODEL not in names:
        fail(f"the embedded model is not among the models ({', '.join(names) or 'none'}); run `penstock doctor`")
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 256}
    headers, answer = call(f"{base}/v1/chat/completions", key, body, ANSWER_SECONDS)
    return headers, json.loads(answer)


def main():
    program, question = os.path.abspath(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="penstock-once-") as folder:
        log = os.path.join(folder, "penstock.log")
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        with open(log, "wb") as sink:
            server = subprocess.Popen(
                [program, "up", "--listen", f"127.0.0.1:{port}"], cwd=folder, stdin=subprocess.DEVNULL, stdout=sink,
                stderr=subprocess.STDOUT)
        try:
            wait_ready(server, base, log)
            key = first_key(server, log)
            try:
                headers, answer = ask(base, key, question)
            except urllib.error.HTTPError as error:
                fail(f"the gateway refused: {refusal(error)}")
            except OSError as error:
                fail(f"the gateway did not answer: {error}", read(log))
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
    text = answer["choices"][0]["message"]["content"].strip()
    if not text:
        fail("the model gave an empty answer")
    # Micro-dollars are for ledgers; a person reads cents, and more digits only where there are any.
    whole, _, part = (headers.get("penstock-cost") or "0").partition(".")
    cost = f"{whole}.{part.rstrip('0').ljust(2, '0')}"
    usage = answer["usage"]
    print(text)
    print(f"cost: ${cost} (embedded model), {usage['prompt_tokens']} prompt + {usage['completion_tokens']} completion tokens")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
