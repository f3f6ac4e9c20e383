"""Checked by mypy in `test_typing`: what `reveal_type` says of calls."""

from __future__ import annotations

from typing import reveal_type

from tests.objects.samples import Bank, Orders


async def calls(bank: Bank, orders: Orders) -> None:
    """Call commands and queries, right and wrong."""
    reveal_type(await bank.deposit("ada", 5, fee=1))
    reveal_type(await bank.move("ada", "bob", amount=3))
    reveal_type(await bank.balance("ada"))
    reveal_type(bank.balance.here("ada"))
    reveal_type(await orders.find.within(2.0)(7))
    await bank.deposit("ada", "5")  # type: ignore[arg-type]
    await bank.deposit("ada")  # type: ignore[call-arg]
    await bank.deposit("ada", 5, tip=1)  # type: ignore[call-arg]
