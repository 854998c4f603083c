# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret leaves a host in XML or in a diff, and a redacted domain cannot be started by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import diff, redact_xml, rewrite
from lxml import etree

RECORDED = (Path(__file__).parents[2] / "data" / "domain_libvirt_9_0_inactive.xml").read_text()
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
SECRET = "planted,,word"


def domain(inner: str) -> str:
    return f'<domain xmlns:qemu="{QEMU}" type="kvm">{inner}</domain>'


@pytest.mark.parametrize(
    "inner",
    [
        f'<devices><graphics type="vnc" passwd="{SECRET}"/></devices>',
        f'<devices><graphics type="spice" passwd="{SECRET}" passwdValidTo="2030-01-01T00:00:00"/></devices>',
        f"<launchSecurity type='sev'><session>{SECRET}</session></launchSecurity>",
        f"<launchSecurity type='sev'><dhCert>{SECRET}</dhCert></launchSecurity>",
        f"<devices><disk><source protocol='https'><cookies><cookie name='a'>{SECRET}</cookie></cookies></source></disk></devices>",
        f"<sysinfo type='fwcfg'><entry name='opt/ignition'>{SECRET}</entry></sysinfo>",
        f"<sysinfo type='smbios'><oemStrings><entry>io.systemd.credential:root={SECRET}</entry></oemStrings></sysinfo>",
        f'<qemu:commandline><qemu:arg value="secret,id=s0,data={SECRET},format=raw"/></qemu:commandline>',
        f'<qemu:commandline><qemu:arg value="file=iscsi://user%{SECRET}@10.0.0.1/iqn.2026-11.a:a/1"/></qemu:commandline>',
        f'<qemu:commandline><qemu:arg value="user=a,password={SECRET}"/></qemu:commandline>',
        '<qemu:commandline><qemu:arg value=\'{"qom-type":"secret","id":"s","data" : "planted,,word"}\'/></qemu:commandline>',
        f'<qemu:commandline><qemu:env name="API_TOKEN" value="{SECRET}"/></qemu:commandline>',
    ],
)
def test_secrets_are_replaced(inner: str) -> None:
    redacted = redact_xml(domain(inner))
    assert "planted" not in redacted
    assert "word" not in redacted.replace("password", "").replace("passwd", "")
    assert "(redacted)" in redacted
    assert redact_xml(redacted) == redacted


@pytest.mark.parametrize(
    "inner",
    [
        '<devices><graphics type="vnc" port="-1"/><graphics type="vnc" passwd=""/></devices>',
        "<sysinfo type='smbios'><oemStrings><entry>app: value</entry></oemStrings></sysinfo>",
        '<qemu:commandline><qemu:arg value="-name"/><qemu:arg value="web1,debug-threads=on"/></qemu:commandline>',
        "<devices><disk><auth username='u'><secret type='iscsi' usage='chap'/></auth></disk></devices>",
    ],
)
def test_everything_else_stays(inner: str) -> None:
    assert etree.canonicalize(redact_xml(domain(inner))) == etree.canonicalize(domain(inner))


def test_mark_is_longer_than_libvirt_lets_a_vnc_password_be() -> None:
    passwd = etree.fromstring(redact_xml(RECORDED)).find("devices/graphics").get("passwd")
    assert len(passwd) > 8


def test_diff_shows_the_change_without_secrets() -> None:
    before = RECORDED.replace("<disk type='block' device='lun'>", "<disk type='file' device='disk'>").replace(
        "<source dev=", "<source file="
    )
    before = before.replace("/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hosta-lun-1", "/x")
    serials = ("58a84f6d-3f0c-4e19-a0af-eb657b790657", "1c2d3e4f-0000-4000-8000-000000000002")
    after = rewrite(before, {serial: f"/dev/sd{index}" for index, serial in enumerate(serials)}, {"vnc": "10.78.0.12"})
    text = diff(before, after, "hosta", "hostb")
    lines = text.splitlines()
    assert lines[:2] == ["--- hosta", "+++ hostb"]
    assert '+      <source dev="/dev/sd0"/>' in lines
    assert '-        <host name="127.0.0.1" port="13260"/>' in lines
    assert "plantvnc" not in text
    assert diff(before, before) == ""
