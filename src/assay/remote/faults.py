"""What can go wrong with one question: faults that pass and faults that last."""

from __future__ import annotations

from collections.abc import Iterable

from assay.errors import LastingFault, PassingFault, RowError

ACCOUNT = {401, 402, 404}  # 403 may be one post that a moderator refused
PASSING = {408, 409, 425, 429}
NOT_THIS_WAY = {400, 404, 405, 422, 501}  # how a server says that it does not know a field or a path


def fault_of(
    status: int | None, said: str, wait_s: float | None = None, *, field: str = "", cost_usd: float | None = None
) -> PassingFault | LastingFault:
    """The fault that an HTTP status is for one question; None: an error of the server's own that names no status."""
    if status is None:
        return PassingFault("server_error", said, wait_s=wait_s, cost_usd=cost_usd)
    if status in PASSING or (status >= 500 and status not in NOT_THIS_WAY):
        return PassingFault(f"http_{status}", said, wait_s=wait_s, cost_usd=cost_usd)
    return LastingFault(f"http_{status}", said, status=status, field=field, cost_usd=cost_usd)


def counted(faults: Iterable[RowError], most: int = 3) -> str:
    """Faults as a line for people: how many of each code, with what was said of one of them."""
    found: dict[str, list[str]] = {}
    for fault in faults:
        found.setdefault(fault.code, []).append(fault.detail)
    shown = sorted(found.items(), key=lambda item: -len(item[1]))
    told = [f"{len(said)} {code}" + (f": {said[0][:200]}" if said[0] else "") for code, said in shown[:most]]
    return "; ".join([*told, *([f"{len(shown) - most} kinds more"] if len(shown) > most else [])])
