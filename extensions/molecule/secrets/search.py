# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Search files for secrets: search.py SECRETS_FILE FILE=WORD...

Each file has to hold its word, which proves that the search would have found a secret there; without a word it may be empty.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

HIDDEN = "<SECRET>"


def forms(secret: str) -> list[str]:
    """The secret as it is, and as libvirt and Ansible encode it."""
    return [secret, base64.b64encode(secret.encode()).decode()]


def without(line: str, secrets: dict[str, str]) -> str:
    for form in (form for secret in secrets.values() for form in forms(secret)):
        line = line.replace(form, HIDDEN)
    return line


def problems(path: Path, word: str, secrets: dict[str, str]) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    if word and not any(word in line for line in lines):
        found.append(f"{path}: {word!r} is not in it, so its {len(lines)} lines prove nothing")
    for owner, secret in secrets.items():
        hits = [number for number, line in enumerate(lines, start=1) if any(form in line for form in forms(secret))]
        if hits:
            excerpt = without(lines[hits[0] - 1], secrets)
            start = max(0, excerpt.index(HIDDEN) - 150)
            found.append(f"{path}: the secret of {owner} in {len(hits)} lines, first in line {hits[0]}: {excerpt[start : start + 300]}")
    return found


def main() -> None:
    secrets = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    searched = [argument.partition("=") for argument in sys.argv[2:]]
    found = [problem for path, _equals, word in searched for problem in problems(Path(path), word, secrets)]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(secrets)} secrets are in none of {len(searched)} files")


if __name__ == "__main__":
    main()
