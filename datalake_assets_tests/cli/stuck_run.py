"""A Dagster run that works until it is killed: started by tests as a process of its own.

Arguments: `session` to hold a session in the lake and a lock in it, `pool` to hold a slot of pool `stuck`. Prints
the id of the run when it is at work, and then waits for ever.
"""

import asyncio
import sys
from typing import Any

import dagster as dg

from datalake_assets.settings import load_settings
from datalake_assets.storage.postgres import session

POOL = "stuck"


def say(run_id: str) -> None:
    sys.stdout.write(f"{run_id}\n")
    sys.stdout.flush()


async def hold(run_id: str) -> None:
    if "session" not in sys.argv:
        say(run_id)
        await asyncio.sleep(3600)
    async with session(load_settings().postgres(), application_name=run_id) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select pg_advisory_xact_lock(4711)")
        say(run_id)
        await asyncio.sleep(3600)


@dg.op(pool=POOL if "pool" in sys.argv else None)
def work(context: dg.OpExecutionContext) -> None:
    asyncio.run(hold(context.run_id))


@dg.job(executor_def=dg.in_process_executor, logger_defs={})
def stuck() -> Any:
    work()


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        stuck.execute_in_process(instance=instance)
