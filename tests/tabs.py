"""Many browser tabs without browsers: each speaks Streamlit's protocol, so the server has as much to do as for a person's.

`python -m tests.tabs ADDRESS COUNT` opens them and keeps them open until standard input ends; each line of its output says
how many tabs there are, and how many messages and bytes they were given so far. A tab draws a fragment again when it asks
for that, as the browser does.
"""

import asyncio
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from streamlit.proto.AutoRerun_pb2 import AutoRerun
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

SAY_EVERY_S = 0.5
AT_ONCE = 10


@dataclass
class Tabs:
    """All tabs, and what they were given."""

    address: str
    seen: Counter[str] = field(default_factory=Counter)

    async def keep(self, gate: asyncio.Semaphore) -> None:
        """One tab, until it is cancelled; a connection that the server ends is counted."""
        host = self.address.removeprefix("http://")
        async with gate:
            tab = await connect(
                f"ws://{host}/_stcore/stream",
                origin=self.address,  # type: ignore[arg-type]
                subprotocols=["streamlit"],  # type: ignore[list-item]
                max_size=None,
                open_timeout=120,
                ping_interval=None,
            )
        try:
            await self._draw(tab)
        finally:
            self.seen["lost"] += 1
            await tab.close()

    async def _draw(self, tab: ClientConnection) -> None:
        page = BackMsg()
        page.rerun_script.query_string = ""
        await tab.send(page.SerializeToString())
        renewals: dict[str, asyncio.Task[None]] = {}
        kept: set[str] = set()
        try:
            async for payload in tab:
                assert isinstance(payload, bytes)
                message = ForwardMsg.FromString(payload)
                kind = message.WhichOneof("type") or ""
                if message.metadata.cacheable:
                    kept.add(message.hash)  # a browser is not sent twice what it has
                self.seen.update({"messages": 1, "bytes": len(payload)})
                if kind == "script_finished":
                    self.seen["drawn"] += 1
                elif kind == "auto_rerun" and message.auto_rerun.fragment_id not in renewals:
                    asked = message.auto_rerun
                    self.seen["tabs"] += not renewals
                    renewals[asked.fragment_id] = asyncio.create_task(self._renew(tab, asked, kept))
        finally:
            for renewal in renewals.values():
                renewal.cancel()

    async def _renew(self, tab: ClientConnection, asked: AutoRerun, kept: set[str]) -> None:
        while True:
            await asyncio.sleep(asked.interval)
            again = BackMsg()
            again.rerun_script.fragment_id = asked.fragment_id
            again.rerun_script.is_auto_rerun = True
            again.rerun_script.cached_message_hashes.extend(kept)
            await tab.send(again.SerializeToString())


async def main(address: str, count: int) -> None:
    tabs, gate = Tabs(address), asyncio.Semaphore(AT_ONCE)
    open_tabs = [asyncio.create_task(tabs.keep(gate)) for _ in range(count)]
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not ended.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), SAY_EVERY_S)
        print(json.dumps(dict(tabs.seen)), flush=True)  # noqa: T201
    for task in open_tabs:
        task.cancel()
    await asyncio.gather(*open_tabs, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
