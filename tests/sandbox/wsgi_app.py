"""What stands in for Nova's metadata API inside a real WSGI or ASGI server.

It answers with the id in X-Instance-ID. Each request that its server has read
is a line of JSON in the file $RECORD: target, headers (names in lower case,
with `-`), and the body's length.
"""

from __future__ import annotations

import json
import os
import time

DELAY_S = float(os.environ.get("DELAY_S", "0"))
NAME = os.environ["SERVED_BY"]


def note(target: str, headers: list[tuple[str, str]], length: int) -> bytes:
    """Record a request; return the answer."""
    line = json.dumps([target, sorted(headers), length]).encode() + b"\n"
    record = os.open(
        os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.write(record, line)
    os.close(record)
    return dict(headers).get("x-instance-id", "").encode()


def application(environ, start_response):
    """Answer as WSGI has it."""
    time.sleep(DELAY_S)
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length:
        headers.append(("content-length", str(length)))
    body = environ["wsgi.input"].read(length) if length else b""
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI", "")
    answer = note(target, headers, len(body))
    start_response(
        "200 OK",
        [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(answer))),
            ("Served-By", NAME),
        ],
    )
    return [answer]


async def asgi(scope, receive, send):
    """Answer as ASGI has it; uvicorn adds trailers to the scope's headers."""
    if scope["type"] != "http":
        return
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    target = (scope["raw_path"] + b"?" + scope["query_string"]).decode()
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    answer = note(target.removesuffix("?"), headers, length)
    fields = {
        b"content-type": b"text/plain",
        b"content-length": str(len(answer)).encode(),
        b"served-by": NAME.encode(),
    }
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [*fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": answer})
