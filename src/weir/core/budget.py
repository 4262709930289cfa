"""One budget of bytes for everything that weir holds for calls under way, and how much of it each client has.

Counted are request bodies while they arrive and while their call runs, large replies while they are judged or wait
for their client, and what waits for a pipe. Everything happens in the event loop's thread.
"""

from typing import Final

from weir.core.origin import network_of
from weir.core.outcome import Blame

SHARE_OF_ONE_CLIENT: Final = 4
"""One client holds at most this part (a quarter) of the budget, so that three others always get something."""
UNCOUNTED_BYTES: Final = 64 * 1024
"""A reply up to this size is not counted: socket buffers take as much, and connections are bounded."""


class Account:
    """What one client holds. Connections of the client share it."""

    def __init__(self, budget: "Budget", client: str) -> None:
        self.client = client
        self.held_bytes = 0
        self.users = 0
        self._budget = budget

    def take(self, size: int) -> Blame | None:
        """Hold so many bytes more. Returns None, or whose fault it is that there is no room (nothing is held then)."""
        budget = self._budget
        held = self.held_bytes + size
        if held > budget.share_bytes or budget.held_bytes + size > budget.limit_bytes:
            budget.refusals += 1
            return Blame.DOWNSTREAM if held > budget.share_bytes else Blame.WEIR
        self.held_bytes = held
        budget.held_bytes += size
        return None

    def hold(self, size: int) -> None:
        """Hold so many bytes more, room or not: they exist already."""
        self.held_bytes += size
        self._budget.held_bytes += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held_bytes -= size
        self._budget.held_bytes -= size

    def lack_of(self, size: int) -> Blame | None:
        """Returns None where `take` would find room now, else whose fault it is that there is none."""
        budget = self._budget
        if self.held_bytes + size > budget.share_bytes:
            return Blame.DOWNSTREAM
        return Blame.WEIR if budget.held_bytes + size > budget.limit_bytes else None

    def leave(self) -> None:
        """One user less (see Budget.account)."""
        self.users -= 1
        if self.users == 0:
            self._budget.forget(self)


class Held:
    """What one place holds for a client: counted while it is more than UNCOUNTED_BYTES. None as account: never."""

    __slots__ = ("_account", "_counted")

    def __init__(self, account: Account | None) -> None:
        self._account = account
        self._counted = 0

    def resize(self, size: int) -> Blame | None:
        """The place holds so many bytes now, and they are counted. Returns whose fault it is if there was no room."""
        account = self._account
        counted = size if size > UNCOUNTED_BYTES else 0
        more = counted - self._counted
        if not more or account is None:
            return None
        self._counted = counted
        if more < 0:
            account.give_back(-more)
            return None
        lack = account.take(more)
        if lack is not None:
            account.hold(more)
        return lack


class LastingHold:
    """Bytes of a client that may stay when its last connection has ended."""

    __slots__ = ("_account", "_size")

    def __init__(self) -> None:
        self._account: Account | None = None
        self._size = 0

    def hold(self, account: Account, size: int) -> None:
        """Hold so many bytes of this client, in place of those held before."""
        self.end()
        account.users += 1
        account.hold(size)
        self._account, self._size = account, size

    def end(self) -> None:
        """They are gone."""
        account, self._account = self._account, None
        if account is not None:
            account.give_back(self._size)
            account.leave()


class Budget:
    """The bytes of all clients together."""

    def __init__(self, limit_bytes: int, *, is_shared: bool = True) -> None:
        self.limit_bytes = limit_bytes
        self.share_bytes = limit_bytes // SHARE_OF_ONE_CLIENT if is_shared else limit_bytes
        self.held_bytes = 0
        self.refusals = 0
        """How often something found no room since the start."""
        self._accounts: dict[str, Account] = {}

    def account(self, address: str) -> Account:
        """The account of the client at an address. The caller calls `leave` once, when it needs it no more."""
        client = network_of(address)
        account = self._accounts.get(client)
        if account is None:
            account = self._accounts[client] = Account(self, client)
        account.users += 1
        return account

    def forget(self, account: Account) -> None:
        """Nobody uses the account now."""
        if self._accounts.get(account.client) is account:
            del self._accounts[account.client]

    @property
    def clients(self) -> int:
        """How many clients have an account now."""
        return len(self._accounts)
