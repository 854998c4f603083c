# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing as t
from dataclasses import asdict

from . import ceph, context, faults, guest, guest_disks, hosts, instance, inventory, locks, storage, uml_hosts
from .context import HOSTS, NAMESPACE_HOSTS, UML_HOSTS, Lab, LabError

Call = t.Callable[[Lab, argparse.Namespace], "int | None"]


def main(argv: t.Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        if os.geteuid():
            raise LabError("the lab needs root: it makes namespaces, a bridge and mounts")
        return arguments.call(context.from_environment(), arguments) or 0
    except LabError as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description="Real iSCSI targets, Ceph, libvirt hosts and guests on one machine. LAB_ID=0..9 chooses the instance."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, call: Call, text: str, within: t.Any = commands) -> argparse.ArgumentParser:
        added = t.cast(argparse.ArgumentParser, within.add_parser(name, help=text, description=text))
        added.set_defaults(call=call)
        return added

    up = command("up", _up, "bring storage and hosts up; run again, it mends what is missing")
    up.add_argument("kinds", nargs="*", metavar="namespace|uml|ceph", help="kinds of hosts, and Ceph (default: namespace)")
    in_file = "this Ceph cluster keeps its data in a file, not in its OSD's memory"
    up.add_argument("--in-file", action="append", default=[], choices=ceph.CLUSTERS, help=in_file)
    command("down", _down, "end every guest and host, and remove all that the lab made; caches stay")
    text = "cut a host's power and boot it again; what a disk would keep is kept"
    command("restart", _restart, text).add_argument("host", choices=UML_HOSTS)
    command("status", _status, "what is up, as JSON")
    command("inventory", _inventory, "write Ansible's inventory of the hosts that are up, and print its directory")
    execute = command("exec", _exec, "run a command inside a host: lab exec HOST -- COMMAND...")
    execute.add_argument("host", choices=HOSTS)
    execute.add_argument("command", nargs=argparse.REMAINDER)

    volume = command("volume", _volume_list, "volumes of the array").add_subparsers(required=True, metavar="COMMAND")
    command("list", _volume_list, "all volumes, as JSON", volume)
    create = command("create", _volume_create, "make a volume, filled with zeros", volume)
    create.add_argument("name")
    create.add_argument("size_mib", type=int, metavar="SIZE_MIB")
    create.add_argument("--serial", help="the disk's serial in domain XML (default: a UUID made from the name)")
    create.add_argument("--scsi-sn", help="the unit serial that the array tells (default: made from the name)")
    create.add_argument("--default-ids", action="store_true", help="the target's own default ids, which prove nothing")
    create.add_argument("--thin", action="store_true", help="the array takes back what is unmapped, and tells what it keeps")
    for name, call, text in (("delete", _volume_delete, "delete a volume"), ("path", _volume_path, "print the path of a volume's file")):
        command(name, call, text, volume).add_argument("name")

    passphrase = command("passphrase", _volume_passphrase, "give a host's libvirt the passphrase of an encrypted volume", volume)
    passphrase.add_argument("name")
    passphrase.add_argument("host", choices=HOSTS)

    export = command("export", _export, "let a host see a volume, and print the host's connection info")
    unexport = command("unexport", _unexport, "the host no longer sees the volume")
    for subcommand in (export, unexport):
        subcommand.add_argument("host", choices=HOSTS)
        subcommand.add_argument("volume")
    export.add_argument("--lun", type=int, help="the target's number for it (default: the host's next free one)")
    export.add_argument("--chap", metavar="USER", help="the host's target asks for this user; the password is made and printed")
    access = command("access", _access, "how a host reaches its target until told otherwise; without options as at first")
    access.add_argument("host", choices=HOSTS)
    access.add_argument("--portal", action="append", default=[], choices=storage.PORTALS, help="several: one path for each")
    access.add_argument("--chap", metavar="USER", help="the target asks for this user; the password is made and printed")
    access.add_argument("--chap-in", metavar="USER", help="the target proves itself as this user; the password is made and printed")
    connect = command("connect", _connect, "export volumes by their serials, and print serial -> connection info, as JSON")
    connect.add_argument("--dry-run", action="store_true", help="only tell what would be")
    disconnect = command("disconnect", _disconnect, "unexport volumes by their serials")
    for subcommand in (connect, disconnect):
        subcommand.add_argument("host", choices=HOSTS)
        subcommand.add_argument("serials", nargs="*", metavar="SERIAL")
    command("exports", _exports, "volume -> connection info of what a host sees, as JSON").add_argument("host", choices=HOSTS)
    command("target-state", _target_state, "targets, LUNs and sessions as the target daemon lists them, as JSON")

    clusters = command("ceph", _ceph_conf, "Ceph clusters").add_subparsers(required=True, metavar="COMMAND")
    conf = command("conf", _ceph_conf, "print the path of a cluster's ceph.conf, for 'rbd --conf'", clusters)
    info = command("info", _ceph_info, "print the connection info of an image in the pool volumes, as JSON", clusters)
    osd = command("osd", _ceph_osd, "kill a cluster's OSD, or start it again", clusters)
    osd.add_argument("state", choices=("down", "up"))
    for subcommand in (conf, info, osd):
        subcommand.add_argument("cluster", choices=ceph.CLUSTERS)
    info.add_argument("image")
    info.add_argument("--client", choices=(ceph.CLIENT, ceph.ADMIN), default=ceph.CLIENT, help="whose key (default: %(default)s)")

    fault = command("fault", _fault_show, "make something fail until 'fault clear', or for a number of seconds")
    struck = fault.add_subparsers(required=True, metavar="FAULT")

    def fault_command(name: str, make: t.Callable[[Lab, argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = command(name, _fault, text, struck)
        added.set_defaults(make=make)
        added.add_argument("host", choices=HOSTS)
        added.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="then undo all faults (default: it stays)")
        return added

    blocked = fault_command("block", lambda lab, given: faults.block(lab, given.host, given.ports), "drop TCP between other hosts and HOST")
    blocked.add_argument("ports", metavar="data|control|PORT[-PORT]", help="QEMU's own stream, libvirtd, or ports by number")
    fault_command("link-down", lambda lab, given: faults.link_down(lab, given.host), "HOST is off every network")
    fault_command("storage-down", lambda lab, given: faults.storage_down(lab, given.host), "HOST's target does not answer")
    portal = fault_command(
        "portal-down", lambda lab, given: faults.portal_down(lab, given.host, given.family), "HOST's target refuses connections"
    )
    portal.add_argument("--family", choices=("4", "6", "both"), default="both", help="which portal (default: both)")
    lun = fault_command(
        "lun-gone", lambda lab, given: faults.lun_gone(lab, given.host, given.volume), "the target forgets a LUN under HOST's session"
    )
    lun.add_argument("volume")
    finish = "the end of a migration TO HOST is not told to the source; armed before it starts, strikes by itself"
    fault_command("lose-finish-reply", lambda lab, given: faults.lose_finish_reply(lab, given.host), finish)
    sent = fault_command(
        "signal", lambda lab, given: faults.signal(lab, given.host, given.process, given.signal), "send a signal to a process of HOST"
    )
    sent.add_argument("process", metavar="DAEMON|guest:NAME", help="libvirtd, sshd, ..., or a guest's QEMU")
    sent.add_argument("signal", metavar="STOP|CONT|KILL|...")
    command("show", _fault_show, "how many packets each rule dropped, and which links are down, as JSON", struck)
    command("clear", _fault_clear, "undo every fault, stopped and killed daemons included", struck)

    lock_manager = command("lock-manager", _lock_manager, "what keeps a guest from being started on two hosts; while none runs there")
    lock_manager.add_argument("manager", choices=locks.MANAGERS)
    lock_manager.add_argument("hosts", nargs="*", metavar="HOST", help="namespace hosts (default: both)")

    guests = command("guest", _guest_list, "guests").add_subparsers(required=True, metavar="COMMAND")
    command("list", _guest_list, "names of the guests, as JSON", guests)
    start = command("start", _guest_start, "export and attach the disks, define and start the domain, print the path of its XML", guests)
    start.add_argument("host", choices=HOSTS)
    start.add_argument("name")
    start.add_argument("--disk", action="append", default=[], metavar="VOLUME[:WORD...]", help=f"words: {guest_disks.WORDS}")
    start.add_argument("--cdrom", action="append", default=[], metavar="PATH", help="a CD-ROM drive with a file of the host ('': empty)")
    start.add_argument("--memory", type=int, metavar="MIB", help="guest memory (default: 128, without an operating system 64)")
    start.add_argument("--ram-mib", type=int, default=guest.DEFAULT_RAM_MIB, metavar="N", help="memory that the guest stamps and checks")
    start.add_argument("--dirty-mib", type=int, default=guest.DEFAULT_DIRTY_MIB, metavar="N", help="how much of it changes per second")
    start.add_argument("--vnc-password", metavar="PASSWORD", help="a VNC display with a password, at the host's own address")
    start.add_argument("--lease", action="store_true", help="a lease of its own, for lockd (see lock-manager)")
    start.add_argument("--devices", metavar="XML", default="", help="more of what stands in <devices>")
    start.add_argument("--no-os", action="store_true", help="only firmware: starts at once, writes nothing")
    verdict = "the verdict on a guest's writes and memory, as JSON; exit code 1 when something is wrong"
    command("check", _guest_check, verdict, guests).add_argument("name")
    command("destroy", _guest_destroy, "end the guest on every host, and take its volumes from them", guests).add_argument("name")
    return parser


def _print_json(value: t.Any) -> None:
    print(json.dumps(value, indent=2, default=vars))


def _up(lab: Lab, arguments: argparse.Namespace) -> None:
    unknown = sorted(set(arguments.kinds) - set(instance.KINDS))
    if unknown:
        raise LabError(f"there is nothing of the kind {', '.join(unknown)}; there are: {', '.join(instance.KINDS)}")
    instance.up(lab, arguments.kinds or ["namespace"], ceph_in_files=arguments.in_file)


def _down(lab: Lab, arguments: argparse.Namespace) -> None:
    instance.down(lab)


def _restart(lab: Lab, arguments: argparse.Namespace) -> None:
    uml_hosts.restart(lab, arguments.host)


def _status(lab: Lab, arguments: argparse.Namespace) -> None:
    up = {"storage": storage.is_up(lab), "hosts": hosts.live(lab), "ceph": ceph.live(lab), "guests": guest.names(lab)}
    _print_json({"lab_id": lab.lab_id, **up})


def _inventory(lab: Lab, arguments: argparse.Namespace) -> None:
    print(inventory.write(lab))


def _exec(lab: Lab, arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise LabError("no command was given: lab exec HOST -- COMMAND...")
    return hosts.execute(lab, arguments.host, command)


def _volume_list(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(list(storage.volumes(lab).values()))


def _volume_create(lab: Lab, arguments: argparse.Namespace) -> None:
    made = storage.create_volume(
        lab,
        arguments.name,
        arguments.size_mib,
        serial=arguments.serial,
        scsi_sn=arguments.scsi_sn,
        default_ids=arguments.default_ids,
        thin=arguments.thin,
    )
    _print_json(made)


def _volume_delete(lab: Lab, arguments: argparse.Namespace) -> None:
    storage.delete_volume(lab, arguments.name)


def _volume_path(lab: Lab, arguments: argparse.Namespace) -> None:
    print(storage.volume_path(lab, arguments.name))


def _volume_passphrase(lab: Lab, arguments: argparse.Namespace) -> None:
    guest.define_passphrase(lab, arguments.host, arguments.name)


def _export(lab: Lab, arguments: argparse.Namespace) -> None:
    info = storage.export(lab, arguments.host, arguments.volume, target_lun=arguments.lun, chap_user=arguments.chap)
    if hosts.is_up(lab, arguments.host):
        guest.define_chap_secret(lab, arguments.host)
    _print_json(info)


def _access(lab: Lab, arguments: argparse.Namespace) -> None:
    access = storage.set_access(lab, arguments.host, arguments.portal, arguments.chap, arguments.chap_in)
    if hosts.is_up(lab, arguments.host):
        guest.define_chap_secret(lab, arguments.host)
    _print_json(asdict(access))


def _connect(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(storage.connect(lab, arguments.host, arguments.serials, dry_run=arguments.dry_run))


def _disconnect(lab: Lab, arguments: argparse.Namespace) -> None:
    storage.disconnect(lab, arguments.host, arguments.serials)


def _unexport(lab: Lab, arguments: argparse.Namespace) -> None:
    storage.unexport(lab, arguments.host, arguments.volume)


def _exports(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(storage.connection_infos(lab, arguments.host))


def _target_state(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(storage.target_state(lab))


def _ceph_conf(lab: Lab, arguments: argparse.Namespace) -> None:
    print(ceph.conf_path(lab, arguments.cluster))


def _ceph_info(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(ceph.connection_info(lab, arguments.cluster, arguments.image, arguments.client))


def _ceph_osd(lab: Lab, arguments: argparse.Namespace) -> None:
    (ceph.osd_up if arguments.state == "up" else ceph.osd_down)(lab, arguments.cluster)


def _fault(lab: Lab, arguments: argparse.Namespace) -> None:
    with faults.lasting(lab, arguments.seconds):
        arguments.make(lab, arguments)


def _fault_show(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(faults.show(lab))


def _fault_clear(lab: Lab, arguments: argparse.Namespace) -> None:
    faults.clear(lab)


def _lock_manager(lab: Lab, arguments: argparse.Namespace) -> None:
    locks.use(lab, arguments.manager, tuple(arguments.hosts) or NAMESPACE_HOSTS)


def _guest_list(lab: Lab, arguments: argparse.Namespace) -> None:
    _print_json(guest.names(lab))


def _guest_start(lab: Lab, arguments: argparse.Namespace) -> None:
    path = guest.start(
        lab,
        arguments.host,
        arguments.name,
        arguments.disk,
        memory_mib=arguments.memory,
        ram_mib=arguments.ram_mib,
        dirty_mib=arguments.dirty_mib,
        vnc_password=arguments.vnc_password,
        has_os=not arguments.no_os,
        cdroms=arguments.cdrom,
        devices=(locks.lease_xml(lab, arguments.name) if arguments.lease else "") + arguments.devices,
    )
    print(path)


def _guest_check(lab: Lab, arguments: argparse.Namespace) -> int:
    verdict = guest.check(lab, arguments.name)
    _print_json(verdict)
    return 0 if verdict["ok"] else 1


def _guest_destroy(lab: Lab, arguments: argparse.Namespace) -> None:
    guest.destroy(lab, arguments.name)
