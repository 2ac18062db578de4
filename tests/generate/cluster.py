"""An API server that takes whatever kubectl applies, and remembers it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KINDS = {
    "v1": {"ConfigMap": "configmaps", "Service": "services", "ServiceAccount": "serviceaccounts"},
    "apps/v1": {"Deployment": "deployments"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"Job": "jobs"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
"""By version of the API: what there is, and its path."""


def discovered(path: str) -> dict[str, Any] | None:
    """Return what the server says of its API, or None for a path that is none of that."""
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [each for each in KINDS if "/" in each]
        versions = [{"groupVersion": each, "version": each.partition("/")[2]} for each in groups]
        return {
            "kind": "APIGroupList",
            "groups": [
                {"name": each.partition("/")[0], "versions": [version], "preferredVersion": version}
                for each, version in zip(groups, versions, strict=True)
            ],
        }
    if version not in KINDS:
        return None
    return {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "create", "patch"]}
            for kind, name in KINDS[version].items()
        ],
    }


@contextmanager
def cluster() -> Iterator[tuple[str, list[str]]]:
    """Lend the address of a server, and the kinds of what was created there, as it comes."""
    created: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = discovered(self.path.partition("?")[0])
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            self.answer(200 if found else 404, found or missing)

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            created.append(sent["kind"])
            self.answer(201, sent)

        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", created
        server.shutdown()
