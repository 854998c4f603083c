# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""wire WORD COMMAND...: run the command, and listen to what goes from hosta to hostb meanwhile.

Prints as JSON, for each of hostb's two networks and the port's kind, how many bytes of TCP were heard, and in how many packets
the word stood in the clear; the command's exit code and what it said.
"""

import collections
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile

LAB = os.environ.get("LAB_ID", "0")
NETWORKS = {"bridge": f"ls{LAB}hostb", "migration": f"ls{LAB}m-hostb"}
ETH_P_ALL = 3
KINDS = {16509: "libvirt", 16514: "libvirt_tls", 22: "ssh"}
BUFFER_BYTES = 64 << 20
SO_RCVBUFFORCE = 33


def listen(interface: str) -> socket.socket:
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    heard.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    heard.bind((interface, 0))
    return heard


def tcp_from_hosta_to_hostb(frame: bytes) -> tuple[str, bytes] | None:
    """The kind of port and the payload of a TCP packet from 10.x.x.11 to 10.x.x.12, or from ...::11 to ...::12."""
    if frame[12:14] == b"\x08\x00" and frame[23] == 6 and (frame[29], frame[33]) == (11, 12):
        start = 14 + (frame[14] & 15) * 4
    elif frame[12:14] == b"\x86\xdd" and frame[20] == 6 and (frame[37], frame[53]) == (0x11, 0x12):
        start = 54
    else:
        return None
    port = struct.unpack_from("!H", frame, start + 2)[0]
    kind = "data" if 49152 <= port <= 49215 else KINDS.get(port, "other")
    return kind, frame[start + (frame[start + 12] >> 4) * 4 :]


def main() -> None:
    word, command = sys.argv[1].encode(), sys.argv[2:]
    sockets = {listen(interface): name for name, interface in NETWORKS.items()}
    count: dict[str, dict[str, dict[str, int]]] = {
        name: collections.defaultdict(lambda: {"bytes": 0, "in_the_clear": 0}) for name in NETWORKS
    }
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            for ready in select.select(list(sockets), [], [], 0.2)[0]:
                heard = tcp_from_hosta_to_hostb(ready.recv(1 << 17))
                if heard:
                    entry = count[sockets[ready]][heard[0]]
                    entry["bytes"] += len(heard[1])
                    entry["in_the_clear"] += word in heard[1]
        said.seek(0)
        print(json.dumps({"rc": process.returncode, "said": said.read().decode(), "heard": count}))


main()
