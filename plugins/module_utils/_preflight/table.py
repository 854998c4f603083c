# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Findings as people read them. Pure."""

from __future__ import annotations

import typing as t
from collections import Counter

from ansible_collections.lunshift.migration.plugins.module_utils._preflight.seen import GO, NO_GO, UNPROVEN, WARNING

_WORDS = {NO_GO: "NO GO", WARNING: "warning", UNPROVEN: "unproven", GO: "go"}


def table(findings: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """Lines: for each domain its sum, then what stands against it or is in doubt, then everything that is well."""
    lines: list[str] = []
    width = max((len(finding["item"]) for finding in findings), default=0)
    for domain in dict.fromkeys(finding["domain"] for finding in findings):
        mine = [finding for finding in findings if finding["domain"] == domain]
        count = Counter(finding["verdict"] for finding in mine)
        lines.append(f"{domain}: {'NO GO' if count[NO_GO] else 'go'} ({', '.join(f'{count[word]} {_WORDS[word]}' for word in _WORDS)})")
        for word in (NO_GO, WARNING, UNPROVEN):
            for finding in mine:
                if finding["verdict"] == word:
                    remedy = f" -> {finding['remedy']}" if finding["remedy"] else ""
                    lines.append(f"  {_WORDS[word]:<8}  {finding['item']:<{width}}  {finding['cause']}{remedy}")
        for finding in mine:
            if finding["verdict"] == GO:
                lines.append(f"  {_WORDS[GO]:<8}  {finding['item']:<{width}}  {finding['cause']}".rstrip())
    return lines


__all__ = ("table",)
