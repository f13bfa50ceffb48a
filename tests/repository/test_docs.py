"""The documentation says what is so: snippets load, links and commands exist, metrics and codes are the code's."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry

from control_plane.cli import main
from control_plane.config import later, load, model
from control_plane.config.document import Document
from control_plane.config.loader import load_with_sources
from control_plane.reconcile import ConfigMetrics
from control_plane.translate.local_replies import LOCAL_REPLIES
from control_plane.xds.metrics import XdsMetrics
from ext_authz.metrics import Metrics as AuthzMetrics
from ext_proc.metrics import Metrics as PayloadMetrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("", "backends", "envoy")),
    ]
)
PACKAGES = ("gateway", "control_plane", "ext_authz", "ext_proc")


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- snippets -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, the words after its fence, its text."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{shown(self.page)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1].strip(), found[2])


BLOCKS = [block for page in PAGES for block in blocks(page)]
YAML = [block for block in BLOCKS if block.info.split()[:1] == ["yaml"]]
LOADABLE = [block for block in YAML if not block.info.startswith("yaml broken")]


def test_pages_have_snippets_and_every_fence_says_what_it_holds():
    assert len(LOADABLE) > 10
    assert [str(block) for block in BLOCKS if not block.info] == []


@pytest.mark.parametrize("block", LOADABLE, ids=str)
def test_a_yaml_snippet_loads(block: Block, tmp_path: Path):
    written = yaml.safe_load(block.text)
    if block.info == "yaml fragment model":
        gateway = {"models": {"model": written}}
    elif block.info == "yaml fragment gateway":
        gateway = {"models": {"model": {"backend": "some"}}, **written}
    elif block.info in ("yaml", "yaml fragment"):
        gateway = written if "models" in written else {"models": {"model": {"backend": "written"}}}
    else:
        raise AssertionError(f"no such kind of snippet: {block.info}")
    descriptors = {} if "models" in written or "server" not in written else {"written": block.text}
    place(tmp_path, gateway, descriptors)
    config = load(tmp_path / "gateway.yaml")
    assert config.models


def place(folder: Path, gateway: dict[str, Any], descriptors: dict[str, str]) -> None:
    """Write a configuration, and the backends and files that it names and a snippet does not show."""
    backends = folder / gateway.setdefault("backends", "backends/")
    backends.mkdir(parents=True)
    for one in gateway["models"].values():
        named = [one.get("backend"), *(target["backend"] for target in one.get("targets", []))]
        named.append(one.get("mirror", {}).get("backend"))
        for name in filter(None, named):
            (backends / f"{name}.yaml").write_text("server: kserve\nmodel: m\nendpoints: [10.0.0.1:8000]\n")
        for name, content in (
            (one.get("input", {}).get("schema"), '{"type": "object"}'),
            (one.get("output", {}).get("labels"), "\n".join("abcdefghij")),
        ):
            if isinstance(name, str):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(content)
    for name, text in descriptors.items():
        (backends / f"{name}.yaml").write_text(text)
    (folder / "gateway.yaml").write_text(yaml.safe_dump(gateway))


def test_the_mistakes_that_are_shown_are_told_in_the_words_that_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("backends").mkdir()
    page = [block for block in BLOCKS if block.page == DOCS / "configuration.md"]
    broken = {block.info.split()[-1]: block.text for block in page if block.info.startswith("yaml broken")}
    [told] = [block.text for block in page if block.info == "text errors"]
    Path("gateway.yaml").write_text(broken.pop("gateway"))
    for name, text in broken.items():
        Path("backends", f"{name}.yaml").write_text(text)
    loaded = load_with_sources(Path("gateway.yaml"))
    assert "".join(f"{error}\n" for error in loaded.errors) == told


PARTS = [Document, model.State, model.Model, model.Target, model.Mirror, model.Input, model.Tensor, model.Image]
PARTS += [model.Output, model.Backend, model.Endpoint, model.Health, model.Run]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_key_is_documented(part: Any):
    page = (DOCS / "configuration.md").read_text()
    cells = re.findall(r"^\| `([a-z_.\[\]]+)` \|", page, re.MULTILINE)
    rows = {name for cell in cells for name in re.split(r"[.\[\]]+", cell)}
    mappings = {name for mapping in re.findall(r"`\{([a-z_, ]+)\}`", page) for name in mapping.split(", ")}
    keys = {field.alias or name for name, field in part.model_fields.items()}
    assert keys - rows - mappings == set()


def test_everything_that_is_refused_by_name_is_documented():
    page = (DOCS / "configuration.md").read_text()
    section = page.partition("## What this version refuses by name")[2]
    named = set().union(*later.KEYS.values(), *later.VALUES.values())
    assert {
        name for name in named if name.rstrip(":") not in section.replace("postgresql", "postgresql postgres")
    } == set()


# -- links ----------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


# -- commands -------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[Path, str]]:
    """Every `isg ...` in a code block or in backticks. (`isg` and two spaces head a line of `isg up`'s output.)"""
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = page.read_text().replace("\\\n", " ")
        code = [found[1] for found in re.finditer(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
        code += re.findall(r"^    (.*)$", text, re.MULTILINE)
        code += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        for piece in code:
            for found in re.finditer(r"(?:^|(?<=[\s/(]))isg ([a-z-][^\n;|()]*)", piece, re.MULTILINE):
                yield page, found[1]


COMMANDS = sorted({(shown(page), command.strip()) for page, command in commands()})


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_exists_with_its_options(page: str, line: str):
    words = shlex.split(line, comments=True)
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: isg {line}"
        command, words = found, words[1:]
    context = click.Context(command, info_name=command.name, ignore_unknown_options=False)
    try:
        _, rest, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        raise AssertionError(f"{page}: isg {line}: {error.format_message()}") from error
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    assert len(rest) == 0 or arguments or isinstance(command, click.Group), f"{page}: isg {line}: {rest}"


# -- metrics --------------------------------------------------------------------------------------------------


def metrics() -> set[str]:
    """The names of all metrics, as they are exposed."""
    registry = CollectorRegistry()
    XdsMetrics(registry, ())
    ConfigMetrics(registry)
    payload = CollectorRegistry()
    PayloadMetrics(payload)
    authz = AuthzMetrics()
    authz.watch(keys=lambda: 0, key_store_up=lambda: True, policy_up=lambda: True)
    families = [family for one in (registry, payload, authz.registry) for family in one.collect()]
    ours = [family for family in families if family.name.startswith("isg_")]
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in ours}


def strings(folder: Path) -> set[str]:
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_metrics_in_code_and_in_the_documentation_are_the_same():
    page = (DOCS / "operations.md").read_text()
    rows = set(re.findall(r"^\| `(isg_[a-z_]+)` \|", page, re.MULTILINE))
    assert rows == metrics()


def test_no_metric_is_made_where_this_module_does_not_look():
    known = {name.removesuffix("_total") for name in metrics()}
    named = {name for package in PACKAGES for name in strings(ROOT / package) if re.fullmatch(r"isg_[a-z_]+", name)}
    assert {name.removesuffix("_total") for name in named} - known == {"isg_problem"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=shown)
def test_a_metric_that_is_named_anywhere_exists(page: Path):
    named = set(re.findall(r"\bisg_[a-z][a-z_]*[a-z]\b(?!_)", page.read_text()))
    keys = {name for name in named if re.match(r"isg_(live|test|demo)(_|\Z)", name)}
    assert named - keys - metrics() == set()


# -- codes of refusals ----------------------------------------------------------------------------------------

CODE = re.compile(r"[a-z][a-z0-9_]*\Z")


def takers(nodes: list[ast.AST]) -> dict[str, int]:
    """Functions and classes with a parameter `code`, and its place."""
    functions = [(node.name, node) for node in nodes if isinstance(node, ast.FunctionDef)]
    functions += [
        (node.name, one)
        for node in nodes
        if isinstance(node, ast.ClassDef)
        for one in node.body
        if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    ]
    found = {}
    for name, function in functions:
        names = [argument.arg for argument in function.args.args if argument.arg != "self"]
        if "code" in names:
            found[name] = names.index("code")
    return found


def given_codes(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """What is given to a parameter `code`, or assigned to that name."""
    places = takers(nodes)
    for node in nodes:
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in places:
                yield from node.args[places[name] : places[name] + 1]
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "code" for target in node.targets):
            yield node.value


def codes() -> set[str]:
    """The code of every Problem that the code can make."""
    roots = [ROOT / "ext_authz", ROOT / "ext_proc", ROOT / "control_plane" / "translate"]
    trees = [ast.parse(path.read_text()) for root in roots for path in root.rglob("*.py")]
    found = {reply.code for reply in LOCAL_REPLIES}
    for value in given_codes([node for tree in trees for node in ast.walk(tree)]):
        choices = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        found |= {one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {code for code in found if CODE.match(code)}


def test_codes_in_code_and_in_the_documentation_are_the_same():
    page = (DOCS / "requests.md").read_text()
    assert set(re.findall(r"^\| \d{3} \| `([a-z0-9_]+)` \|", page, re.MULTILINE)) == codes()


@pytest.mark.parametrize("reply", LOCAL_REPLIES, ids=lambda reply: f"{reply.status}-{reply.code}")
def test_envoys_replies_have_the_status_that_is_documented(reply: Any):
    page = (DOCS / "requests.md").read_text()
    assert f"| {reply.status} | `{reply.code}` |" in page
