# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import connector

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmark"))
from synthetic_sysfs import SyntheticSysfs


@pytest.fixture
def tree(tmp_path):
    return SyntheticSysfs(tmp_path)


def test_bare_host(tree):
    root = str(tree.root)
    assert connector.initiator_name(root) is None
    assert connector.graphics_listen_addrs(root) == {"vnc": "127.0.0.1", "spice": "127.0.0.1"}
    assert connector.addresses(root) == []
    assert connector.connector(root=root)["multipath"] is False


def test_initiator_name(tree):
    tree.write(
        "etc/iscsi/initiatorname.iscsi", "## a comment\n#InitiatorName=iqn.1990-01.org:old\nInitiatorName=iqn.1993-08.org.debian:01:abc\n"
    )
    assert connector.initiator_name(str(tree.root)) == "iqn.1993-08.org.debian:01:abc"


def test_graphics_listen_addresses(tree):
    tree.write("etc/libvirt/qemu.conf", '#spice_listen = "0.0.0.0"\nvnc_listen = "192.0.2.5"\n')
    assert connector.graphics_listen_addrs(str(tree.root)) == {"vnc": "192.0.2.5", "spice": "127.0.0.1"}


def test_addresses(tree):
    tree.write(
        "proc/net/fib_trie",
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.78.3.11\n        /32 host LOCAL\n     |-- 10.78.3.255\n        /32 link BROADCAST\n"
        "     |-- 127.0.0.1\n        /32 host LOCAL\nMain:\n     |-- 10.78.3.11\n        /32 host LOCAL\n",
    )
    tree.write(
        "proc/net/if_inet6",
        "00000000000000000000000000000001 01 80 10 80       lo\nfd000078000300000000000000000011 02 40 00 80     eth0\n"
        "fe800000000000005054fffe78030b00 02 40 20 80     eth0\n",
    )
    assert connector.addresses(str(tree.root)) == ["10.78.3.11", "fd00:78:3::11"]


def test_address_towards_the_storage():
    assert connector.connector([("storage.example.org", 3260), ("127.0.0.9", 3260)])["ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("pid", "comm", "runs"), [("77\n", "multipathd\n", True), ("77\n", "bash\n", False), ("77\n", None, False), ("", "x", False)]
)
def test_multipathd(tree, pid, comm, runs):
    tree.write("run/multipathd.pid", pid)
    if comm:
        tree.write("proc/77/comm", comm)
    assert connector.connector(root=str(tree.root))["multipath"] is runs
