# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Everything that is done with a domain's XML, in one place. Pure; needs lxml when it is called."""

from __future__ import annotations

from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import disks
from ansible_collections.lunshift.migration.plugins.module_utils._xml.graft import graft
from ansible_collections.lunshift.migration.plugins.module_utils._xml.lun_users import unmapped_lun_users
from ansible_collections.lunshift.migration.plugins.module_utils._xml.redact import diff, redact_xml
from ansible_collections.lunshift.migration.plugins.module_utils._xml.rewrite import rewrite

__all__ = ("diff", "disks", "graft", "redact_xml", "rewrite", "unmapped_lun_users")
