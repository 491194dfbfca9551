"""A server that speaks OpenAI's protocol as far as a script says, and keeps what it was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Script:
    """What every request is answered with; `body`, if given, instead of a completion with `text`.

    `received` has each request's path, headers (of lower case) and content, in the order of arrival.
    """

    text: str | None = None
    refusal: str | None = None
    finish_reason: str = "stop"
    status: int = 200
    body: str | dict | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0  # seconds
    received: list[tuple[str, dict[str, str], dict]] = field(default_factory=list)

    def answer(self) -> bytes:
        message = {"role": "assistant", "content": self.text, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        body = completion if self.body is None else self.body
        return (body if isinstance(body, str) else json.dumps(body)).encode()


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Yield the base URL of a server on 127.0.0.1 that follows the script until the block ends."""
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.received.append((self.path, headers, content))
            over.wait(script.delay)
            answer = script.answer()
            with suppress(ConnectionError):  # who asked may have left
                self.send_response(script.status)
                for name, value in {"Content-Type": "application/json", **script.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
