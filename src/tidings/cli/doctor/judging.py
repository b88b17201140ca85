"""All rules over a record."""

from __future__ import annotations

from tidings.cli.doctor.arrival import check_arrival
from tidings.cli.doctor.content import check_content
from tidings.cli.doctor.finding import Finding
from tidings.cli.doctor.head import check_connection, check_headers, check_status
from tidings.cli.doctor.lasting import check_lasting
from tidings.cli.doctor.record import Record

__all__ = ["judge"]


def judge(record: Record) -> list[Finding]:
    """What the record means, in the order in which things happen."""
    findings = list(check_connection(record))
    if record.first.head is None:
        return findings
    findings += check_status(record)
    if record.first.status != 200:
        return findings
    for check in (check_headers, check_arrival, check_lasting, check_content):
        findings += check(record)
    return findings
