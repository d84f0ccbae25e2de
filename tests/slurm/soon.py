"""The command `snakemake`, asking Slurm after its jobs twice a second: by itself it waits longer from time to time."""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def _sleep(self: RemoteExecutor) -> None:
    await asyncio.sleep(0.5)


RemoteExecutor.sleep = _sleep
sys.exit(main())
