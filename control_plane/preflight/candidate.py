"""A candidate configuration before anything is pushed: our linter, then the real Envoy."""

from __future__ import annotations

from control_plane.preflight.envoy import PreflightError, validate
from control_plane.preflight.lint import lint
from control_plane.preflight.static import static_bootstrap
from control_plane.translate.snapshot import Translation


async def preflight(translation: Translation, *, envoy: str | None) -> None:
    """Refuse what would break, or silently weaken, a running gateway.

    Args:
        envoy: path of the binary; None leaves its part out.

    Raises:
        PreflightError: with every finding of the linter, or with Envoy's reason.
    """
    findings = lint(translation)
    if findings:
        raise PreflightError("; ".join(findings))
    if envoy is not None:
        await validate(static_bootstrap(translation), envoy=envoy)
