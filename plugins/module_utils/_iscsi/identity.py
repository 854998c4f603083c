# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a device says of itself, and which of that can prove anything."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass

# Ids that a target makes up from its own numbering (target id, LUN, slot), so that unrelated volumes share them, and one volume
# has another one on every host.
_DEFAULT_WWIDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # tgt: made of target id and LUN, for as long as nobody sets scsi_id. IET, its ancestor, did the same.
        r"naa\.60{15}0e0{6}[0-9a-f]{8,}",
        r"t10\.IET\s.*",
        # "Locally assigned": the number has a meaning inside the target alone.
        r"naa\.3.*",
        # Company id, and nothing behind it (LIO without a serial, tgt with a scsi_id that has no hex digit).
        r"naa\.[56][0-9a-f]{6}0*",
        r"eui\.([0-9a-f]{6})?0*",
        # QEMU's device names, FreeBSD's counted ids.
        r"t10\.QEMU\s.*\b(drive|scsi|virtio|ide)[\w.-]*",
        r"t10\..*\bMYDEVID\s*\d*",
    )
)
_DEFAULT_SERIALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"beaf\d+",  # tgt: target id and LUN, in decimal
        r"MYSERIAL\s*\d*",  # FreeBSD
        r"(.)\1*",  # all zeros, all blanks, all the same
        r"none|null|n/?a|unknown|default|serial|0123456789(abcdef)?|1234567890?",
    )
)


@dataclass(frozen=True)
class Identity:
    """One device as it describes itself. A size or block size of 0 was not told."""

    wwid: str | None
    unit_serial: str | None
    vendor: str
    model: str
    size_bytes: int
    logical_block_bytes: int
    physical_block_bytes: int

    def to_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Identity:
        """Read it back from JSON; what else the mapping holds is ignored."""
        return cls(
            wwid=_text(value.get("wwid")) or None,
            unit_serial=_text(value.get("unit_serial")) or None,
            vendor=_text(value.get("vendor")),
            model=_text(value.get("model")),
            size_bytes=int(value.get("size_bytes") or 0),
            logical_block_bytes=int(value.get("logical_block_bytes") or 0),
            physical_block_bytes=int(value.get("physical_block_bytes") or 0),
        )

    @property
    def wwid_key(self) -> str | None:
        """The WWID in the form in which two are compared; None when it can prove nothing."""
        if not self.wwid or any(pattern.fullmatch(self.wwid) for pattern in _DEFAULT_WWIDS):
            return None
        prefix, _dot, rest = self.wwid.partition(".")
        # Hexadecimal digits have no case; a T10 id is text of the vendor's, and has.
        return self.wwid.lower() if prefix.lower() in ("naa", "eui") else f"{prefix}.{' '.join(rest.split())}"

    @property
    def serial_key(self) -> tuple[str, str, str] | None:
        """The unit serial with the vendor and model that it is unique for; None when it can prove nothing."""
        if not self.unit_serial or any(pattern.fullmatch(self.unit_serial) for pattern in _DEFAULT_SERIALS):
            return None
        return self.vendor, self.model, self.unit_serial


def _text(value: t.Any) -> str:
    # Targets pad their answers with blanks or zero bytes, on either side.
    return str(value).strip(" \t\r\n\0") if value is not None else ""


__all__ = ("Identity",)
