"""Shows the jobs that were given up, as JSON. With the argument `retry`, they run again."""

import asyncio
import json
import os
import sys
from typing import Any

from ..app import create_app
from ..backends import redis
from .queue import DEAD, STREAM


async def main(*, retry: bool) -> None:
    """Print each job; retry: and put it back into the queue."""
    app = create_app()
    async with app.test_app(), app.app_context():
        found: Any = await redis.client().xrange(DEAD)
        for number, fields in found:
            try:
                job = json.loads(fields["message"])
            except ValueError:  # nothing that this service has sent
                print(json.dumps(fields))
                continue
            print(json.dumps({"reason": fields["reason"], **job}))
            if retry:
                # Its attempts count from the beginning.
                job["labels"].pop("_retries", None)
                async with redis.client().pipeline() as commands:
                    commands.xadd(STREAM, {"message": json.dumps(job)})
                    commands.xdel(DEAD, number)
                    await commands.execute()


if __name__ == "__main__":
    # Where the environment is that of a worker, this is none.
    os.environ["JOBS_WORKER"] = "false"
    asyncio.run(main(retry="retry" in sys.argv[1:]))
