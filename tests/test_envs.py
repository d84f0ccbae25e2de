"""The three environments are one: what pyproject.toml asks for, pinned in the lock, by Python, conda or Apptainer."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
ENVS = REPOSITORY / "envs"
PYTHON = (REPOSITORY / ".python-version").read_text().strip()
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, Requirement]:
    """Every package of the lock, by name."""
    text = (ENVS / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found = {}
    for line in lines:
        package, *hashes = line.split("--hash=")
        assert hashes, f"{package}: no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes), package
        requirement = Requirement(package)
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), package
        assert found.setdefault(canonicalize_name(requirement.name), requirement) is requirement, package
    return found


def asked_for() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for texts in (PROJECT["dependencies"], *extras) for text in texts]


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_the_lock_pins_what_the_project_asks_for(requirement: Requirement) -> None:
    (pin,) = locked()[canonicalize_name(requirement.name)].specifier
    assert requirement.specifier.contains(pin.version)


def test_what_is_installed_here_is_what_the_lock_pins() -> None:
    applying = {name: pin for name, pin in locked().items() if pin.marker is None or pin.marker.evaluate()}
    assert len(applying) > 50
    assert {name: f"=={version(name)}" for name in applying} == {n: str(pin.specifier) for n, pin in applying.items()}


def test_the_project_asks_for_this_python_and_no_other() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{PYTHON}.0")
    major, minor = PYTHON.split(".")
    assert not SpecifierSet(PROJECT["requires-python"]).contains(f"{major}.{int(minor) + 1}.0")


def test_conda_takes_python_and_the_lock_and_nothing_else() -> None:
    environment = yaml.safe_load((ENVS / "environment.yaml").read_text())
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == (f"python={PYTHON}", "pip")
    assert packages == {"pip": ["--requirement requirements.lock"]}  # beside it, as pip reads it


def test_apptainer_takes_python_and_the_lock_and_nothing_else() -> None:
    recipe = (ENVS / "apptainer.def").read_text()
    sections = re.split(r"^%(\w+)\n", recipe, flags=re.M)
    header, parts = sections[0], dict(zip(sections[1::2], sections[2::2], strict=True))
    assert re.search(rf"^From: python:{re.escape(PYTHON)}-", header, re.M)
    ((source, target),) = [line.split() for line in parts["files"].splitlines() if line.strip()]
    assert (REPOSITORY / source) == ENVS / "requirements.lock"
    (install,) = [line.split() for line in parts["post"].splitlines() if line.strip()]
    assert install[:4] == ["python", "-m", "pip", "install"]
    assert {"--require-hashes", "--no-deps"} <= set(install)
    assert install[-2:] == ["-r", target]
