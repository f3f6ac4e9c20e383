"""FastAPI on a replicated object: one process per node, errors as HTTP codes, a hint at the leader.

    python examples/fastapi_bank.py --node 1 --raft 7101,7102,7103 --http 8001 --data bank-1
    curl -X POST 'localhost:8001/accounts/ada/deposits?cents=500'

The lifespan opens and closes the node, and uvicorn handles SIGTERM and SIGINT. If the node fails, the process ends
with status 1, so that a supervisor starts it again. A process is one node: run one worker, and scale by nodes. Any node
takes any request; each tells the others its HTTP address, and clients that of the leader.

It needs fastapi and uvicorn, and the extra `objects`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from raft_anyio import NodeConfig, OutcomeUnknown, Refused, open_node
from raft_objects import CommandError, CommandRefused, Replicated, command, query


class NotEnough(CommandError):
    """Less money than that; `account` names whose."""

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account

    def __str__(self) -> str:
        return f"{self.account} has less money than that"


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


PROBLEMS = (KeyError, ValueError, NotEnough, Refused, OutcomeUnknown)
"""What requests may raise. `Exception` in their place would catch all, and log each with a traceback."""


def http_answer(problem: Exception) -> tuple[int, str]:
    """Return the code for what went wrong, and what it means (docs/using-a-node.md has the whole table)."""
    match problem:
        case KeyError():
            return 404, "no such account"
        case ValueError():
            return 422, "not possible with these numbers"
        case NotEnough():
            return 409, "not enough money"
        case CommandRefused():
            return 501, "this command is not enabled in the cluster (yet or any more); nothing was done"
        case Refused(reason="too_large"):
            return 413, "too large; nothing was done"
        case Refused(reason="query_failed" | "prepare_failed"):
            return 500, "a mistake in this program; nothing was done"
        case Refused():
            return 503, "no leader or no majority; nothing was done, so repeat it"
        case OutcomeUnknown():
            return 504, "it was done once or not at all: look before you repeat it"
        case _:
            return 500, "a mistake in this program"


def create_app(config: NodeConfig, patience: float, failed: Callable[[], None]) -> FastAPI:
    """Return the application of one node. `patience`: seconds for a request; `failed` is called if the node fails."""
    bank = Bank()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_node(config, bank) as node:
                app.state.node = node
                yield
            print(f"node {config.node} ended in order", flush=True)
        except Exception:  # the node failed, and uvicorn would go on without it
            failed()
            raise

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def hint(request: Request, call_next):  # type: ignore[no-untyped-def]
        """Tell clients where the leader is: requests to it are a round trip shorter."""
        response = await call_next(request)
        status = app.state.node.status
        leader = status.metadata_of(status.leader).get("http")
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

    async def answer(_: Request, problem: Exception) -> JSONResponse:
        code, text = http_answer(problem)
        headers = {"Retry-After": "1"} if code == 503 else None
        return JSONResponse({"problem": text, "detail": str(problem)}, code, headers)

    for kind in PROBLEMS:
        app.add_exception_handler(kind, answer)
    return app


def serve(config: NodeConfig, port: int, patience: float) -> int:
    """Serve until a signal comes or the node fails. Return the status of the process."""
    failures: list[None] = []

    def failed() -> None:
        failures.append(None)
        server.should_exit = True

    server = uvicorn.Server(
        uvicorn.Config(create_app(config, patience, failed), host="127.0.0.1", port=port, log_level="warning")
    )
    server.run()
    return 0 if server.started and not failures else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A bank by HTTP, on three nodes.")
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--raft", required=True, help="ports of the nodes: 7101,7102,7103")
    parser.add_argument("--http", type=int, required=True, help="port of this node's web server: 8001")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--patience", type=float, default=5.0)
    given = parser.parse_args()
    members = {node: f"127.0.0.1:{port}" for node, port in enumerate(given.raft.split(","), 1)}
    about = {"http": f"http://127.0.0.1:{given.http}"}
    config = NodeConfig(given.node, members, data=given.data, metadata=about)
    sys.exit(serve(config, given.http, given.patience))
