"""A Hugging Face Hub on this machine, of the few answers that uploading and downloading a model take.

Files that the hub would store apart (LFS) are named by their SHA-256, all others by Git's SHA-1, as there.
"""

import base64
import contextlib
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.web_server import QuietHandler, answering


@dataclass
class Hub:
    """Repositories by name, each with its files; ``says`` states a digest otherwise than it is."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def commit(self, repo: str) -> str:
        """The name of the state that a repository is in."""
        return hashlib.sha1(repr(sorted(self.repos[repo].items())).encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Answer until the test ends."""

    class Handler(QuietHandler):
        def handle_it(self) -> None:
            hub.asked.append(f"{self.command} {urllib.parse.unquote(self.path)}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, headers, content = respond(hub, self.command, urllib.parse.unquote(self.path), body)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = handle_it  # noqa: N815 (http.server looks for these)

    with answering(Handler) as hub.address:
        yield hub


Answer = tuple[int, dict[str, str], bytes]


def respond(hub: Hub, method: str, path: str, body: bytes) -> Answer:
    path = path.partition("?")[0]
    if found := re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path):
        return resolve(hub, **found.groupdict())
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(?:tree|revision)/([^/]+)", path):
        return listing(hub, found[1], "/tree/" in path)
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        hub.repos.setdefault(name, {})
        return said({"url": f"{hub.address}/{name}", "name": name})
    if path == "/api/validate-yaml":
        return said({"errors": [], "warnings": []})
    if path.endswith("/preupload/main"):
        files = json.loads(body)["files"]
        return said({"files": [
            {"path": file["path"], "uploadMode": "lfs" if is_large(file["path"]) else "regular", "shouldIgnore": False}
            for file in files
        ]})  # fmt: skip
    if path.endswith("/info/lfs/objects/batch"):
        objects = [
            {**object_, "actions": {"upload": {"href": f"{hub.address}/blobs/{object_['oid']}", "header": {}}}}
            for object_ in json.loads(body)["objects"]
        ]
        return said({"transfer": "basic", "objects": objects})
    if method == "PUT" and path.startswith("/blobs/"):
        hub.blobs[path.rpartition("/")[2]] = body
        return said({})
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
        return commit(hub, found[1], [json.loads(line) for line in body.splitlines()])
    return said({"error": "not here"}, 404)


def said(content: Any, code: int = 200) -> Answer:
    return code, {"Content-Type": "application/json"}, json.dumps(content).encode()


def is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".pt"))


def oid(file: str, content: bytes) -> str:
    if is_large(file):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def resolve(hub: Hub, repo: str, revision: str, file: str) -> Answer:
    if repo not in hub.repos:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    if revision not in ("main", hub.commit(repo)):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    if file not in hub.repos[repo]:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit(repo)}, b""
    content = hub.repos[repo][file]
    etag = f'"{hub.says.get(file, oid(file, content))}"'
    return 200, {"X-Repo-Commit": hub.commit(repo), "ETag": etag, "X-Linked-Size": str(len(content))}, content


def listing(hub: Hub, repo: str, tree: bool) -> Answer:
    if repo not in hub.repos:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    files = hub.repos[repo].items()
    entries = [
        {"type": "file", "path": name, "size": len(content), "oid": oid(name, content)} for name, content in files
    ]
    siblings = [{"rfilename": name} for name, _ in files]
    return said(entries if tree else {"id": repo, "sha": hub.commit(repo), "siblings": siblings})


def commit(hub: Hub, repo: str, lines: list[dict[str, Any]]) -> Answer:
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            hub.repos[repo][value["path"]] = hub.blobs[value["oid"]]
    name = hub.commit(repo)
    return said({"success": True, "commitUrl": f"{hub.address}/{repo}/commit/{name}", "commitOid": name})
