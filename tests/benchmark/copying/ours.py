# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our copy as a user meets it, in one process: the interpreter's start and all imports count, what Ansible does around a module does not.

Reads what to copy from standard input, and prints one line of JSON. Whoever starts it says that the target may be overwritten, as every
other tool takes for granted.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    given = json.load(sys.stdin)
    sys.path.insert(0, given["collections_path"])
    from ansible_collections.lunshift.migration.plugins.module_utils._volume.copy import Request, VolumeCopy
    from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options
    from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls

    request = Request(
        source=given["source"],
        target=given["target"],
        options=Options(overwrite=True, verify=given["verify"], source_quiesced=True),
        controls=Controls(),
        operation_id="benchmark",
        journal=given["journal"],
    )
    result = VolumeCopy(request, warn=lambda words: print(words, file=sys.stderr)).copy(check_mode=False)
    with open("/proc/self/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    print(json.dumps({"engine_s": result["seconds"], "rss_mib": peak / 1024, "counts": result["counts"]}))


main()
