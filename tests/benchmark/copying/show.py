# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verdicts for people: a table, a picture, and the last line. Pure."""

from __future__ import annotations

import math
import typing as t
from xml.sax.saxutils import escape

from copying.targets import Check, Verdict

_ROW, _LEFT, _PLOT, _RIGHT, _TOP = 22, 190, 420, 250, 60
# Ratios that the picture has room for.
_LEAST, _MOST = 0.1, 4.0
_TICKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


def last_line(verdicts: t.Sequence[Verdict]) -> str:
    return f"cells: {len(verdicts)}, at or below target: {sum(verdict.passed for verdict in verdicts)}"


def table(verdicts: t.Sequence[Verdict]) -> str:
    lines = [
        "| cell | rounds | seconds | best peer | time to it | 95 % interval | verdict | what misses its target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for verdict in verdicts:
        ratio = verdict.ratio
        numbers = [f"{ratio.value:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}"] if ratio else ["", ""]
        word = "at target" if verdict.passed else "misses"
        misses = "; ".join([*verdict.problems, *(_miss(check) for check in verdict.checks if not check.passed)])
        cells = [verdict.cell.name, str(verdict.rounds), f"{verdict.seconds:.2f}", verdict.best_peer, *numbers, word, misses]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def details(verdicts: t.Sequence[Verdict]) -> str:
    """Every number that counts."""
    lines = ["| cell | number | value | 95 % interval | limit |", "| --- | --- | --- | --- | --- |"]
    for verdict in verdicts:
        for check in verdict.checks:
            interval = f"{check.low:.2f} to {check.high:.2f}"
            lines.append(f"| {verdict.cell.name} | {check.name} | {check.value:.2f} | {interval} | {_limit(check)} |")
    return "\n".join(lines) + "\n"


def _limit(check: Check) -> str:
    return f"{check.limit:.2f}" + (f" (interval up to {check.high_limit:.2f})" if check.high_limit is not None else "")


def _miss(check: Check) -> str:
    return f"{check.name} {check.value:.2f} ({check.low:.2f} to {check.high:.2f}), limit {_limit(check)}"


def picture(verdicts: t.Sequence[Verdict], title: str) -> str:
    """An SVG: for each cell the time to the best peer's, with its interval, on a logarithmic scale."""
    shown = [verdict for verdict in verdicts if verdict.ratio]
    width, bottom = _LEFT + _PLOT + _RIGHT, _TOP + _ROW * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 40}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{bottom + 40}" fill="white"/>',
        _text(10, 22, title, size=15),
        _text(_LEFT, 42, "time to that of the fastest other tool (less is faster); the line is the 95 % interval"),
    ]
    for tick in _TICKS:
        parts.append(_line(_x(tick), _TOP - 8, _x(tick), bottom, "black" if tick == 1 else "#cccccc", 1))
        parts.append(_text(_x(tick), bottom + 16, f"{tick:g}", anchor="middle"))
    for number, verdict in enumerate(shown):
        parts += _row(verdict, t.cast(Check, verdict.ratio), _TOP + _ROW * number + _ROW // 2)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(verdict: Verdict, ratio: Check, middle: int) -> list[str]:
    colour = "#2a7f3f" if verdict.passed else "#b03030"
    words = f"{ratio.value:.2f} of {verdict.best_peer}, {verdict.seconds:.2f} s" + ("" if verdict.passed else ", misses")
    return [
        _text(_LEFT - 10, middle + 4, verdict.cell.name, anchor="end"),
        _line(_x(ratio.low), middle, _x(ratio.high), middle, colour, 2),
        f'<circle cx="{_x(ratio.value):.1f}" cy="{middle}" r="4.5" fill="{colour}"/>',
        _text(_LEFT + _PLOT + 10, middle + 4, words),
    ]


def _x(ratio: float) -> float:
    part = math.log(min(max(ratio, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + _PLOT * part


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
