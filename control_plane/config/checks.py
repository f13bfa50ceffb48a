"""Rules between the parts of a configuration that have the right types by themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from control_plane.config.errors import hint, shown
from control_plane.config.model import Address, Backend, Model
from gateway.names import MODEL_NAME

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A broken rule. ``path`` leads from the checked part to the value, or with ``key`` to its key."""

    path: Path
    message: str
    key: bool = False


def check_name(name: str, what: str) -> str | None:
    """Why a name of a model or backend cannot be used."""
    if MODEL_NAME.match(name):
        return None
    return f"{what} name {shown(name)}: expected 1 to 64 of a-z, 0-9 and . _ -, beginning with a letter or digit"


def check_backend(backend: Backend, *, sourced: bool) -> Iterator[Finding]:
    """Rules of one descriptor.

    Args:
        sourced: whether a source of its endpoints was written, even one that is not in this version.
    """
    if backend.server == "http" and backend.path is None:
        yield Finding(path=("server",), message="server http needs a `path` that bodies are posted to")
    if backend.server != "http" and backend.path is not None:
        yield Finding(path=("path",), message=f"`path` is for server http only, not {backend.server}", key=True)
    if backend.endpoints and backend.run is not None:
        yield Finding(path=("run",), message="`endpoints` and `run` both say where it runs: keep one", key=True)
    if not backend.endpoints and backend.run is None and not sourced:
        yield Finding(path=(), message="expected `endpoints` (at least one) or `run`")
    addresses: set[Address] = set()
    for index, endpoint in enumerate(backend.endpoints):
        if endpoint.address in addresses:
            yield Finding(path=("endpoints", index), message=f"endpoint {shown(str(endpoint.address))} is there twice")
        addresses.add(endpoint.address)
    if backend.run is not None and not any("{port}" in word for word in backend.run.command):
        yield Finding(path=("run", "command"), message="the command must contain {port}, or nobody can reach it")
    for index, word in enumerate(backend.run.command if backend.run is not None else ()):
        if "\0" in word or not (word or index):
            message = f"no program can be started with {shown(word)}" if word else "expected a program, found nothing"
            yield Finding(path=("run", "command", index), message=message)


def check_model(model: Model, backends: Mapping[str, Backend | None] | None) -> Iterator[Finding]:
    """Rules of one model.

    Args:
        backends: all descriptors, with None for one that has faults of its own; None when they could not be listed.
    """
    uses = _uses(model)
    for path, name in uses:
        if backends is not None and name not in backends:
            yield Finding(path=path, message=f"no backend {shown(name)} in the backends folder{hint(name, backends)}")
    if model.targets and not sum(target.weight for target in model.targets):
        yield Finding(path=("targets",), message="the weights of all targets are 0")
    known = [(path, name, backend) for path, name in uses if (backend := (backends or {}).get(name)) is not None]
    if known:
        _, first_name, first = known[0]
        for path, name, backend in known[1:]:
            if difference := _difference(first_name, first, name, backend):
                yield Finding(path=path, message=difference)
    if any(backend.server == "http" for _, _, backend in known) and model.input.tensors:
        message = "server http takes the body as it is: `tensors` are for Open Inference servers"
        yield Finding(path=("input", "tensors"), message=message, key=True)
    yield from _check_shape(model)


def _uses(model: Model) -> list[tuple[Path, str]]:
    uses: list[tuple[Path, str]] = [
        (("targets", index, "backend"), target.backend) for index, target in enumerate(model.targets)
    ]
    return uses if model.mirror is None else [*uses, (("mirror", "backend"), model.mirror.backend)]


def _difference(first_name: str, first: Backend, name: str, backend: Backend) -> str | None:
    """Why two backends cannot take the same translated body at the same path."""
    pairs: list[tuple[str, str | None, str | None]] = [("server", first.server, backend.server)]
    # a server of kind http sees no name, the others no path
    if first.server == "http":
        pairs.append(("path", first.path, backend.path))
    else:
        pairs.append(("model", first.model, backend.model))
    for key, one, other in pairs:
        if one != other:
            return (
                f"backend {shown(name)} has `{key}: {other}`, but {shown(first_name)} has `{key}: {one}`: "
                "all backends of a model take the same request"
            )
    return None


def _check_shape(model: Model) -> Iterator[Finding]:
    names: set[str] = set()
    for index, tensor in enumerate(model.input.tensors):
        if tensor.name in names:
            path: Path = ("input", "tensors", index, "name")
            yield Finding(path=path, message=f"tensor {shown(tensor.name)} is there twice")
        names.add(tensor.name)
        if len(tensor.shape) > 16:
            path = ("input", "tensors", index, "shape")
            yield Finding(path=path, message=f"expected at most 16 dimensions, found {len(tensor.shape)}")
    if model.input.image is not None and not model.input.image.formats:
        yield Finding(path=("input", "image", "formats"), message="expected at least one of png and jpeg")
    labels, top_k = model.output.labels, model.output.top_k
    if labels and top_k is not None and top_k > len(labels):
        yield Finding(path=("output", "top_k"), message=f"expected at most {len(labels)}, the number of labels")
