"""A feature-flag service: every process asks its own memory, and hears of a change within milliseconds.

    python examples/feature_flags.py 1 flags-1 8001 localhost:7101 localhost:7102 localhost:7103   # and 2, and 3
    $ nc localhost 8002
    set new-checkout 25            a quarter of the users
    new-checkout is on for 25 %
    ask new-checkout ada
    off
    watch                          prints every change from now on

Asking costs a look into a dict and no network: the flags are a replica in this process. It may be some milliseconds
old, and while the cluster has no majority it stays as it is, which is what flags are for.
"""

from __future__ import annotations

import sys
from functools import partial
from hashlib import blake2b

import anyio
import attrs
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from raft_anyio import Node, NodeConfig, OutcomeUnknown, Refused, serve
from raft_objects import Objects
from raft_objects.map_table import MapTable
from raft_objects.maps import Compacted, Map

LONGEST_LINE = 1000


@attrs.frozen
class Flag:
    """On for so many percent of the users, always the same ones."""

    percent: int

    def is_on(self, name: str, user: str) -> bool:
        return int.from_bytes(blake2b(f"{name} {user}".encode(), digest_size=4).digest(), "big") % 100 < self.percent


class Flags:
    """The flags of this process."""

    def __init__(self, table: MapTable[Flag]) -> None:
        self.map = Map(table)
        self._flags: dict[str, Flag] = {}

    def is_on(self, name: str, user: str) -> bool:
        """Return at once. An unknown flag is off."""
        return name in self._flags and self._flags[name].is_on(name, user)

    async def follow(self) -> None:
        """Keep the flags of this process as the cluster has them."""
        while True:
            revision = self.map.revision
            self._flags = dict(await self._all())
            try:
                async for change in self.map.watch(after=revision):
                    if change.value is None:
                        self._flags.pop(change.key, None)
                    else:
                        self._flags[change.key] = change.value
            except Compacted:  # this process was too far behind: begin anew
                continue

    async def _all(self) -> list[tuple[str, Flag]]:
        while True:
            try:
                return [(name, found.value) for name, found in await self.map.scan()]
            except (Refused, OutcomeUnknown):
                await anyio.sleep(0.5)


async def one_client(flags: Flags, client: SocketStream) -> None:
    """Serve the lines of one connection."""
    lines = BufferedByteReceiveStream(client)
    async with client:
        try:
            while True:
                words = (await lines.receive_until(b"\n", LONGEST_LINE)).decode(errors="replace").split()
                match words:
                    case ["set", name, percent] if percent.isdigit() and int(percent) <= 100:
                        await flags.map.put(name, Flag(int(percent)))
                        answer = f"{name} is on for {percent} %"
                    case ["ask", name, user]:
                        answer = "on" if flags.is_on(name, user) else "off"
                    case ["watch"]:
                        async for change in flags.map.watch(after=flags.map.revision):
                            percent = str(change.value.percent) if change.value is not None else "0"
                            await client.send(f"{change.key} is on for {percent} %\n".encode())
                        return
                    case _:
                        answer = "error: set FLAG PERCENT, ask FLAG USER or watch"
                await client.send(answer.encode() + b"\n")
        except (Refused, OutcomeUnknown, Compacted) as failure:
            await client.send(f"error: {failure}\n".encode())
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError):
            pass


async def main(node: int, data: str, port: int, *addresses: str) -> None:
    objects = Objects()
    flags = Flags(objects.add("flags", MapTable[Flag]()))

    async def app(_: Node) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(flags.follow)
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
            print(f"flags at port {port}", flush=True)
            await listener.serve(partial(one_client, flags))

    await serve(NodeConfig(node, dict(enumerate(addresses, 1)), data=data), objects, app)
    print("ended in order")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
