"""A server that is measured."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from running import free_port

from benchmarks.load import wait


@dataclass(frozen=True)
class Contender:
    """How a server is started.

    command: with "{port}". folder: where it runs. variables: of its environment, besides those of
    all. prefix: of its paths.
    """

    command: str
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    @contextmanager
    def served(self, environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
        """Run it on a core of its own, until it answers; yield its URL and its process.

        Its output goes to the file `log` in its folder.
        """
        port = free_port()
        command = ["taskset", "-c", "0", *self.command.format(port=port).split()]
        with (
            (self.folder / "log").open("ab") as log,
            subprocess.Popen(
                command,
                cwd=self.folder,
                env={**environment, **self.variables},
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                url = f"http://127.0.0.1:{port}{self.prefix}"
                wait(f"{url}/json", 60)
                yield url, process.pid
            finally:
                process.terminate()
