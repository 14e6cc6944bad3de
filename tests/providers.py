"""A language model's provider on loopback, that answers as a test tells it."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def openai(text, **more):
    return {"choices": [{"message": {"role": "assistant", "content": text}}], **more}


def anthropic(text, **more):
    thought = {"type": "thinking", "thinking": "…"}
    return {"content": [thought, {"type": "text", "text": text}], **more}


@contextmanager
def serving(reply, status=200, headers=(), wait=0.0, raw=None):
    """A provider on loopback; yields its URL and the requests it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got.append((self.path, dict(self.headers), body))
            time.sleep(wait)
            sent = raw if raw is not None else json.dumps(reply).encode()
            try:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
            except OSError:
                pass  # the other side has gone

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
