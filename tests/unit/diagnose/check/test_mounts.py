"""What the kernel tells of mounts, and what their options mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.diagnose.check import mounts
from ddmq.diagnose.check.mounts import Mount, mount_of, parse

MOUNTINFO = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:50 / /scratch rw,nosuid shared:7 master:2 - nfs4 server:/x rw,vers=4.2,hard,local_lock=none
41 27 0:51 / /scratch/my\040data rw - lustre a@tcp:/l\134x rw,localflock
42 27 0:52 / /mnt rw - tmpfs none rw
43 42 0:53 / /mnt rw - fuse.glusterfs localhost:/v rw
44 27 broken
45 27 0:54 / /also-broken rw
"""


def test_mounts_are_read_with_all_their_options():
    found = {mount.point: mount for mount in parse(MOUNTINFO)}
    options = ("rw", "nosuid", "vers=4.2", "hard", "local_lock=none")
    assert found["/scratch"].options == options
    assert found["/scratch/my data"].source == "a@tcp:/l\\x"
    assert found["/scratch"].get("vers") == "4.2"
    assert found["/scratch"].get("hard") == ""
    assert found["/scratch"].get("soft") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/scratched/x", "ext4"),
        ("/scratch", "nfs4"),
        ("/scratch/me/mq", "nfs4"),
        ("/scratch/my data/mq", "lustre"),
        ("/mnt/x", "fuse.glusterfs"),
    ],
)
def test_the_mount_of_a_path_is_the_deepest_and_the_last(path, kind):
    assert mount_of(path, parse(MOUNTINFO)).kind == kind


def test_a_path_without_a_mount_has_none():
    assert mount_of("/x", []) is None


@given(st.text())
def test_whatever_the_kernel_tells_is_read(text):
    assert isinstance(parse(text), list)


def test_this_machine_has_something_mounted_at_its_root():
    assert mount_of("/", mounts.read()) is not None


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("nfs", ["vers=3", "nolock"], ["vers=3: the lock of a node", "nolock: locks"]),
        ("nfs4", ["local_lock=all"], ["local_lock=all: locks hold on one node only"]),
        ("nfs4", ["local_lock=none", "vers=4.2"], []),
        ("nfs4", ["soft", "nocto"], ["nocto: opening", "soft: when the server"]),
        ("lustre", ["localflock"], ["localflock: locks hold on one node"]),
        ("ext4", ["nolock", "soft"], []),
    ],
)
def test_options_are_remarked_on_where_they_matter(kind, options, words):
    remarks = sorted(mounts.remarks(Mount(kind, "x", "/x", tuple(options))))
    assert len(remarks) == len(words)
    assert all(map(str.startswith, remarks, sorted(words)))
