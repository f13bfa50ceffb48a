"""A subscription in the state-of-the-world variant: each request replaces the names, absence is told by leaving out.

What the client holds and what it lacks is kept as in the incremental variant; this adds what differs. Of types that may
be asked for as a whole a response is the full state, so it also has what the client has already, and old resources
that may not be removed yet. Of the other types a response has only news and cannot say that something is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.xds.snapshot import Resource
from control_plane.xds.subscription import WILDCARD, Subscription, Whole
from control_plane.xds.verdicts import Mark, Verdict


@dataclass(kw_only=True)
class WorldSubscription(Subscription):
    """One type on one stream.

    Attributes:
        full: responses are the full state.
        returned: the client has something of an earlier stream; it cannot say what.
        newest_nonce: of the newest response, acknowledged or not.
    """

    full: bool
    returned: bool = False
    newest_nonce: str | None = None
    _named: bool = False  # no names mean nothing once there were some
    _doubted: set[str] = field(default_factory=set)  # see doubt()
    _last: Mapping[str, Resource] = field(default_factory=dict)  # the newest full state that was sent
    _acknowledged: Mapping[str, Resource] = field(default_factory=dict)  # the newest that was acknowledged

    def open(self, names: Iterable[str], versions: Mapping[str, str], *, legacy_wildcard: bool) -> None:
        """See :meth:`Subscription.open`."""
        asked = set(names)
        self._named = bool(asked)
        super().open(asked, versions, legacy_wildcard=legacy_wildcard)

    def replace(self, names: Iterable[str], *, legacy_wildcard: bool) -> None:
        """All names that are wanted from now on. Only those are answered that were not wanted before.

        "If the client sends a request with no resource names after having named some, it unsubscribes from all."
        """
        asked = set(names)
        self._named = self._named or bool(asked)
        wildcard = WILDCARD in asked or (legacy_wildcard and not self._named)
        anew, self._doubted = self._doubted, set()
        everything_anew = wildcard and (not self.wildcard or WILDCARD in anew)
        asked.discard(WILDCARD)
        added = asked - (self.names - anew)
        if not (added or everything_anew) and wildcard == self.wildcard and asked == self.names:
            return  # an acknowledgement
        self._complete = None
        self.names, self.wildcard = asked, wildcard
        forgotten = self._held.keys() if WILDCARD in anew else anew
        for name in [name for name in self._held if name in forgotten or not self.covers(name)]:
            self._forget(name)
        self._owed = {name for name in self._owed if self.covers(name)} | added
        self._greeting = wildcard and (self._greeting or everything_anew)

    def doubt(self, names: Iterable[str]) -> None:
        """The names of a stale request, which is not followed.

        A client that drops a name and wants it again, both before it reads a response that is on its way, has
        forgotten the resource, and its next request looks as if nothing had happened.
        """
        asked = set(names)
        self._doubted |= self.names - asked
        if self.wildcard and self._named and WILDCARD not in asked:
            self._doubted.add(WILDCARD)

    def acknowledge(self, nonce: str) -> Verdict:
        """See :meth:`Subscription.acknowledge`."""
        verdict = super().acknowledge(nonce)
        if verdict is Verdict.ACK and nonce == self.newest_nonce:
            self._acknowledged = self._last
            accepted = {
                name: resource.version for name, resource in self._last.items() if self._held.get(name) is Mark.UNKNOWN
            }
            if accepted:  # what was refused before was in this full state, too
                self._held.update(accepted)
                self._refusals.forget(accepted)
                self.nack = self.nack if self._refusals else None
                self._complete = None
        return verdict

    def whole(self, resources: Mapping[str, Resource], present: set[str], absent: set[str]) -> Whole:
        """See :meth:`Subscription.whole`."""
        if not self.full:
            return super().whole(resources, present, absent)
        covered = resources.keys() if self.wildcard else self.names & resources.keys()
        present = present | {name for name in covered if self._held.get(name) != resources[name].version}
        # What is not there any more is left out again, whether or not that was refused.
        absent = absent | {name for name in self._refusals.blocked() | present if name not in resources}
        kept = [
            # Of what was refused the client is given what it had before.
            (self._last if isinstance(held, str) else self._acknowledged).get(name)
            for name, held in self._held.items()
            if name not in resources and name not in absent and held is not Mark.ABSENT
        ]
        still = [resource for resource in kept if resource is not None]
        return Whole(
            present=present & resources.keys(),
            absent=absent,
            rest=(*(resources[name] for name in covered if name not in present), *still),
            mixed=bool(still) or not self.wildcard,
        )

    def sent(
        self,
        nonce: str,
        version: str,
        present: Collection[Resource],
        absent: Collection[str],
        now: float,
        rest: Collection[Resource] = (),
    ) -> None:
        """See :meth:`Subscription.sent`."""
        super().sent(nonce, version, present, absent, now)
        self.newest_nonce = nonce
        if self.full:
            self._last = {resource.name: resource for resource in (*present, *rest)}

    @property
    def holds_nothing(self) -> bool:
        """See :attr:`Subscription.holds_nothing`."""
        return not self.returned and super().holds_nothing

    def _tellable(self, gone: list[str]) -> list[str]:
        if self.full:
            return gone
        for name in gone:
            self._held.pop(name, None)
            self._owed.discard(name)
        return []
