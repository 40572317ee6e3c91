"""A bridge's sessions: tokens that stand for an account, for as long as somebody uses them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from tests.venues.clock import Clock
from tests.venues.metatrader.accounts import Login


@dataclass(slots=True, eq=False)
class Session:
    """One connection to a broker that the bridge holds."""

    token: str
    login: Login
    investor: bool
    connected: datetime
    used: datetime


class Sessions:
    """Every session of a bridge; one to an account, as hosted bridges allow."""

    def __init__(self, clock: Clock) -> None:
        self.idle_seconds = 300.0
        """After so long without a call a token is forgotten."""
        self.remembers = True
        """Whether ConnectByToken brings back what Disconnect, idleness or a restart has ended."""
        self.names_itself = False
        """Whether it gives every session a name of its own, whatever a client calls it."""
        self._clock = clock
        self._live: dict[str, Session] = {}
        self._remembered: dict[str, Session] = {}

    @property
    def live(self) -> list[Session]:
        """Those that calls may use now."""
        return list(self._live.values())

    @property
    def tokens(self) -> set[str]:
        """Every token that ever was."""
        return set(self._remembered)

    def open(self, login: Login, token: str | None, *, investor: bool) -> Session:
        """Begin a session; another one to the same account ends with it."""
        now = self._clock.now()
        token = (None if self.names_itself else token) or str(
            uuid5(NAMESPACE_URL, f"{login.platform}:{login.user}")
        )
        for known in list(self._live.values()):
            if known.login is login:
                del self._live[known.token]
        session = Session(token, login, investor, now, now)
        self._live[token] = self._remembered[token] = session
        return session

    def reopen(self, token: str) -> Session | None:
        """Bring a session back that the bridge still remembers."""
        session = self._remembered.get(token) if self.remembers else None
        if session is None:
            return None
        return self.open(session.login, token, investor=session.investor)

    def find(self, token: str) -> Session | None:
        """The session behind a token, which this call keeps alive."""
        session, now = self._live.get(token), self._clock.now()
        if session is None:
            return None
        if (now - session.used).total_seconds() > self.idle_seconds:
            del self._live[token]
            return None
        session.used = now
        return session

    def end(self, token: str) -> None:
        """End a session."""
        self._live.pop(token, None)

    def lose_all(self) -> None:
        """End every session, as a restart of the bridge does."""
        self._live.clear()
