# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare what a check run said with what the real run did, from their outputs."""

from __future__ import annotations

import json
import re
import sys
import typing as t
from pathlib import Path


def summary(output: str) -> dict[str, t.Any]:
    """The result that the role tells at the end."""
    words = output.split("Finish | Say what was done]", 1)[1]
    told: dict[str, t.Any] = json.JSONDecoder().raw_decode(words[words.index("{") :])[0]["msg"]
    return told


def changed_lines(output: str) -> list[str]:
    """The lines of XML that the migration's diff takes away and adds."""
    diff = re.search(r"TASK \[[^]]*Move \| Migrate\].*?\n(.*?)\n(?:changed|ok):", output, re.DOTALL)
    if not diff:
        raise SystemExit("no diff of the migration in the output")
    return [line for line in diff[1].splitlines() if re.match(r"[-+] *<", line)]


def main() -> None:
    check, real = (Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3])
    told, done = summary(check), summary(real)
    problems = []
    if told["device_map"] != done["device_map"] or not told["device_map"]:
        problems.append(f"device maps: told {told['device_map']}, done {done['device_map']}")
    if changed_lines(check) != changed_lines(real) or len(changed_lines(check)) < 4:
        problems.append(f"XML: told {changed_lines(check)}, done {changed_lines(real)}")
    if (told["outcome"], done["outcome"], told["changed"], done["changed"]) != ("would_move", "moved", True, True):
        problems.append(f"outcome: told {told['outcome']}, done {done['outcome']}")
    verdicts = {volume["verdict"] for volume in told["volumes"].values()}
    # The volumes were not exported yet, so nothing could be proven.
    if verdicts != {"unproven"} or {volume["verdict"] for volume in done["volumes"].values()} != {"proven"}:
        problems.append(f"verdicts: told {told['volumes']}, done {done['volumes']}")
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"told and done agree on {len(told['device_map'])} volumes and {len(changed_lines(check))} changed lines")


main()
