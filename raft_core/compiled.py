"""What the modules of logic need to be compiled with mypyc, and what says whether they are.

Each class whose objects are parts of a core's state is marked `@mypyc_attr(allow_interpreted_subclasses=True)`: of
such a class an object can be made without calling `__init__`, which `state_codec` does for copies, and tests can
subclass it. Interpreted, the mark does nothing.

A compiled module looks up each imported name in a dictionary whenever it is used, unless the name is a literal or comes
from another compiled module. A `Final` of its own is a C variable. So the modules of the hot path give what they use in
every step a name of their own, such as `_Send: Final = Send`.

Compiled code never gives up the interpreter's lock by itself: only the interpreter looks whether other threads wait.
So a long loop that runs in a thread of its own calls `give_way` now and then, or the loop would stand still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**settings):
        """Return a decorator that changes nothing: only the compiler reads the settings."""
        return lambda kind: kind


def give_way() -> None:
    """Let another thread run if one has waited for longer than the switch interval: a call of anything interpreted."""


__all__ = ["give_way", "mypyc_attr"]
