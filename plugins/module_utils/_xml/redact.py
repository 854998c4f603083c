# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A domain without its secrets, and the difference between two of them, for people."""

from __future__ import annotations

import difflib
import re
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import parse, to_text
from ansible_collections.lunshift.migration.plugins.module_utils._xml.lun_users import QEMU

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

# Longer than a VNC password may be: libvirt refuses a domain that was defined with it, instead of running it with a known password.
REDACTED = "(redacted)"

_TELLTALE = r"[\w-]*(?:password|passwd|passphrase|secret|token)|data"
# QEMU writes a comma in a value as two.
_OPTION = re.compile(rf"(^|,)({_TELLTALE})=(?:[^,]|,,)+", re.IGNORECASE)
_JSON_MEMBER = re.compile(rf'("(?:{_TELLTALE})"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)
_URL_USER = re.compile(r"(?<=://)[^/@\s]*@")
_SECRET_NAME = re.compile(r"pass|secret|token|credential|key", re.IGNORECASE)


def redact_xml(xml: str) -> str:
    """The domain with every secret that libvirt shows in it replaced by a mark."""
    root = parse(xml)
    redact(root)
    return to_text(root, xml)


def redact(root: Element) -> None:
    """The same in place."""
    for graphics in root.findall("devices/graphics"):
        for attribute in ("passwd", "password"):
            if graphics.get(attribute):
                graphics.set(attribute, REDACTED)
    for element in _secret_texts(root):
        if element.text:
            element.text = REDACTED
    for part in root.iter(f"{QEMU}arg", f"{QEMU}env", f"{QEMU}property"):
        if part.get("value"):
            part.set("value", _redact_argument(part.get("name") or "", part.get("value") or ""))


def _secret_texts(root: Element) -> t.Iterator[Element]:
    for path in ("launchSecurity/session", "launchSecurity/dhCert", "devices/disk//source/cookies/cookie"):
        yield from root.findall(path)
    # Firmware configuration and systemd's credentials in SMBIOS strings bring passwords into guests.
    yield from root.findall("sysinfo[@type='fwcfg']/entry")
    for entry in root.findall("sysinfo/oemStrings/entry"):
        if (entry.text or "").lstrip().startswith("io.systemd.credential"):
            yield entry


def _redact_argument(name: str, value: str) -> str:
    if name and _SECRET_NAME.search(name):
        return REDACTED
    value = _URL_USER.sub(f"{REDACTED}@", value)
    value = _JSON_MEMBER.sub(rf'\1"{REDACTED}"', value)
    return _OPTION.sub(rf"\1\2={REDACTED}", value)


def diff(before_xml: str, after_xml: str, before_name: str = "before", after_name: str = "after") -> str:
    """The unified difference of two domains, both redacted; empty when there is none."""
    before, after = (redact_xml(xml).splitlines() for xml in (before_xml, after_xml))
    return "\n".join(difflib.unified_diff(before, after, before_name, after_name, lineterm=""))


__all__ = ("REDACTED", "diff", "redact", "redact_xml")
