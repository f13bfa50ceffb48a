"""Rules of the repository that no linter knows."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "control_plane", "ext_authz", "ext_proc", "backends")
#: 300 lines are a concept; these hold one that is longer, for the reason given.
LONGER: dict[str, str] = {}
VAGUE = {"utils", "util", "helpers", "common", "manager", "misc", "base"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_no_python_lies_in_the_envoy_folder_where_it_would_hide_the_envoy_package():
    assert list((ROOT / "envoy").rglob("*.py*")) == []


def test_a_module_is_one_concept_of_at_most_300_lines():
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in sizes.items() if lines > 300 and name not in LONGER} == {}


def test_no_module_has_a_name_that_says_nothing():
    assert [path for path in modules() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_every_module_and_package_says_what_it_is_for():
    missing = [path for path in modules() if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert missing == []


@pytest.mark.parametrize("folder", ["backends", "envoy", "docs", "examples/quickstart"])
def test_every_folder_of_data_explains_itself(folder: str):
    assert (ROOT / folder / "README.md").is_file()


def test_links_between_the_documents_lead_somewhere():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_no_committed_file_names_a_folder_of_somebodys_machine():
    places = re.compile(rb"(?<![\w.])/(?:work|home/\w+|root|Users/\w+)/")
    hits = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix not in {".png", ".jpg", ".binpb"} and path != Path(__file__) and places.search(path.read_bytes())
    ]
    assert hits == []


def test_every_target_of_the_makefile_is_listed_and_what_is_promised_is_there():
    listing = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[1] for line in listing.splitlines()}
    assert {"help", "setup", "run", "test", "check", "bench", "golden", "lock"} <= listed


@pytest.mark.parametrize("script", [".ci/run", "scripts/lock", "scripts/test-packages"])
def test_scripts_can_be_run_and_parsed(script: str):
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].rpartition("/")[2].rpartition(" ")[2]
    subprocess.run([shell, "-n", str(path)], check=True)


def _locked(file: str) -> set[str]:
    text = (ROOT / file).read_text()
    return {_normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in requirements}


def _declared() -> dict[str, set[str]]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    return {
        "run": _names(project["dependencies"]),
        **{extra: _names(listed) for extra, listed in project["optional-dependencies"].items()},
        "build": _names(document["dependency-groups"]["build"]),
    }


def test_the_lock_files_hold_everything_that_is_declared():
    declared = _declared()
    assert set().union(*declared.values()) <= _locked("requirements.lock")
    in_containers = _locked("requirements.containers.lock")
    assert declared["run"] | declared["demo"] | declared["build"] <= in_containers
    assert not in_containers & (declared["envoy"] | {"pytest", "mypy"})


@pytest.mark.parametrize("file", ["requirements.lock", "requirements.containers.lock"])
def test_the_lock_files_name_no_host_and_hash_every_package(file: str):
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_every_dependency_has_its_reason():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    first_cells = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    explained = {_normal(name) for name in re.findall(r"[A-Za-z0-9_.-]+", first_cells)}
    assert sorted(set().union(*_declared().values()) - explained) == []
