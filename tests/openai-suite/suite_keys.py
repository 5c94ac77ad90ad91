"""A pytest plugin: what leaves for the gateway carries the gateway's keys instead of the suite's own words.

The suite's keys are "My API Key" and "My Admin API Key". Penstock takes no key that is that short or holds spaces, and a
key that everybody can read in a published package is none. So in the run through Penstock the two are replaced by the
transports, after everything that the suite looks at. The suite itself stays as it is.
"""

import os

import httpx2
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

KEYS = {f"Bearer {name}": f"Bearer {os.environ[key]}"
        for name, key in (("My API Key", "SUITE_KEY"), ("My Admin API Key", "SUITE_ADMIN_KEY"))}
GATEWAY = os.environ["TEST_API_BASE_URL"]


def exchanged(request: httpx2.Request) -> httpx2.Request:
    """What leaves; the request that the suite can look at is not touched."""
    sent = request.headers.get("authorization")
    if sent not in KEYS or not str(request.url).startswith(GATEWAY):
        return request
    # Not `copy.copy`: that goes by pickling, and a request leaves its stream out of that.
    leaving = object.__new__(httpx2.Request)
    leaving.__dict__.update(request.__dict__)
    leaving.headers = request.headers.copy()
    leaving.headers["authorization"] = KEYS[sent]
    return leaving


def replace_sync(transport: type) -> None:
    send = transport.handle_request

    def handle_request(self, request):
        return send(self, exchanged(request))

    transport.handle_request = handle_request


def replace_async(transport: type) -> None:
    send = transport.handle_async_request

    async def handle_async_request(self, request):
        return await send(self, exchanged(request))

    transport.handle_async_request = handle_async_request


replace_sync(httpx2.HTTPTransport)
replace_async(httpx2.AsyncHTTPTransport)
replace_async(AiohttpTransport)
