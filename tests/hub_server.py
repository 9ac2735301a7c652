"""A small Hub on 127.0.0.1 with what `huggingface_hub` and `datasets` use of the real one to publish and load.

Repositories are lists of commits in memory; a commit is applied completely or not at all, and large files are uploaded
with the LFS protocol before it. Faults can be planned: a status such as 429, or a connection that is cut during a
request or after the request was executed. Every request is stored, so that a test can search for what must not have
been sent. Not supported: Xet, pull requests, discussions, git itself.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, USER = "hf_" + "t" * 34, "me"
LFS_SUFFIXES = (".parquet", ".png", ".safetensors", ".bin")
KINDS = {"datasets": "dataset", "models": "model", "spaces": "space"}


@dataclass
class Commit:
    sha: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repo:
    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        sha = self.branches.get(revision, revision)
        return next((commit for commit in self.commits if commit.sha == sha), None)

    def add(self, branch: str, title: str, files: dict[str, bytes]) -> Commit:
        content = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())]
        sha = hashlib.sha1(json.dumps([len(self.commits), branch, title, content]).encode()).hexdigest()
        self.commits.append(Commit(sha, title, files))
        self.branches[branch] = sha
        return self.commits[-1]


@dataclass
class Fault:
    """A fault of the next `times` requests that match.

    `effect` is a status, or `"cut"` to cut the connection during the request, or `"cut after"` to cut it after the
    request was executed.
    """

    method: str
    path: str
    effect: int | str
    times: int = 1


@dataclass
class HubRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HubServer(ThreadingHTTPServer):
    """Runs in a thread: `with HubServer() as hub: hub.url`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[HubRequest] = []

    def dataset(self, name: str) -> Repo:
        return self.repos["datasets", name]

    def fail(self, method: str, path: str, effect: int | str, times: int = 1) -> Fault:
        self.faults.append(Fault(method, path, effect, times))
        return self.faults[-1]

    def fault_for(self, method: str, path: str) -> int | str | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.effect
        return None

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that close the connection, which tests do; any other error is a mistake in this file."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class ErrorAnswer(Exception):
    """Raised anywhere in a handler to answer with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""

    def do_GET(self) -> None:
        self.serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def serve(self) -> None:
        self.path_only = unquote(urlsplit(self.path).path)
        fault = self.server.fault_for(self.command, self.path_only)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "cut":
            self.rfile.read(length // 2)
            return self.cut()
        self.body = self.rfile.read(length)
        request = HubRequest(
            self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, self.body
        )
        with self.server.lock:
            self.server.requests.append(request)
        if isinstance(fault, int):
            return self.answer({"error": "planned"}, fault, {"Retry-After": "0"})
        self.cut_after = fault == "cut after"
        try:
            with self.server.lock:
                self.route()
        except ErrorAnswer as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self.answer({"error": str(error)}, error.status, headers)

    def cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        if getattr(self, "cut_after", False):
            return self.cut()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def route(self) -> None:
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, self.path_only)
            if match and self.command in method.split():
                return getattr(self, name)(**match.groupdict())
        raise ErrorAnswer(404, f"no such page: {self.command} {self.path_only}")

    # The user, and the repositories that the user may see.

    def user(self, is_required: bool = False) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == TOKEN:
            return USER
        if token or is_required:
            raise ErrorAnswer(401, "Invalid username or password.")
        return None

    def repo(self, kind: str, name: str, write: bool = False) -> Repo:
        user = self.user(is_required=write)
        repository = self.server.repos.get((kind, name))
        if repository is None or (repository.private and user is None):
            raise ErrorAnswer(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not name.startswith(f"{USER}/"):
            raise ErrorAnswer(403, "You have no rights to write here")
        return repository

    def commit_at(self, kind: str, repo: str, revision: str) -> Commit:
        commit = self.repo(kind, repo).at(revision)
        if commit is None:
            raise ErrorAnswer(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # Accounts and repositories.

    def whoami(self) -> None:
        name = self.user(is_required=True)
        self.answer({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        user = self.user(is_required=True)
        options = json.loads(self.body)
        name = f"{options.get('organization') or user}/{options['name']}"
        kind = f"{options.get('type', 'model')}s"
        url = f"{self.server.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if not name.startswith(f"{USER}/"):
            raise ErrorAnswer(403, "You don't have the rights to create a repo under this namespace")
        if (kind, name) in self.server.repos:
            return self.answer({"error": "You already created this repo", "url": url}, 409)
        repo = self.server.repos[kind, name] = Repo(private=options.get("visibility") == "private")
        repo.add("main", "initial commit", {".gitattributes": b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"})
        self.answer({"url": url, "name": name, "id": name})

    def info(self, kind: str, repo: str, rev: str = "main") -> None:
        repository, commit = self.repo(kind, repo), self.commit_at(kind, repo, rev)
        facts = {"id": repo, "_id": repo, "sha": commit.sha, "private": repository.private, "gated": False, "tags": []}
        statistics = {"disabled": False, "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        readme = commit.files.get("README.md", b"").decode()
        self.answer({**facts, **statistics, "siblings": siblings, "cardData": metadata(readme)})

    def branch(self, kind: str, repo: str, rev: str) -> None:
        repository = self.repo(kind, repo, write=True)
        if rev in repository.branches:
            raise ErrorAnswer(409, "Reference already exists")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[rev] = self.commit_at(kind, repo, start).sha
        self.answer({})

    # Reading.

    def tree(self, kind: str, repo: str, rev: str, path: str | None = None) -> None:
        commit = self.commit_at(kind, repo, rev)
        prefix = f"{path}/" if path else ""
        names = [name for name in sorted(commit.files) if name.startswith(prefix)]
        if path and not names:
            raise ErrorAnswer(404, f"{path} does not exist on {rev}", "EntryNotFound")
        is_recursive = "recursive=true" in self.path.lower()
        entries: dict[str, dict[str, Any]] = {}
        for name in names:
            parts = name[len(prefix) :].split("/")
            for depth in range(1, len(parts) if is_recursive else min(len(parts), 2)):
                folder = prefix + "/".join(parts[:depth])
                entries[folder] = {"type": "directory", "oid": git_sha(folder.encode()), "size": 0, "path": folder}
            if is_recursive or len(parts) == 1:
                entries[name] = entry(name, commit.files[name])
        self.answer(list(entries.values()))

    def paths_info(self, kind: str, repo: str, rev: str) -> None:
        commit = self.commit_at(kind, repo, rev)
        text = self.body.decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else re.findall(r"paths=([^&]*)", unquote(text))
        paths = [paths] if isinstance(paths, str) else paths
        entries = [entry(path, commit.files[path]) for path in paths if path in commit.files]
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in commit.files)]
        entries += [{"type": "directory", "oid": git_sha(b""), "size": 0, "path": path} for path in folders]
        self.answer(entries)

    def resolve(self, repo: str, rev: str, path: str, kind: str | None = None) -> None:
        commit = self.commit_at((kind or "models/").rstrip("/"), repo, rev)
        if path not in commit.files:
            self.close_connection = False
            raise ErrorAnswer(404, "Entry not found", "EntryNotFound")
        data = commit.files[path]
        name = hashlib.sha256(data).hexdigest() if path.endswith(LFS_SUFFIXES) else git_sha(data)
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        byte_range = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if byte_range is None:
            return self.answer(data, 200, headers)
        first = int(byte_range[1]) if byte_range[1] else max(0, len(data) - int(byte_range[2]))
        last = min(int(byte_range[2]), len(data) - 1) if byte_range[1] and byte_range[2] else len(data) - 1
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(data[first : last + 1], 206, headers)

    # Writing.

    def preupload(self, kind: str, repo: str, rev: str) -> None:
        self.repo(kind, repo, write=True)
        files = self.commit_at(kind, repo, rev).files
        modes = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            stored_file = entry(path, files[path]).get("lfs", entry(path, files[path])) if path in files else {}
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": stored_file.get("oid")})
        self.answer({"files": modes})

    def batch(self, repo: str, kind: str | None = None) -> None:
        self.repo((kind or "models/").rstrip("/"), repo, write=True)
        objects = []
        for large_file in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.server.url}/lfs/{large_file['oid']}", "header": {}}}
            is_uploaded = large_file["oid"] in self.server.objects
            objects.append({**large_file, **({} if is_uploaded else {"actions": actions})})
        self.answer({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise ErrorAnswer(400, "content does not match its hash")
        self.server.objects[oid] = self.body
        self.answer({})

    def validate_yaml(self) -> None:
        try:
            facts = metadata(json.loads(self.body)["content"])
        except yaml.YAMLError as error:
            return self.answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
        errors = [] if re.fullmatch(r"[a-z0-9.-]+", str(facts.get("license", "mit"))) else [{"message": "license"}]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def commit(self, kind: str, repo: str, rev: str) -> None:
        repository = self.repo(kind, repo, write=True)
        if rev not in repository.branches:
            raise ErrorAnswer(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, repository.branches[rev]):
            raise ErrorAnswer(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self.commit_at(kind, repo, rev).files)
        for line in lines:
            self.apply(line["key"], line["value"], files)
        sha = repository.add(rev, header["summary"], files).sha
        self.answer({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{kind}/{repo}/commit/x"})

    def apply(self, key: str, value: dict[str, Any], files: dict[str, bytes]) -> None:
        path = value.get("path")
        if key == "file":
            files[path] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in self.server.objects:
                raise ErrorAnswer(400, f"LFS object of {path} was never uploaded")
            files[path] = self.server.objects[value["oid"]]
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise ErrorAnswer(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key != "header":
            raise ErrorAnswer(400, f"this server does not know {key}")


_KIND, _REPO = rf"(?P<kind>{'|'.join(KINDS)})", r"(?P<repo>[^/]+/[^/]+?)"
_SITE, _REV = r"(?P<kind>datasets/|spaces/)?", r"(?P<rev>[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", rf"/api/{_KIND}/{_REPO}", "info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/revision/{_REV}", "info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/tree/{_REV}(/(?P<path>.*))?", "tree"),
    ("POST", rf"/api/{_KIND}/{_REPO}/paths-info/{_REV}", "paths_info"),
    ("POST", rf"/api/{_KIND}/{_REPO}/branch/{_REV}", "branch"),
    ("POST", rf"/api/{_KIND}/{_REPO}/preupload/{_REV}", "preupload"),
    ("POST", rf"/api/{_KIND}/{_REPO}/commit/{_REV}", "commit"),
    ("POST", rf"/{_SITE}{_REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("GET HEAD", rf"/{_SITE}{_REPO}/resolve/{_REV}/(?P<path>.+)", "resolve"),
]


def git_sha(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    """Returns a file as the list of files describes it."""
    file: dict[str, Any] = {"type": "file", "oid": git_sha(data), "size": len(data), "path": path}
    if path.endswith(LFS_SUFFIXES):
        file["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return file


def metadata(readme: str) -> dict[str, Any]:
    """Returns the YAML between the two lines of dashes."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}


def main() -> None:
    """`python -m tests.hub_server`: a Hub to try commands with; nothing that is pushed to it leaves the machine."""
    with HubServer() as hub, contextlib.suppress(KeyboardInterrupt):
        print(f"A Hub on this machine until Ctrl-C, which deletes its content. You are {USER}. In another terminal:\n")
        print(f"export HF_ENDPOINT={hub.url} HF_TOKEN={TOKEN} HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
