"""Scripts of well-known lock libraries, recognised by SHA1 or by normal form, and the operations that replace them.

This server runs no Lua. A client library's compare-and-delete and similar scripts are recognised and enter the log as a
native command (`raft_kv.commands.comparing`), atomic and the same on every replica. The tables hold digests of scripts
and names of operations, no script texts.

The normal form of a script has no comments and no blanks, one kind of quotation marks, Redis commands in lower case,
and local variables numbered in the order of their declaration. Scripts of the same normal form do the same.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from hashlib import sha1
from typing import Final, final

import attrs

from raft_kv.commands import TABLE
from raft_kv.commands.comparing import RAFT_ONCE, RAFT_SCRIPT, RAFT_SET
from raft_kv.commands.table import INTERNAL, integer, unknown_command
from raft_kv.resp import CommandError

__all__ = ["MOST_SCRIPT_COST", "Scripts", "normal_form", "operation_of", "script_cost", "translate"]

_LONGEST: Final = 4096
"""Longer scripts are not looked at; the known ones are shorter."""
_COST_PER_BYTE: Final = 4
MOST_SCRIPT_COST: Final = 1024
"""Of the script of a command in a batch, whose commands are translated in one turn."""
_REMEMBERED: Final = 1024
"""Most scripts loaded by clients, besides the known texts, to be remembered by SHA1."""
_DECLARES: Final = frozenset({b"local", b"for"})
_TOKEN: Final = re.compile(
    rb"""--\[\[.*?\]\]|--[^\n]*|\s+|;|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[A-Za-z_]\w*|[0-9]+|[=~<>]=|\.\.|\S)""",
    re.DOTALL,
)
_CALLS: Final = ([b"redis", b".", b"call", b"("], [b"redis", b".", b"pcall", b"("])
_OPTIONS: Final = frozenset({b"IFEQ", b"IFNE"})
_INTERNAL: Final = frozenset({name for name, command in TABLE.items() if INTERNAL in command.flags} - {RAFT_ONCE})
"""RAFT ONCE in a transaction is translated before it gets here. It does nothing by itself."""

_BY_SHA1: Final[dict[str, str]] = {
    "00583931c4e4d483f6233879c133c71ed5393f9d": "delete",
    "373e85b19820c9b666decaeae73c4bb6f5a45d7c": "delete",
    "647c65a442733a1aa440f99908d249d13b4d6c4a": "delete",
    "a4aada0b36710970eedaaaeec4a6b7d8c78c4f80": "delete",
    "ae3671744a5dbb24ea37ef607b8b10ac7856d43e": "delete",
    "bd75051e9049411d4a96c0df196ac2667d38f481": "delete",
    "bfb9f817b2e860fe4fc58656b2bf657d3fdc2be1": "delete",
    "c3f8721cbb97f72bc19e972846bd7aaf91901658": "delete",
    "cf0e94b2e9ffc7e04395cf88f7583fc309985910": "delete",
    "e9f69f2beb755be68b5e456ee2ce9aadfbc4ebf4": "delete",
    "fc03c85cef965af38f17fef05d68cc66c7d85c96": "delete",
    "a4e8783852e6b949f9ef3a97212805108459a890": "extend",
    "0db1db91f45b91a0bb0079eab1d77e8cb1ff30b8": "pexpire",
    "1cac51482acf5858da00f6d685d68f886cd6b6b2": "pexpire",
    "a7aba3bc5d6e99b3003da8b9d80a63b9f4092ecf": "pexpire",
    "ba015a80261b616e7a62d35df0b8e3edbe6c9414": "pexpire",
    "d75bb8b5bd13532ddedd17762e772346e39b321e": "pexpire",
    "f5f7bd3a3aa4a63c507c1155c5ea1219b350d992": "pttl",
    "aecadef15d24ccd9360d8641cdec8e0337a0d343": "take",
    "0e084295a6567dabd5b7d5b4c99018cff95fceff": "give-back",
    "2239e3d89e276c90ec523515c30bcf0071823c7e": "ttl",
    "90da91872223f85eb1376a17e3c4df21ace8c54b": "lock-release",
    "fed16109024d968d9496e4140fe1355bac05ebff": "lock-extend",
    "afbc8014508f92e446b56567e8ba600e811c1bd5": "lock-reset",
    "411b7c153e0ab3ba59d6d1e36cc7858ebd76f2c5": "extend-to",
    "7bcdefae3714859f68f1f2377bddae74a1af9391": "acquire",
    "8a7fdef25bdef981900f982f5773edaf35000372": "expire",
    "96da70f7716f27d278a5218544df37fd8b0a5e4c": "acquire-all",
    "aed6f382e410db8ba7926d4e5e9aab410bf2a78a": "extend-all",
    "e4612211c9f8f51c257e26e056b0a654b3187242": "release-all",
    "862f31bf38e9b63ce28d6e9e5143551bb34ef981": "set-nx",
}
"""Scripts of released libraries, so that EVALSHA finds them on a node that has never seen their text."""

_BY_NORMAL_FORM: Final[dict[str, str]] = {
    "0e7d20b69a066fb566f0b1ec670b877fa7ae883b": "delete",
    "30fbc7aa8955e5505f7aa228be35fa2d4da37ac0": "delete",
    "32d32c86bf85ea84ddf022d2433f8091e07264ac": "delete",
    "3823ad75e0198b37448228086b72fb8d854f35a1": "delete",
    "3ff79b7e6a29ecdcf6e6d4d8d2f021df0e47a0df": "delete",
    "55c018da0a9bd0497a6733e13f26b990abd0b8ca": "delete",
    "58c44e69fd81d4c014ab988b92ccabd112c9c568": "delete",
    "5b928549256b2728e88592354c9e123cd05dbb25": "delete",
    "60a1e4098e2944b7fd442aad6e73b287d69d798c": "delete",
    "7892467f0f3df31e5d7ff8e0b4aecb5692085d87": "delete",
    "80a79e47cc28b9b62224a928abbd5cce81b48b40": "delete",
    "91fc8d5b2db9804b49a4ea311295092f3a9602f0": "delete",
    "aa95f118b9c8accd43604d01d04aad95ae90a1e7": "delete",
    "fa0accbd474ad04f2cddbd033a5a436370e13018": "delete",
    "0f8656bba1174a0a862d10c942215c01b6361ef1": "pexpire",
    "12a434df58a1030358798a763cd6d5b2c349cbc3": "pexpire",
    "2a42765fc96f42671bee4df2e68040d887c58f78": "pexpire",
    "30a316b2781eb6a61227354c3337468e50211a09": "pexpire",
    "30c654a27316a51bf53e106b8a5ef223d2b86b14": "pexpire",
    "36ea51e5bc6cc712b0f47257ebd0361689a61c97": "pexpire",
    "3cadf030af2bd275e806d6d6f6c3efd3393bb63f": "pexpire",
    "4b46f4752936bfa10313d2fed41dccbbfb5994a0": "pexpire",
    "7090135a886f8ef79fbcf22735877a3a6b28f38a": "pexpire",
    "72642955317904dc2571a7ef56952f27af8f03af": "pexpire",
    "86ce836cb35d45bc85d610597af19d3b9f0deadb": "pexpire",
    "d5934dbced3d535bb9a70b125e9a772e63c35beb": "pexpire",
    "e5b5a98b994dd58727218d924327201b56c2e1bf": "pexpire",
    "f6019ee88dbff5a32b09aff570b97373458a0a80": "pexpire",
    "079eb1b70ea5ae32b27e4a685d0f118b9825e0a2": "expire",
    "2747b60967d5282c4ecd9373b3531371a34b238d": "expire",
    "4177bf1046325a88e59fe1000d2fd0e0844779e5": "expire",
    "5688f3fb4601624b1e59ba661254144d746d7f64": "expire",
    "75a147af082772fc9b5351a96916b9cb4cd0fdcf": "expire",
    "7603db366d84d1b32127a4b427215227b2f2828c": "expire",
    "800bfb6027d78b041a21f0880e8c81b724a625e8": "expire",
    "98098e4c610ba05728fb977c0d9f13ee3c943f37": "expire",
    "ac2843ff684789ee3a554f33520e09e8de68deaa": "expire",
    "b04a6419c006498454e42603cc00b337800e4b43": "expire",
    "be9068a539886af1f424c5dae24364f77387495c": "expire",
    "c22278122eaf46658a25f5b735190b067198400e": "expire",
    "c27892780c1effa729b8f488058e9d4bc7c1dc89": "expire",
    "e0c4d8aa53dcfbd526a9c45dfb4ea63a4b3aaef8": "expire",
    "f4efdab1ba92d576932f85c664744588c3bc513c": "expire",
    "1a0366213b1bc78e4c3ec8dfdca3d943f45bb830": "set",
    "2892135dd541a3dc19ceaa5ea101dccb07c9a0a8": "set",
    "2af0d4e7036b5d10e45750064caacbee0008e2fc": "set",
    "63f02bcb2f2af28fc90c466973782a571e3a09e4": "set",
    "8f8b28dda4bba34f857c1dc48d13df05072babd1": "set",
    "b3026b584dff25b58d8d1023335c7189ec92503c": "set",
    "d0bc21f67c566ceaf36046ea8d35f43f5a2967f1": "set",
    "63715382fa3631063c161fe9008496cd439e7333": "extend",
    "569eacffa70bb7b49036f2d24c3bc207d598dc07": "pttl",
    "7b677aa80889a1e6ef8abda2d3031cf0e395785e": "take",
    "d8c392ce815ddc16d39b3f02adbf09b74a3aabc8": "give-back",
    "620d232724a7f6ef226b3be054fc7562e342b6d3": "ttl",
    "1b60ae7f20845a80aa5312b063e25a6e366849aa": "lock-release",
    "7f1416a72b4119e9745b6ece0173922c9838108a": "lock-extend",
    "338426a36c18289e093615ecf25bde69b826592d": "lock-reset",
    "eb7463b71c94c83da36819da97c3724645631f2d": "extend-to",
    "f8704efcc2e8e4eaf17e40a505d403fda617129f": "acquire",
    "b05d62abba84ba88260d89937c5ea1c113f15f74": "acquire-all",
    "fdd4c7561d1a85f0201146e284ad56fe24b5657b": "extend-all",
    "b70824a3f3ac12d938d5caabd7bdb410228037d2": "release-all",
    "14a66f417544aca15d757df2586db6330281c134": "set-nx",
}
"""SHA1 of a normal form -> operation."""


def normal_form(script: bytes) -> bytes:
    """Return the normal form of the script."""
    tokens = [token for token in _TOKEN.findall(script) if token]
    names: dict[bytes, bytes] = {}
    for place, token in enumerate(tokens):
        if token not in _DECLARES:
            continue
        following = place + 1
        while following < len(tokens) and tokens[following][:1].isalpha():
            names.setdefault(tokens[following], b"v%d" % len(names))
            if tokens[following + 1 : following + 2] != [b","]:
                break
            following += 2
    written: list[bytes] = []
    for place, token in enumerate(tokens):
        if token[:1] in (b'"', b"'"):
            text = token[1:-1]
            if tokens[max(0, place - 4) : place] in _CALLS:
                text = text.lower().replace(b"unlink", b"del")
            written.append(b"'" + text + b"'")
        else:
            written.append(token if tokens[max(0, place - 1) : place] == [b"."] else names.get(token, token))
    return b" ".join(written)


def operation_of(script: bytes) -> str | None:
    """Return the operation equal to `script`, or None for an unknown script."""
    if len(script) > _LONGEST or b"--[=" in script:  # a comment of a kind that `normal_form` does not see the end of
        return None
    return _BY_NORMAL_FORM.get(sha1(normal_form(script)).hexdigest())


@final
@attrs.define(eq=False)
class Scripts:
    """The scripts known to one node, shared by its connections; empty after a restart."""

    _loaded: OrderedDict[str, str] = attrs.field(factory=OrderedDict, init=False)

    def load(self, script: bytes) -> str:
        """Return the script's SHA1, its name from now on. Raise `CommandError` for an unknown script."""
        operation = operation_of(script)
        if operation is None:
            raise CommandError(
                "ERR this server runs no Lua: it knows the scripts of common lock libraries, and this is none of them. "
                "DELIFEQ, DELEX, SET with IFEQ, and WATCH with MULTI do without scripts"
            )
        digest = sha1(script).hexdigest()
        if digest not in _BY_SHA1:
            self._loaded[digest] = operation
            while len(self._loaded) > _REMEMBERED:
                self._loaded.popitem(last=False)
        return digest

    def operation(self, digest: bytes) -> str:
        """Return the operation of the script with this SHA1. Raise `CommandError`."""
        name = digest.lower().decode("ascii", "replace")
        operation = _BY_SHA1.get(name) or self._loaded.get(name)
        if operation is None:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        return operation

    def knows(self, digest: bytes) -> bool:
        """Whether EVALSHA would find it."""
        name = digest.lower().decode("ascii", "replace")
        return name in _BY_SHA1 or name in self._loaded

    def flush(self) -> None:
        """Forget scripts loaded by clients; those of released libraries stay known."""
        self._loaded.clear()


def script_cost(call: list[bytes]) -> int:
    """Return about the microseconds until the script of an EVAL is recognised; 0 for other calls."""
    return _COST_PER_BYTE * len(call[1]) if len(call) > 1 and call[0].lower() == b"eval" else 0


def translate(call: list[bytes], scripts: Scripts) -> list[bytes]:
    """Return the call as it enters the log. Raise `CommandError` for an unknown script, and for an internal command.

    A client that sent an internal command itself would go round what is checked of the command it stands for.
    """
    name = call[0].lower()
    if name in _INTERNAL:
        raise unknown_command(call)
    if name == b"set" and len(call) > 4:
        return [RAFT_SET, *call[1:]] if any(word.upper() in _OPTIONS for word in call[3:]) else call
    if name not in (b"eval", b"evalsha") or len(call) < 3:
        return call
    count = integer(call[2])
    if count < 0:
        raise CommandError("ERR Number of keys can't be negative")
    if count > len(call) - 3:
        raise CommandError("ERR Number of keys can't be greater than number of args")
    digest = scripts.load(call[1]).encode() if name == b"eval" else call[1]
    return [RAFT_SCRIPT, scripts.operation(digest).encode(), *call[2:]]
