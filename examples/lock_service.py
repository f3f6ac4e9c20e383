"""A lock service by TCP: any client that can write a line has locks with leases and fencing tokens.

    python examples/lock_service.py 1 locks-1 8001 localhost:7101 localhost:7102 localhost:7103   # and 2, and 3
    $ nc localhost 8001
    acquire report
    granted report 7
    release report
    released report

A lock belongs to its connection: it is free again once the connection ends, or after the lease if the node dies. The
number rises with each owner; what must not be done twice refuses a number below one that it has seen.
"""

from __future__ import annotations

import sys
from functools import partial

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from raft_anyio import Node, NodeConfig, OutcomeUnknown, Refused, serve
from raft_objects.lock_table import LockTable
from raft_objects.locks import Held, Locks

LEASE = 5.0
LONGEST_LINE = 1000


async def one_client(locks: Locks, client: SocketStream) -> None:
    """Serve the lines of one connection, one after the other; at its end, release what it holds."""
    held: dict[str, Held] = {}
    lines = BufferedByteReceiveStream(client)
    async with client, anyio.create_task_group() as group:

        async def watch(lock: Held) -> None:
            await lock.lost.wait()
            if held.pop(lock.name, None) is lock:
                await client.send(f"lost {lock.name}\n".encode())

        try:
            while True:
                words = (await lines.receive_until(b"\n", LONGEST_LINE)).decode(errors="replace").split()
                match words:
                    case ["acquire", name] if name not in held:
                        lock = held[name] = await locks.acquire(name)
                        group.start_soon(watch, lock)
                        answer = f"granted {name} {lock.token}"
                    case ["release", name] if name in held:
                        await locks.release(held.pop(name))
                        answer = f"released {name}"
                    case _:
                        answer = "error: acquire NAME or release NAME"
                await client.send(answer.encode() + b"\n")
        except (Refused, OutcomeUnknown) as failure:  # the cluster is out of reach, and this node ends
            await client.send(f"error: {failure}\n".encode())
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError):
            pass
        finally:
            group.cancel_scope.cancel()
            with anyio.move_on_after(LEASE, shield=True):
                for lock in held.values():
                    await locks.release(lock)


async def main(node: int, data: str, port: int, *addresses: str) -> None:
    table = LockTable()

    async def app(_: Node) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        print(f"locks at port {port}", flush=True)
        await listener.serve(partial(one_client, Locks(table, lease=LEASE)))

    await serve(NodeConfig(node, dict(enumerate(addresses, 1)), data=data), table, app)
    print("ended in order")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
