"""A stand-in for W&B's server: it keeps what is sent of runs, and answers how much of a resumed run it has."""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Received:
    """What was sent of one run: rows of history in order, configuration, summary, and the exit code of each session."""

    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)


Runs = dict[str, Received]
"""By id."""


@contextmanager
def serving() -> Iterator[tuple[str, Runs]]:
    """The address of a server, and what it receives."""
    runs: Runs = defaultdict(Received)

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            if self.path.endswith("/graphql"):
                asked = json.loads(body)
                self.answer(graphql(asked.get("query", ""), asked.get("variables") or {}, runs))
            elif run := re.search(r"/([^/]+)/file_stream$", self.path):
                content, received = json.loads(body), runs[run[1]]
                for name, piece in (content.get("files") or {}).items():
                    rows = [json.loads(row) for row in piece["content"]] if name.startswith("wandb-") else []
                    if "history" in name:
                        received.history[piece["offset"] : piece["offset"] + len(rows)] = rows
                    elif "summary" in name:
                        received.summary |= rows[-1]
                if content.get("complete"):
                    received.exit_codes.append(content["exitcode"])
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
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", runs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def graphql(query: str, about: dict[str, Any], runs: Runs) -> dict[str, Any]:
    name, entity = about.get("name"), {"id": "e", "name": "me"}
    if "RunResumeStatus" in query:
        rows, found = runs[str(name)].history, None
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
        sent = json.loads(about.get("config") or "{}")
        runs[str(name)].config |= {key: value["value"] for key, value in sent.items()}
        project = {"id": "p", "name": about.get("project"), "entity": entity}
        bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "project": project}
        return {"data": {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}}
    return {"data": {}, "errors": [{"message": "not answered here"}]}
