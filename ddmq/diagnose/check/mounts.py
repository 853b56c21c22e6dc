"""What is mounted where, and what is known about it; pure but for `read`."""

from __future__ import annotations

import re
from typing import NamedTuple

_MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mounted file system."""

    kind: str
    """Its type, as the kernel calls it: `nfs4`, `fuse.glusterfs`."""
    source: str
    point: str
    options: tuple[str, ...]
    """Those of the mount and of the file system, each once."""

    def get(self, name: str) -> str | None:
        """Return the value of an option; empty where it has none, None where it is not set."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None


def read() -> list[Mount]:
    """Return all mounts, none where the kernel does not tell."""
    try:
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read())
    except OSError:
        return []


def parse(text: str) -> list[Mount]:
    """Read `/proc/self/mountinfo`; lines of another form are left out."""
    found = (_parsed(line) for line in text.splitlines())
    return [mount for mount in found if mount is not None]


def _parsed(line: str) -> Mount | None:
    left, separator, right = line.partition(" - ")
    before, after = left.split(" "), right.split(" ")
    if not separator or len(before) < 6 or len(after) < 3:
        return None
    options = dict.fromkeys([*before[5].split(","), *after[2].split(",")])
    return Mount(after[0], _plain(after[1]), _plain(before[4]), tuple(options))


def _plain(text: str) -> str:
    """Return a name without the escapes of spaces and the like."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """Return what is mounted where an absolute, real path leads to."""
    above = [m for m in mounts if f"{path}/".startswith(m.point.rstrip("/") + "/")]
    deepest = max((len(m.point) for m in above), default=0)
    # Of two on one point, the later one hides the earlier.
    return next((m for m in reversed(above) if len(m.point) == deepest), None)


class Kind(NamedTuple):
    """What is known about a type of file system."""

    words: str
    shared: bool = True
    """Whether several nodes may mount it."""
    fit: bool = True
    """Whether it can keep the promises at all."""


_NFS = Kind(
    "NFS: a listing taken afresh showed another node's rename after 0.4 s, at worst 2 s; names "
    "looked up too early may seem missing for a minute, unless their directory is opened"
)
_CEPH = Kind("CephFS: one view for all clients")
_LOCAL = Kind("a local file system: for processes on this node only", shared=False)
_BUCKETS = Kind(
    "an object store: its rename copies and deletes, and two can win it", fit=False
)
_CIFS = Kind(
    "SMB: never measured; its server may refuse to rename open files, and its caches are not "
    "those of NFS"
)

#: By the kernel's name of the type.
KINDS = {
    "nfs": _NFS,
    "nfs4": _NFS,
    "lustre": Kind("Lustre: one view for all clients; locks need the option flock"),
    "gpfs": Kind("GPFS (Storage Scale): one view for all clients"),
    "beegfs": Kind(
        "BeeGFS: locks hold between nodes only with tuneUseGlobalFileLocks = true"
    ),
    "ceph": _CEPH,
    "fuse.ceph": _CEPH,
    "fuse.ceph-fuse": _CEPH,
    "fuse.glusterfs": Kind(
        "GlusterFS: two renames to one shared target can both succeed, and hard links can fail; "
        "ddmq uses neither. Clients may stamp files themselves (ctime): keep clocks together"
    ),
    "cifs": _CIFS,
    "smb3": _CIFS,
    "fuse.sshfs": Kind(
        "sshfs: one view only for those who use one mount", shared=False
    ),
    "fuse.s3fs": _BUCKETS,
    "fuse.rclone": _BUCKETS,
    "fuse.goofys": _BUCKETS,
    "fuse.gcsfuse": _BUCKETS,
    "fuse.mountpoint-s3": _BUCKETS,
    "ext4": _LOCAL,
    "ext3": _LOCAL,
    "xfs": _LOCAL,
    "btrfs": _LOCAL,
    "zfs": _LOCAL,
    "overlay": _LOCAL,
    "tmpfs": Kind(
        "in the memory of this node: gone when it is switched off", shared=False
    ),
}


def are_alike(one: Mount | None, other: Mount | None) -> bool:
    """Tell whether two mounts differ in nothing but their place."""
    if one is None or other is None:
        return one is other
    return one == other._replace(point=one.point)


def is_local(mount: Mount | None) -> bool:
    """Tell whether no other node can have it mounted, as far as we know."""
    kind = KINDS.get(mount.kind) if mount is not None else None
    return kind is not None and not kind.shared


class Option(NamedTuple):
    """What an option of a mount means for ddmq."""

    kinds: tuple[str, ...]
    name: str
    values: tuple[str, ...]
    """The values that it is about; none: any."""
    words: str

    def concerns(self, mount: Mount) -> bool:
        """Tell whether a mount has it."""
        value = mount.get(self.name)
        return (
            mount.kind in self.kinds
            and value is not None
            and (not self.values or value in self.values)
        )


_NFSS = ("nfs", "nfs4")
OPTIONS = (
    Option(
        _NFSS, "nolock", (), "locks hold on one node only: mount without it, or let one "
        "node at a time create, delete, purge and config"
    ),
    Option(
        _NFSS, "local_lock", ("all", "flock"), "locks hold on one node only: set it to "
        "none, or let one node at a time create, delete, purge and config"
    ),
    Option(
        _NFSS, "nocto", (), "opening a directory does not ask the server, so messages may "
        "be seen late: mount without it"
    ),
    Option(
        (*_NFSS, "cifs", "smb3"), "soft", (), "when the server is away, calls fail where "
        "they could wait: hard is better"
    ),
    Option(
        _NFSS, "vers", ("3",), "the lock of a node that died stays locked until it has "
        "restarted; no message waits for one"
    ),
    Option(
        ("lustre",), "localflock", (), "locks hold on one node only: mount with flock"
    ),
    Option(
        ("ext3", "ext4", "nfs", "nfs4", "lustre", "xfs"), "ro", (), "it is mounted "
        "read-only"
    ),
)  # fmt: skip


def remarks(mount: Mount) -> list[str]:
    """Return what its options mean for ddmq, in words."""
    return [
        f"{option.name}{'=' + value if (value := mount.get(option.name)) else ''}: "
        f"{option.words}"
        for option in OPTIONS
        if option.concerns(mount)
    ]
