# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy in a process of its own, which can be killed: reads a request as JSON, prints the result or the error as JSON.

Checkpoints are made all the time here, as a copy of hours has many.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "setup"))

from paths import link_collection  # noqa: E402  (found through the line above)

sys.path.insert(0, str(link_collection(HERE.parents[2])))

from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume import copy, passes  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls  # noqa: E402


def main() -> int:
    given = json.load(sys.stdin)
    directory = Path(given["directory"])
    _leased_job.JOBS = directory / "run" / "jobs"
    copy.JOURNALS = directory / "journals"
    passes.CHECKPOINT_EVERY_S = 0.1
    options = {"source_quiesced": True, **given["options"]}
    controls = Controls(bandwidth_mib=options.get("bandwidth_mib", 0))
    request = copy.Request(
        given["source"], given["target"], Options(**options), controls, given["operation_id"], given["journal"], timeout_s=5
    )
    try:
        result = copy.VolumeCopy(request, warn=lambda text: print(text, file=sys.stderr), lock_directory=str(directory / "locks")).copy(
            check_mode=False
        )
    except MigrationError as exc:
        print(json.dumps({"error_id": exc.error_id, "msg": str(exc), **exc.details}))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
