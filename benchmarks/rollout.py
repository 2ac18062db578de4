"""Replace the processes of a service behind HAProxy, under load, and count what is lost.

It does what Kubernetes does with pods, on one machine: a new process starts, and gets requests once
it is ready; an old one is told to end, and the proxy learns of that later. The proxy may repeat no
request and hide nothing.
"""

import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread, Timer

from running import free_port

from benchmarks.load import wait

HOST = "127.0.0.1"

PODS = 2

CLIENTS = 16

REQUESTS = 6000

PROPAGATION = 1.5
"""Seconds after which the proxy learns that a process ends. Clusters take a moment, too."""

PRE_STOP = 5.0
"""Seconds that a process goes on to serve before it gets SIGTERM, as `deploy/` has it."""

PATHS = ("/json", "/postgres", "/upstream")
"""A constant, a row, and a wait of 50 ms."""

CONFIGURATION = """
global
    stats socket {socket} mode 600 level admin
    log /dev/null local0
defaults
    mode http
    retries 0
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    option http-keep-alive
frontend web
    bind {host}:{port}
    default_backend pods
backend pods
    http-reuse safe
    balance roundrobin
{servers}
"""


@dataclass(frozen=True)
class Rollout:
    """What a rollout of all processes has cost."""

    pre_stop: float
    requests: int
    lost: int
    reasons: dict[str, int]
    """What became of the lost ones: a status, or an error."""
    replaced: int
    seconds: float
    slowest: float


class Proxy:
    """A running HAProxy with room for some servers, of which none is in use at first."""

    def __init__(self, folder: Path, servers: int) -> None:
        """folder: for its socket and its configuration."""
        self.port = free_port()
        self._socket = folder / "haproxy.sock"
        names = "\n".join(f"    server s{n} {HOST}:1 disabled" for n in range(servers))
        configuration = folder / "haproxy.cfg"
        configuration.write_text(
            CONFIGURATION.format(socket=self._socket, host=HOST, port=self.port, servers=names)
        )
        self.process = subprocess.Popen(["haproxy", "-db", "-q", "-f", configuration])
        end = time.monotonic() + 10
        while not self._socket.exists() and time.monotonic() < end:
            time.sleep(0.05)

    def tell(self, command: str) -> str:
        """Give a command to its administration; raises RuntimeError where it is refused."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            answer = connection.recv(65536).decode().strip()
        if answer and "changed from" not in answer and "no need to change" not in answer:
            raise RuntimeError(f"{command}: {answer}")
        return answer

    def add(self, number: int, port: int) -> None:
        """Send requests to a server."""
        self.tell(f"set server pods/s{number} addr {HOST} port {port}")
        self.tell(f"set server pods/s{number} state ready")

    def remove(self, number: int) -> None:
        """Send no new requests to a server; those under way may end."""
        self.tell(f"set server pods/s{number} state drain")


class Pod:
    """A process of the service."""

    def __init__(self, project: Path, environment: Mapping[str, str], command: str) -> None:
        """command: with a place for its port."""
        self.port = free_port()
        program, *options = command.format(port=self.port).split()
        self.process = subprocess.Popen(
            [project / ".venv" / "bin" / program, *options],
            cwd=project,
            env=dict(environment),
            stderr=subprocess.DEVNULL,
        )
        wait(f"http://{HOST}:{self.port}/health/ready")

    def end(self) -> None:
        """Send SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


class Client(Thread):
    """Sends one request after the other, on a connection that stays open."""

    def __init__(self, port: int, number: int) -> None:
        """port: of the proxy. number: with which of the paths it begins."""
        super().__init__()
        self._port = port
        self._number = number
        self.stopped = False
        self.seconds: list[float] = []
        self.lost: list[str] = []

    def run(self) -> None:
        """Send requests until it is stopped."""
        connection = HTTPConnection(HOST, self._port, timeout=10)
        while not self.stopped:
            self._number += 1
            began = time.monotonic()
            try:
                connection.request("GET", PATHS[self._number % len(PATHS)])
                answer = connection.getresponse()
                answer.read()
                if answer.status != HTTPStatus.OK:
                    self.lost.append(str(answer.status))
            except (OSError, HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
            self.seconds.append(time.monotonic() - began)
        connection.close()


def roll_out(
    project: Path, environment: Mapping[str, str], command: str, folder: Path, pre_stop: float
) -> Rollout:
    """Replace all processes, again and again, until enough requests were sent.

    command: of the service, with a place for its port. folder: for the files of the proxy, new.
    pre_stop: seconds for which a process that is to end goes on to serve.
    """
    folder.mkdir()
    proxy = Proxy(folder, PODS + 1)
    pods: dict[int, Pod] = {}
    clients = [Client(proxy.port, number) for number in range(CLIENTS)]
    try:
        for number in range(PODS):
            pods[number] = Pod(project, environment, command)
            proxy.add(number, pods[number].port)
        began = time.monotonic()
        for client in clients:
            client.start()
        replaced = 0
        while replaced < 2 * PODS or sum(len(client.seconds) for client in clients) < REQUESTS:
            old, (new,) = min(pods), set(range(PODS + 1)) - set(pods)
            pods[new] = Pod(project, environment, command)
            proxy.add(new, pods[new].port)
            replace(proxy, old, pods.pop(old), pre_stop)
            pods = dict(sorted(pods.items()))
            replaced += 1
    finally:
        for client in clients:
            client.stopped = True
        for client in clients:
            client.join()
        for pod in pods.values():
            pod.end()
        proxy.process.terminate()
        proxy.process.wait()
    lost = [reason for client in clients for reason in client.lost]
    return Rollout(
        pre_stop=pre_stop,
        requests=sum(len(client.seconds) for client in clients),
        lost=len(lost),
        reasons=dict(Counter(lost)),
        replaced=replaced,
        seconds=round(time.monotonic() - began, 1),
        slowest=round(max(max(client.seconds) for client in clients), 3),
    )


def replace(proxy: Proxy, number: int, pod: Pod, pre_stop: float) -> None:
    """End a process as Kubernetes does: SIGTERM after a while. The proxy learns of it by itself."""
    removed = Timer(PROPAGATION, proxy.remove, [number])
    removed.start()
    time.sleep(pre_stop)
    pod.end()
    removed.join()
    proxy.tell(f"set server pods/s{number} state maint")
