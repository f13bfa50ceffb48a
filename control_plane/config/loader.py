"""From files to a :class:`~control_plane.config.model.Config`, or to every fault in them.

Each part (the top level, every descriptor, every model) is validated by itself: a fault in one hides none in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from control_plane.config import checks, later
from control_plane.config.document import Document
from control_plane.config.errors import ConfigError, ConfigErrors, hint, shown
from control_plane.config.explain import explain, found
from control_plane.config.files import UnreadableFile, read_text
from control_plane.config.model import HEALTH_PATHS, Backend, Config, Frozen, Model
from control_plane.config.named_files import with_named_files
from control_plane.config.nodes import (
    ListNode,
    MappingNode,
    Node,
    ReadyNode,
    ScalarNode,
    written,
)
from control_plane.config.nodes import find as find_node
from control_plane.config.yaml_reader import UnreadableYaml, parse

#: Faults after this many are not looked for.
MAX_ERRORS: Final = 100
_A_MAPPING: Final = "expected a mapping of keys to values"

Part = TypeVar("Part", bound=Frozen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a reading gave.

    Attributes:
        config: None when there are errors.
        sources: every file and folder that the outcome depends on, also when it is broken: watch these.
    """

    config: Config | None
    errors: tuple[ConfigError, ...]
    sources: frozenset[Path]


def load(path: Path) -> Config:
    """Read ``gateway.yaml``, its backends folder, and the files that it names.

    Raises:
        ConfigErrors: with all faults, sorted.
    """
    loaded = load_with_sources(path)
    if loaded.config is None:
        raise ConfigErrors(loaded.errors)
    return loaded.config


def load_with_sources(path: Path) -> Loaded:
    """Read a configuration, broken or not, and say which files it comes from. Raises nothing."""
    reading = _Reading(path)
    try:
        config = reading.config()
    except _EnoughError:
        config = None
    errors = ConfigErrors(reading.errors).errors
    return Loaded(config=None if errors else config, errors=errors, sources=frozenset(reading.sources))


def sources(path: Path) -> frozenset[Path]:
    """Every file and folder that a configuration, broken or not, depends on."""
    return load_with_sources(path).sources


class _EnoughError(Exception):
    """So many faults that further ones help nobody."""


