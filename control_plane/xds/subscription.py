"""What one client asked for and holds of one resource type: a state machine without I/O.

It says what the client lacks (:meth:`Subscription.pending`), never when to send it (that is :mod:`.ordering`), and it
does not know the wire: :mod:`.delta` calls it for the incremental variant of the protocol; :mod:`.world` is the same
for the state-of-the-world variant.

Rules are quoted from Envoy's xDS protocol documentation ("xDS REST and gRPC protocol").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from control_plane.xds.snapshot import Resource
from control_plane.xds.verdicts import Held, Mark, Refusals, Verdict

WILDCARD: Final = "*"
#: Unacknowledged responses remembered per type; a client that never acknowledges costs no more memory than this.
MAX_IN_FLIGHT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack:
    """A response that the client refused.

    Attributes:
        text: the client's words.
        at: wall-clock time, seconds since the epoch.
        version: version of the type in the response.
    """

    text: str
    at: float
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a client lacks.

    Attributes:
        answers: names the client waits for, because it asked for them or because their parent changed.
        updates: names that are new or changed in the snapshot.
        removals: names the client has and the snapshot has not.
        greeting: a first wildcard request is answered even when there is nothing to send: the client's
            initialization waits for it.
    """

    answers: tuple[str, ...] = ()
    updates: tuple[str, ...] = ()
    removals: tuple[str, ...] = ()
    greeting: bool = False

    def __bool__(self) -> bool:
        return bool(self.answers or self.updates or self.removals or self.greeting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A response by its names.

    Attributes:
        present, absent: names that are news to the client, or may be.
        rest: of a full state, what the client has already, and what it has to keep although the snapshot has it
            no longer.
        mixed: a full state that is not what the snapshot has of the type.
    """

    present: set[str]
    absent: set[str]
    rest: tuple[Resource, ...] = ()
    mixed: bool = False


_NOTHING: Final = Pending()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A response on its way: version (or absence) per name."""

    nonce: str
    version: str
    names: Mapping[str, Held]
    at: float


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One type on one stream. Times (``now``) are monotonic seconds.

    Attributes:
        names: explicitly subscribed names, whether or not they exist.
        wildcard: every resource of the type is subscribed.
        sent_version, acked_version: versions of the type as a whole.
        nack: the last refusal; kept until a later response is acknowledged.
    """

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    sent_version: str | None = None
    acked_version: str | None = None
    nack: Nack | None = None
    _held: dict[str, Held] = field(default_factory=dict)
    _owed: set[str] = field(default_factory=set)
    _greeting: bool = False
    _in_flight: list[_Sent] = field(default_factory=list)
    _refusals: Refusals = field(default_factory=Refusals)
    _complete: Mapping[str, Resource] | None = None  # resources that the client was seen to lack nothing of

    # -- the client speaks -----------------------------------------------------------------------------------

    def open(self, names: Iterable[str], versions: Mapping[str, str], *, legacy_wildcard: bool) -> None:
        """The first request of a stream for this type.

        Args:
            names: subscribed names; none at all means everything where the type allows it.
            versions: what the client still has from an earlier stream.
            legacy_wildcard: "a client can receive all resources of that type ... by sending no names".
        """
        asked = set(names)
        self.wildcard = WILDCARD in asked or (legacy_wildcard and not asked)
        self.names = asked - {WILDCARD}
        self._held = {name: version for name, version in versions.items() if self.wildcard or name in self.names}
        self._greeting = self.wildcard and not versions
        self._complete = None

    def subscribe(self, names: Iterable[str]) -> None:
        """Names asked for later. Known ones are answered again: the client may have dropped them meanwhile."""
        self._complete = None
        for name in names:
            if name == WILDCARD:
                self._owed |= {held for held, version in self._held.items() if version is not Mark.ABSENT}
                self.wildcard = self._greeting = True
            else:
                self.names.add(name)
                self._owed.add(name)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Names no longer wanted; unknown ones are ignored."""
        self._complete = None
        for name in names:
            if name == WILDCARD:
                self.wildcard = self._greeting = False
                for dropped in self._held.keys() - self.names:
                    self._forget(dropped)
            elif name in self.names:
                self.names.remove(name)
                if self.wildcard:
                    # The client cannot know whether the wildcard still covers the name: it has to be told.
                    self._owed.add(name)
                else:
                    self._forget(name)

    def acknowledge(self, nonce: str) -> Verdict:
        """The client applied a response, and with it (they are in order) those before it."""
        sent = self._take(nonce)
        if sent is None:
            return Verdict.STALE
        self.acked_version = sent.version
        if not self._refusals:
            self.nack = None
        return Verdict.ACK

    def refuse(self, nonce: str, text: str, *, now: float, at: float) -> Verdict:
        """The client refused a response. What it holds of it is unknown: Envoy may have applied the good parts."""
        sent = self._take(nonce)
        if sent is None:
            return Verdict.STALE
        self.nack = Nack(text=text, at=at, version=sent.version)
        self._complete = None
        later = {name for response in self._in_flight for name in response.names}  # these get a verdict of their own
        names = {name: version for name, version in sent.names.items() if self.covers(name) and name not in later}
        self._held.update(dict.fromkeys(names, Mark.UNKNOWN))
        if len(names) == len(sent.names):
            self._refusals.add(names, now)
        # Otherwise what was wrong may be among the others, and these are sent again.
        return Verdict.NACK

    # -- the server asks -------------------------------------------------------------------------------------

    def covers(self, name: str) -> bool:
        """Whether a resource of this name would be sent."""
        return self.wildcard or name in self.names

    def force(self, name: str) -> None:
        """Send a covered name again although it did not change."""
        if self.covers(name):
            self._owed.add(name)
            self._complete = None

    def pending(self, resources: Mapping[str, Resource]) -> Pending:
        """What the client lacks of these resources."""
        if self._complete is resources:
            return _NOTHING
        self._refusals.lift(resources)
        blocked = self._refusals.blocked()
        updates = [
            name
            for name in (resources if self.wildcard else self.names & resources.keys())
            if name not in blocked and self._held.get(name) != resources[name].version
        ]
        gone = self._tellable(
            [
                name
                for name in (self._held.keys() | self.names) - resources.keys()
                if name not in blocked and self._held.get(name) is not Mark.ABSENT
            ]
        )
        if not (updates or gone or self._owed or self._greeting):
            self._complete = resources
            return _NOTHING
        # A name that the client never got is an answer, too: nothing that it has goes away.
        answers = self._owed | {name for name in gone if name not in self._held}
        return Pending(
            answers=tuple(sorted(answers)),
            updates=tuple(sorted(set(updates) - answers)),
            removals=tuple(sorted(set(gone) - answers)),
            greeting=self._greeting,
        )

    def whole(self, resources: Mapping[str, Resource], present: set[str], absent: set[str]) -> Whole:
        """The response with this news, which is its whole content."""
        return Whole(present=present & resources.keys(), absent=absent | (present - resources.keys()))

    def sent(
        self,
        nonce: str,
        version: str,
        present: Collection[Resource],
        absent: Collection[str],
        now: float,
        rest: Collection[Resource] = (),  # noqa: ARG002 - of interest where responses are full states
    ) -> None:
        """Record a response, before it is written: its acknowledgement may be faster than the writer."""
        names: dict[str, Held] = {resource.name: resource.version for resource in present}
        names.update(dict.fromkeys(absent, Mark.ABSENT))
        for name, held in names.items():
            if held is Mark.ABSENT and name not in self.names:
                self._held.pop(name, None)
            else:
                self._held[name] = held
        self._refusals.forget(names)
        self._owed -= names.keys()
        self._greeting = False
        self._complete = None
        self.sent_version = version
        self._in_flight.append(_Sent(nonce=nonce, version=version, names=names, at=now))
        del self._in_flight[:-MAX_IN_FLIGHT]

    def current(self, version: str) -> None:
        """The client has everything of this version of the type (also when nothing of it concerned the client)."""
        self.sent_version = self.acked_version = version

    @property
    def in_flight_since(self) -> float | None:
        """When the newest unacknowledged response was sent."""
        return self._in_flight[-1].at if self._in_flight else None

    @property
    def holds_nothing(self) -> bool:
        """Whether the client has no resource of this type, so that nothing of it can break."""
        return not any(isinstance(held, str) for held in self._held.values())

    @property
    def refused_since(self) -> float | None:
        """When the refusal that still holds back resources came."""
        return self._refusals.since

    # -- inside ----------------------------------------------------------------------------------------------

    def _tellable(self, gone: list[str]) -> list[str]:
        """Those of the names without a resource that a response can speak of."""
        return gone

    def _take(self, nonce: str) -> _Sent | None:
        for index, sent in enumerate(self._in_flight):
            if sent.nonce == nonce:
                del self._in_flight[: index + 1]
                return sent
        return None

    def _forget(self, name: str) -> None:
        self._held.pop(name, None)
        self._owed.discard(name)
        self._refusals.forget([name])
