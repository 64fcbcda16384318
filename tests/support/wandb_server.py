"""A stand-in for W&B's server: it keeps the history of runs and says, when one is resumed, how much of it there is."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

History = dict[str, list[dict[str, Any]]]
"""Of each run, by its id, what was sent, in order."""


@contextmanager
def serving() -> Iterator[tuple[str, History]]:
    """An address that W&B can be pointed at, and what comes in there."""
    history: History = {}

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            if self.path.endswith("/graphql"):
                asked = json.loads(body)
                self.answer(graphql(asked.get("query", ""), asked.get("variables") or {}, history))
            elif run := re.search(r"/([^/]+)/file_stream$", self.path):
                for name, piece in (json.loads(body).get("files") or {}).items():
                    if "history" in name:
                        place, rows = piece["offset"], [json.loads(row) for row in piece["content"]]
                        history.setdefault(run[1], [])[place : place + len(rows)] = rows
                self.answer({"limits": {}})
            else:
                self.answer({})

        def answer(self, content: Any) -> None:
            sent = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", history
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def graphql(query: str, about: dict[str, Any], history: History) -> dict[str, Any]:
    name, entity = about.get("name"), {"id": "e", "name": "me"}
    if "RunResumeStatus" in query:
        rows, found = history.get(str(name), []), None
        if rows:
            found = {
                "name": name,
                "displayName": name,
                "summaryMetrics": json.dumps({key: value for row in rows for key, value in row.items()}),
                "historyTail": json.dumps([json.dumps(rows[-1])]),
                "eventsTail": "[]",
                "historyLineCount": len(rows),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "config": "{}",
                "wandbConfig": json.dumps({"t": 1}),
                "tags": [],
            }
        return {"data": {"model": {"id": "m", "name": about["project"], "entity": entity, "bucket": found}}}
    if "UpsertBucket" in query:
        project = {"id": "p", "name": about.get("project"), "entity": entity}
        bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "project": project}
        return {"data": {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}}
    return {"data": {}, "errors": [{"message": "not answered here"}]}
