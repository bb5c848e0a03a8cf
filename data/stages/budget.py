"""A budget of bytes that threads share, spent in the order of tickets."""

from __future__ import annotations

import threading


class ByteBudget:
    """Bytes that may be in use at a time.

    Tickets are admitted in order, 0, 1, 2..., each when its bytes fit, or alone if they never do. The order keeps the item
    that everybody waits for from being overtaken.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used, self._next, self._closed = 0, 0, False
        self._changed = threading.Condition()

    def admit(self, ticket: int, nbytes: int) -> bool:
        """Wait for a ticket's turn and for room, and take the bytes; False if the budget was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (ticket == self._next and self._fits(nbytes)))
            if self._closed:
                return False
            self._next += 1
            self._used += nbytes
            self._changed.notify_all()
            return True

    def change(self, nbytes: int) -> None:
        """Take more bytes, or give bytes back if negative."""
        with self._changed:
            self._used += nbytes
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, nbytes: int) -> bool:
        return self._used == 0 or self._used + nbytes <= self.limit
