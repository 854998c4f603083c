# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module of the collection says of itself. Each module states its own support."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and tell what a real run would do, without changing anything.
  diff_mode:
    description: Returns what changed, or in check mode what would change, when diff mode is on.
  platform:
    description: The operating systems that the module supports.
    support: full
    platforms: linux
"""

    # For modules that the action group lunshift.migration.migration covers.
    ACTIONGROUP_MIGRATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/lunshift.migration.migration) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - lunshift.migration.migration
"""
