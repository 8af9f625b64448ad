"""The lines in which ``check`` and ``doctor`` show their findings to a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..masking import visible
from .model import Finding


def finding_lines(findings: Iterable[Finding], notes: Iterable[str]) -> Iterator[str]:
    """Yield the lines of findings and of notes, without characters that steer a terminal."""
    for finding in findings:
        yield visible(f"{_where(finding)}{finding.id} {finding.level}: {finding.message}")
        if finding.detail:
            yield f"    {visible(finding.detail)}"
        yield f"    fix: {visible(finding.fix)}"
    for note in notes:
        yield f"note: {visible(note)}"


def totals(findings: Iterable[Finding]) -> str:
    """Return how many findings there are of each level, such as ``1 error, 0 warnings``."""
    levels = [finding.level for finding in findings]
    return ", ".join(
        f"{levels.count(level)} {level}{'' if levels.count(level) == 1 else 's'}"
        for level in ("error", "warning")
    )


def _where(finding: Finding) -> str:
    if finding.file is None:
        return ""
    return f"{finding.file}: " if finding.line is None else f"{finding.file}:{finding.line}: "