class _Reading:
    """One pass over the files; collects faults and sources."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[ConfigError] = []
        self.sources: set[Path] = set()

    def config(self) -> Config | None:
        root = self._tree(self.path, "models")
        if root is None:
            return None
        # the text of models is validated one by one below
        document = self._validated(Document, self.path, root, skip="models")
        backends = self._backends(root)
        models = self._models(root, backends)
        self._check_default_model(root, models)
        if document is None or backends is None or self.errors:
            return None
        self._check_addresses(root, document)
        return Config(
            listen=tuple(listener.address for listener in document.listen),
            admin=document.admin,
            backends_folder=(self.path.parent / document.backends).resolve(),
            default_model=document.default_model,
            models={name: model for name, model in models.items() if model is not None},
            backends={name: backend for name, backend in backends.items() if backend is not None},
            state=document.state,
        )

    # -- parts ----------------------------------------------------------------------------------------------

    def _models(self, root: MappingNode, backends: Mapping[str, Backend | None] | None) -> dict[str, Model | None]:
        node = root.values.get("models")
        if node is None:
            return {}
        if not isinstance(node, MappingNode):
            self._report(self.path, node, f"{_A_MAPPING}, found {found(node)}")
            return {}
        if not node.values:
            self._report(self.path, node, "expected at least one model")
        models: dict[str, Model | None] = {}
        for name, value in node.values.items():
            self._check_name(self.path, node.keys[name], name, "model")
            models[name] = self._model(node.keys[name], value, backends)
        return models

    def _model(self, key: ScalarNode, node: Node, backends: Mapping[str, Backend | None] | None) -> Model | None:
        if not isinstance(node, MappingNode):
            self._report(self.path, node, f"{_A_MAPPING}, found {found(node)}")
            return None
        node = self._with_targets(key, node)
        node, faults, named = with_named_files(node, self.path)
        self.sources |= named
        for error in faults:
            self._add(error)
        model = self._validated(Model, self.path, node)
        if model is not None:
            self._findings(self.path, node, checks.check_model(model, backends))
        return model

    def _with_targets(self, key: ScalarNode, node: MappingNode) -> MappingNode:
        """``backend: x`` as the one target that it means; faults give no targets, so that the rest is still read."""
        backend, targets = node.values.get("backend"), node.values.get("targets")
        if backend is not None and targets is not None:
            message = "`backend` and `targets` both say where the model runs: keep one"
            self._report(self.path, node.keys["backend"], message)
            values = {name: value for name, value in node.values.items() if name != "backend"}
            return MappingNode(line=node.line, column=node.column, keys=node.keys, values=values)
        if isinstance(targets, ListNode) and not targets.items:
            self._report(self.path, targets, "expected at least one target")
        if targets is not None:
            return node
        if backend is None:
            if not later.INSTEAD_OF_TARGETS & node.values.keys():
                self._report(self.path, key, f"model {shown(key.text)} needs `backend` or `targets`")
            keys = {**node.keys, "targets": key}
            values = {**node.values, "targets": ReadyNode(line=key.line, column=key.column, value=[])}
            return MappingNode(line=node.line, column=node.column, keys=keys, values=values)
        place = {"line": backend.line, "column": backend.column}
        target = MappingNode(**place, keys={"backend": node.keys["backend"]}, values={"backend": backend})
        return node.replaced("backend", ListNode(**place, items=(target,)), by="targets")

    def _backends(self, root: MappingNode) -> dict[str, Backend | None] | None:
        """All descriptors, with None for a broken one; None when there is no folder to look into."""
        written_folder = root.values.get("backends")
        name = written_folder.text if isinstance(written_folder, ScalarNode) else None
        folder = self.path.parent / (name if name is not None else Document.model_fields["backends"].default)
        self.sources.add(folder)
        try:
            files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name holds a NUL character"
            place = written_folder if written_folder is not None else root
            self._report(self.path, place, f"backends folder {shown(str(folder))} cannot be read: {reason}")
            return None
        backends: dict[str, Backend | None] = {}
        for file in files:
            if file.suffix == ".yaml":
                backends[file.stem] = self._backend(file)
            elif file.suffix == ".yml":
                self._add(ConfigError(file, 1, 1, "a descriptor's name ends in .yaml: rename it"))
        return backends

    def _backend(self, file: Path) -> Backend | None:
        name = file.stem
        if reason := checks.check_name(name, "backend"):
            self._add(ConfigError(file, 1, 1, reason))
            return None
        root = self._tree(file, "server")
        if root is None:
            return None
        backend = self._validated(Backend, file, root, defaults={"model": name})
        if backend is None:
            return None
        sourced = bool(later.INSTEAD_OF_ENDPOINTS & root.values.keys())
        self._findings(file, root, checks.check_backend(backend, sourced=sourced))
        if backend.health.path is None:
            health = backend.health.model_copy(update={"path": HEALTH_PATHS.get(backend.server)})
            backend = backend.model_copy(update={"health": health})
        return backend

    # -- rules of the top level -----------------------------------------------------------------------------

    def _check_default_model(self, root: MappingNode, models: Mapping[str, Model | None]) -> None:
        node = root.values.get("default_model")
        if isinstance(node, ScalarNode) and not node.is_null and node.text not in models:
            self._report(self.path, node, f"no model {shown(node.text)} under `models`{hint(node.text, models)}")

    def _check_addresses(self, root: MappingNode, document: Document) -> None:
        if not document.listen:
            self._report(self.path, find_node(root, ("listen",)), "expected at least one address to listen on")
        taken = {}
        for index, listener in enumerate(document.listen):
            address = listener.address
            if address.port and address in taken:
                message = f"{shown(str(address))} is listened on twice"
                self._report(self.path, find_node(root, ("listen", index)), message)
            taken[address] = index
        if document.admin.port and document.admin in taken:
            place = find_node(root, ("admin",) if "admin" in root.values else ("listen",))
            self._report(self.path, place, f"{shown(str(document.admin))} is both `listen` and `admin`")

    def _check_name(self, file: Path, node: Node, name: str, what: str) -> None:
        if reason := checks.check_name(name, what):
            self._report(file, node, reason)

    # -- reading and reporting ------------------------------------------------------------------------------

    def _tree(self, file: Path, expected: str) -> MappingNode | None:
        self.sources.add(file)
        try:
            root = parse(read_text(file))
        except UnreadableFile as error:
            self._add(ConfigError(file, error.fault.line, error.fault.column, error.fault.message))
            return None
        except UnreadableYaml as error:
            for fault in error.faults:
                self._add(ConfigError(file, fault.line, fault.column, fault.message))
            return None
        if root is None:
            self._add(ConfigError(file, 1, 1, f"the file is empty: expected at least `{expected}:`"))
        elif not isinstance(root, MappingNode):
            self._report(file, root, f"{_A_MAPPING}, found {found(root)}")
            return None
        return root

    def _validated(
        self,
        part: type[Part],
        file: Path,
        root: MappingNode,
        *,
        skip: str | None = None,
        defaults: Mapping[str, str] | None = None,
    ) -> Part | None:
        content = {
            **(defaults or {}),
            **{key: {} if key == skip else written(value) for key, value in root.values.items()},
        }
        try:
            return part.model_validate(content, by_alias=True, by_name=False)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = detail["loc"]
                place = find_node(root, path, key=detail["type"] == "extra_forbidden")
                self._report(file, place, explain(detail, part, place))
            return None

    def _findings(self, file: Path, root: Node, findings: Iterable[checks.Finding]) -> None:
        for finding in findings:
            self._report(file, find_node(root, finding.path, key=finding.key), finding.message)

    def _report(self, file: Path, node: Node, message: str) -> None:
        self._add(ConfigError(file, node.line, node.column, message))

    def _add(self, error: ConfigError) -> None:
        self.errors.append(error)
        if len(self.errors) >= MAX_ERRORS:
            raise _EnoughError
