"""The one exception of this package: a request, or the answer to it, is refused with a Problem."""

from __future__ import annotations

from gateway.problem import Problem


class Refused(Exception):  # noqa: N818 - a verdict, not an error of ours
    """Carries the :class:`Problem` that the client is told."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, retry_after_s: int | None = None
    ) -> None:
        headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        self.problem = Problem(status=status, code=code, message=message, field=field, headers=headers)
        super().__init__(code)


def unprocessable(code: str, message: str, field: str) -> Refused:
    """A body that is JSON but violates the model's input contract: 422; `field` points at the offending value."""
    return Refused(422, code, message, field=field)


def unavailable(code: str, message: str) -> Refused:
    """The gateway cannot give a verdict now: 503, try again in a second."""
    return Refused(503, code, message, retry_after_s=1)


def bad_answer(message: str) -> Refused:
    """The model server answered something that cannot be passed on: 502, in words of our own."""
    return Refused(502, "upstream_invalid", message)
