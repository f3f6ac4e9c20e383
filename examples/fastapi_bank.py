"""FastAPI on a replicated object: one process per node, errors as HTTP codes, a hint at the leader.

    python examples/fastapi_bank.py --node 1 --raft 7101,7102,7103 --http 8001,8002,8003 --data bank-1
    curl -X POST 'localhost:8001/accounts/ada/deposits?cents=500'

The lifespan opens and closes the node, and uvicorn handles SIGTERM and SIGINT. A process is one node: run one worker
(`--workers 1`), and scale by nodes. Any node takes any request.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from raft_anyio import NodeConfig, OutcomeUnknown, Refused, open_node
from raft_objects import CommandError, CommandRefused, Replicated, command, query


class NotEnough(CommandError):
    """Less money than that."""


class Bank(Replicated):
    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}

    @command
    def deposit(self, account: str, cents: int) -> int:
        if cents <= 0:
            raise ValueError("a deposit is positive")
        self.accounts[account] = self.accounts.get(account, 0) + cents
        return self.accounts[account]

    @command
    def withdraw(self, account: str, cents: int) -> int:
        if self.accounts[account] < cents:
            raise NotEnough(account)
        self.accounts[account] -= cents
        return self.accounts[account]

    @query
    def balance(self, account: str) -> int:
        return self.accounts[account]


# What went wrong, as HTTP says it. Handlers are found by the most special class.
PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    KeyError: (404, "no such account"),
    ValueError: (422, "not possible with these numbers"),
    NotEnough: (409, "not enough money"),
    CommandRefused: (501, "this command is not enabled in the cluster (yet or any more); nothing was done"),
    Refused: (503, "no leader or no majority; nothing was done, so repeat it"),
    OutcomeUnknown: (504, "it was done once or not at all: look before you repeat it"),
}


def create_app(config: NodeConfig, http: dict[int, str], patience: float) -> FastAPI:
    """Return the application of one node. `http`: where each node's clients go; `patience`: seconds for a request."""
    bank = Bank()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_node(config, bank) as node:
                app.state.node = node
                yield
            print(f"node {config.node} ended in order", flush=True)
        except Exception:  # the node failed, and uvicorn would go on without it: end the process, to be restarted
            signal.raise_signal(signal.SIGTERM)
            raise

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def hint(request: Request, call_next):  # type: ignore[no-untyped-def]
        """Tell clients where the leader is: requests to it are a round trip shorter."""
        response = await call_next(request)
        leader = http.get(app.state.node.status.leader)
        if leader:
            response.headers["X-Leader"] = leader
        return response

    @app.post("/accounts/{account}/deposits")
    async def deposit(account: str, cents: int) -> dict[str, int]:
        return {"balance": await bank.deposit.within(patience)(account, cents)}

    @app.post("/accounts/{account}/withdrawals")
    async def withdraw(account: str, cents: int) -> dict[str, int]:
        return {"balance": await bank.withdraw.within(patience)(account, cents)}

    @app.get("/accounts/{account}")
    async def balance(account: str, *, stale: bool = False) -> dict[str, int]:
        """Answer linearizably or, faster and perhaps old, from this node alone."""
        return {"balance": bank.balance.here(account) if stale else await bank.balance.within(patience)(account)}

    @app.get("/health")
    async def health(response: Response) -> dict[str, object]:
        """Say whether to send clients here: not while this node knows no leader."""
        status = app.state.node.status
        response.status_code = 200 if status.leader else 503
        return {"node": status.node, "role": status.role, "leader": status.leader, "term": status.term}

    for kind, (code, text) in PROBLEMS.items():
        app.add_exception_handler(kind, _handler(code, text))
    return app


def _handler(code: int, text: str):  # type: ignore[no-untyped-def]
    async def handle(_: Request, problem: Exception) -> JSONResponse:
        headers = {"Retry-After": "1"} if code == 503 else None
        return JSONResponse({"problem": text, "detail": str(problem)}, code, headers)

    return handle


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A bank by HTTP, on three nodes.")
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--raft", required=True, help="ports of the nodes: 7101,7102,7103")
    parser.add_argument("--http", required=True, help="ports of the web servers: 8001,8002,8003")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--patience", type=float, default=5.0)
    given = parser.parse_args()
    members = {node: f"127.0.0.1:{port}" for node, port in enumerate(given.raft.split(","), 1)}
    addresses = {node: f"http://127.0.0.1:{port}" for node, port in enumerate(given.http.split(","), 1)}
    app = create_app(NodeConfig(given.node, members, data=given.data), addresses, given.patience)
    port = int(addresses[given.node].rpartition(":")[2])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
