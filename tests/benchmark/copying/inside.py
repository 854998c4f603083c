# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure one command inside of a host: what to run is read from standard input, what it took is printed as one line of JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from copying.measure import CommandFailed, measure


def main() -> None:
    given = json.load(sys.stdin)
    try:
        print(json.dumps(asdict(measure(given["argv"], [], stdin=given["stdin"]))))
    except (CommandFailed, OSError) as exc:
        sys.exit(str(exc))


main()
