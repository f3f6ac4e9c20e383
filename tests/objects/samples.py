"""Replicated classes for the tests of `raft_objects`."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import attrs

from raft_objects import CommandError, Objects, Replicated, Since, command, query
from raft_objects.replies import result_of


class Broke(CommandError):
    """Too little money."""


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Receipt:
    account: str
    balance: int
    at: float = 0.0


@dataclass
class Order:
    number: int
    colour: Colour
    lines: list[tuple[str, int]]
    due: datetime | None = None
    note: Annotated[str, Since(2)] = ""


class Bank(Replicated):
    """Accounts by name."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}

    @command
    def deposit(self, account: str, amount: int, *, fee: int = 0) -> int:
        if amount <= 0:
            raise ValueError("an amount is positive")
        self.accounts[account] = self.accounts.get(account, 0) + amount - fee
        return self.accounts[account]

    @command
    def move(self, source: str, to: str, amount: int) -> Receipt:
        self.accounts[source] -= amount
        self.accounts[to] = self.accounts.get(to, 0) + amount
        if self.accounts[source] < 0:
            raise Broke(source, amount)
        return Receipt(to, self.accounts[to], self.now)

    @command
    def bug(self, account: str) -> None:
        self.accounts[account] = 0
        raise RuntimeError("a bug")

    @command
    def deep(self) -> None:
        self.deep_down()

    def deep_down(self) -> None:
        self.deep_down()

    @query
    def balance(self, account: str) -> int:
        return self.accounts[account]


class Orders(Replicated):
    """Orders, as dataclasses with enums."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.seen: set[str] = set()

    @command
    def place(self, order: Order) -> Order:
        self.orders[order.number] = order
        self.seen.update(name for name, _ in order.lines)
        return order

    @command
    def dice(self) -> tuple[float, int, int]:
        return self.random.random(), self.index, self.now_ns

    @query
    def find(self, number: int) -> Order | None:
        return self.orders.get(number)


class Sinner(Replicated):
    """Everything that replicas would do differently."""

    def __init__(self) -> None:
        self.last: float = 0.0

    @command
    def clock(self) -> float:
        return time.time()

    @command
    def wall(self) -> str:
        return datetime.now().isoformat()

    @command
    def dice(self) -> int:
        return random.randint(1, 6)

    @command
    def name(self) -> str:
        return str(uuid.uuid4())

    @command
    def hidden(self) -> int:
        try:
            return random.getrandbits(8)
        except Exception:
            return 0

    @command
    def fair(self) -> int:
        return self.random.randint(1, 6)


class Driver:
    """Applies commands to one group of objects as a node does, without a node."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.index = 0
        self.time = 1_000_000_000
        self.log: list[bytes] = []

    def entry(self, method: Any, *args: Any, **kwargs: Any) -> bytes:
        """Return the entry of a call, stamped."""
        made = method._command
        call = self.objects.encode_call(method._binding.name, made, made.arguments(*args, **kwargs))
        return self.objects.prepare(call, self.time)

    def apply(self, entry: bytes) -> bytes:
        self.index += 1
        self.log.append(entry)
        return self.objects.apply(self.index, entry)

    def do(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply a call and return its result, or raise its error."""
        reply = self.apply(self.entry(method, *args, **kwargs))
        return result_of(self.objects.entry(method._binding.name), method._command.name, reply)

    def ask(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        asked = method._query
        name = method._binding.name
        reply = self.objects.query(self.objects.encode_call(name, asked, asked.arguments(*args, **kwargs)))
        return result_of(self.objects.entry(name), asked.name, reply)

    def state(self) -> bytes:
        return b"".join(self.objects.snapshot())
