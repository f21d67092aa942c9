"""Answer each instance with its id, in Nova's place."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the id that the agent's haproxies have set."""
        body = self.headers.get("X-Instance-ID", "nobody").encode()
        self.send_response(200)
        # As Nova has it; Neutron's agent can't do without.
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


ThreadingHTTPServer(("127.0.0.1", 8775), Handler).serve_forever()
