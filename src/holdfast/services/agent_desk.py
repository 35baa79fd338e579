"""Everything the agent API needs, built once by bootstrap and kept as ``app.state.agents``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from holdfast.catalog.database import Catalog
from holdfast.jobs.bell import Bell
from holdfast.jobs.context import OpenVault
from holdfast.jobs.engine import JobEngine
from holdfast.services.agent_copies import AgentCopies
from holdfast.services.agent_data import AgentData
from holdfast.services.agent_tasks import AgentTasks
from holdfast.services.lookups import DEFAULT_RATE

UPLOADS = 16  # packs received at a time: bounds memory and open files
READS = 32
THREADS = 24

P = ParamSpec("P")
R = TypeVar("R")


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="holdfast-agents")


@dataclass(frozen=True, slots=True)
class AgentDesk:
    """``uploads`` and ``reads`` bound concurrent transfers of this process, ``pool`` its
    blocking work."""

    tasks: AgentTasks
    data: AgentData
    bell: Bell
    copies: AgentCopies = field(default_factory=AgentCopies)
    uploads: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(UPLOADS))
    reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READS))

    pool: ThreadPoolExecutor = field(default_factory=_pool)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work in the desk's own threads, so that agents never wait for people's
        requests, nor people for agents."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, partial(work, *args, **kwargs))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    @classmethod
    def build(
        cls,
        catalog: Catalog,
        engine: JobEngine,
        open_vault: OpenVault,
        uploads: int = UPLOADS,
        lookup_rate: float = DEFAULT_RATE,
    ) -> AgentDesk:
        """``uploads``: packs received at a time. ``lookup_rate``: chunk ids an agent may ask for
        per second."""
        return cls(
            tasks=AgentTasks(catalog, engine),
            data=AgentData(catalog, engine, open_vault, lookup_rate),
            bell=engine.bell,
            uploads=threading.Semaphore(uploads),
        )
