"""Nodes named by their ordinals, as a Kubernetes StatefulSet does: raft-kv-0, raft-kv-1, raft-kv-2.

One configuration serves all of them. Node i+1 has the name NAME-i, and its address is NAME-i.DOMAIN:PORT. The
first `expect` nodes found the cluster; later ones wait for RAFT ADD.
"""

from __future__ import annotations

import re
from typing import Final

from raft_core.errors import SettingsError
from raft_core.node.config import join_address, split_address
from raft_kv.options import Values

__all__ = ["fill_in"]

_NAMED: Final = re.compile(r"(.*[^0-9]-)?([0-9]{1,6})")


def fill_in(values: Values, hostname: str) -> None:
    """Replace `dns` and `expect` among the values of a server by the id, the peers, and whether it joins.

    Values that are given stay. Raise `SettingsError` if the machine's name has no ordinal.
    """
    origin = values.origin(("dns",)) or values.origin(("expect",))
    dns, expect = (str(values.take_out(name)) for name in ("dns", "expect"))
    if not dns and not expect:
        return
    if not dns or not expect.isdecimal() or int(expect) < 1:
        raise SettingsError(
            f"{origin}: --dns NAME:PORT and --expect N belong together: the nodes' domain, and founders"
        )
    domain, port = split_address(dns)
    found = _NAMED.fullmatch(hostname.partition(".")[0])
    if found is None or not found[1]:
        raise SettingsError(f"{origin}: the host name must end in an ordinal, as in raft-kv-0, and is {hostname!r}")
    ordinal, founders = int(found[2]), int(expect)
    given = values.tree
    if "id" not in given:
        values.put(("id",), ordinal + 1, origin)
    if "join" not in given:
        values.put(("join",), ordinal >= founders, origin)
    if "peers" not in given:
        for each in range(founders) if ordinal < founders else (*range(founders), ordinal):
            values.put(("peers", str(each + 1)), join_address(f"{found[1]}{each}.{domain}", port), origin)
