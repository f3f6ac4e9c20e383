"""What an earlier release left behind: its data directories and its processes beside those of this release.

`data/` holds, for each earlier release, its wheel and an archive of data directories that it wrote:

- `kv/node-1` to `node-3`: a `raft-kv` cluster named `old`, with a snapshot and a log behind it;
- `counter/node-1` to `node-4`: a cluster named `old` of `Sessions` around a counter, with snapshots and one joint
  change behind it (node 4 replaced node 3). `counter.json` names the session and its last results.

To add a release: build its wheel, write such directories with it, and add its version to `RELEASES`.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

__all__ = ["RELEASES", "unpack", "wheel"]

DATA: Final = Path(__file__).parent / "data"
RELEASES: Final = ("0.1.0",)


def wheel(release: str) -> Path:
    """Return the wheel of an earlier release. A pure wheel can be imported as it is, by its path."""
    return DATA / f"sansio_raft-{release}-py3-none-any.whl"


def unpack(release: str, directory: Path) -> Path:
    """Unpack the data directories of an earlier release into `directory`. Return `directory`."""
    with tarfile.open(DATA / f"{release}.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory
