"""Whether a file is on a network file system, on which several processes can't share a journal.

SQLite's log of changes is shared through memory, which processes on two hosts do not have, and the
locks of such file systems are not always kept.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from llamagen_async.errors import JournalError

__all__ = ["network_type", "refuse_network"]

_MOUNTS: Final = Path("/proc/self/mountinfo")
"""The file in which Linux lists what is mounted, see `proc(5)`."""
_NETWORK: Final = frozenset(
    """
    afs beegfs ceph cifs coda fuse.ceph fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs glusterfs
    gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs
    """.split()  # noqa: SIM905  # a list would be one name a line
)
"""The types of file systems that hosts share."""


def network_type(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that a folder is on.

    Returns:
        `None` if it is on a local one, or the system does not say.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        device = path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in mounts.read_text("utf-8", "replace").splitlines():
            before, _, after = line.partition(" - ")
            if before.split(" ")[2] == number:
                type_ = after.split(" ")[0]
                return type_ if type_ in _NETWORK else None
    return None


def refuse_network(journal: Path) -> None:
    """Refuse a journal that several hosts could open.

    Raises:
        JournalError: It is on a network file system.
    """
    type_ = network_type(journal.parent)
    if type_ is not None:
        raise JournalError(
            f"{journal}: it is on a network file system ({type_}), where processes can't share a "
            "journal; name a file on a disk of this machine. Nothing was sent"
        )
