# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Reading and writing a libvirt domain as XML, hardened against what a hostile document can do."""

from __future__ import annotations

import socket
import sys
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError

try:
    from lxml import etree
except ImportError:
    HAS_LXML = False
else:
    HAS_LXML = True

if t.TYPE_CHECKING:
    Element = etree._Element


def parse(xml: str) -> Element:
    """The root element of a domain; raises InputError for anything that is not one."""
    if not HAS_LXML:
        raise MigrationError(
            f"The Python library lxml is missing for {sys.executable} on {socket.gethostname()};"
            " install the package python3-lxml there (pip: lxml)",
            error_id="lxml_missing",
        )
    # A comment, a namespace or CDATA that the domain carries has to survive; an entity, a DTD or the network must not be touched.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_blank_text=False,
        remove_comments=False,
        remove_pis=False,
        strip_cdata=False,
        recover=False,
    )
    try:
        # The parser is told the encoding, because the declaration of a text that was decoded already may say another one.
        root = etree.fromstring(xml.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as exc:
        raise InputError([f"the domain XML cannot be read: {exc}"], error_id="invalid_xml") from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]
        raise InputError(
            ["the domain XML has a document type declaration; libvirt never writes one, and entities in it could read files: remove it"],
            error_id="invalid_xml",
        )
    if root.tag != "domain":
        raise InputError(
            [f"the XML is no libvirt domain: its root is <{root.tag}>; give what 'virsh dumpxml --migratable' prints"],
            error_id="invalid_xml",
        )
    return root


def to_text(root: Element, like: str) -> str:
    """The whole document as text; ends in a line break when the text it came from did."""
    text = etree.tostring(root.getroottree(), encoding="unicode")
    return text + "\n" if like.endswith("\n") and not text.endswith("\n") else text


def canonical(element: Element) -> bytes:
    """The canonical form (C14N) of one element: equal when two mean the same to every XML reader."""
    return etree.tostring(element, method="c14n", with_tail=False)


def new_child(parent: Element, index: int, tag: str) -> Element:
    """Insert an empty element, indented like its surroundings."""
    child = etree.Element(tag)
    if len(parent) == 0:
        line = _line_start(parent)
        if line is not None:
            parent.text, child.tail = line + "  ", line
    elif index == 0:
        child.tail = parent.text
    else:
        previous = parent[index - 1]
        child.tail = previous.tail
        if index == len(parent):
            previous.tail = parent.text
    parent.insert(index, child)
    return child


def drop_attribute(element: Element, name: str) -> None:
    if name in element.attrib:
        del element.attrib[name]


def drop_child(parent: Element, child: Element) -> None:
    """Remove an element together with the line that it stood on."""
    previous = child.getprevious()
    if child.getnext() is None:
        if previous is None:
            parent.text = None
        else:
            previous.tail = child.tail
    parent.remove(child)


def _line_start(element: Element) -> str | None:
    """Line break and indentation in front of an element; None when it does not begin a line."""
    previous, parent = element.getprevious(), element.getparent()
    before = previous.tail if previous is not None else parent.text if parent is not None else None
    _rest, line_break, indentation = (before or "").rpartition("\n")
    return "\n" + indentation if line_break and not indentation.strip() else None


__all__ = ("HAS_LXML", "canonical", "drop_attribute", "drop_child", "new_child", "parse", "to_text")
