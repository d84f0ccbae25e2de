"""The three environments are one: what pyproject.toml asks for, pinned in the lock, by Python, conda or Apptainer."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import snakemake
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
    assert packages.keys() == {"pip"}  # no file beside it: snakemake copies this one to a folder of its own
    listed = [Requirement(text) for text in packages["pip"]]
    assert {canonicalize_name(one.name): one for one in listed} == locked()
    assert len(listed) == len(locked())


def test_conda_s_file_is_made_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    for file in ("Makefile", "envs/environment.yaml", "envs/requirements.lock"):
        shutil.copy(REPOSITORY / file, tmp_path / file)
    lock = tmp_path / "envs/requirements.lock"
    lock.write_text(lock.read_text().replace("torch==", "torch==9."))
    subprocess.run(["make", "envs/environment.yaml"], cwd=tmp_path, check=True, capture_output=True)
    ours, made = (ENVS / "environment.yaml").read_text(), (tmp_path / "envs/environment.yaml").read_text()
    assert made == ours.replace("torch==", "torch==9.")
    assert made != ours


CONDA = """\
#!/bin/sh
# As much of conda as snakemake asks for: an environment is this one once more.
case "$1 $2" in
    "info --json") echo '{{"conda_prefix": "{conda}", "platform": "linux-64"}}' ;;
    "--version ") echo "conda 25.1.0" ;;
    "config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    "env create") for prefix; do :; done; ln -s {this} "$prefix" ;;
esac
"""


def test_with_conda_jobs_find_this_repository_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conda, run = tmp_path / "conda", tmp_path / "run"
    (conda / "bin").mkdir(parents=True)
    run.mkdir()
    (conda / "bin/conda").write_text(CONDA.format(conda=conda, this=sys.prefix))
    (conda / "bin/conda").chmod(0o755)
    (conda / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    monkeypatch.setenv("PATH", f"{conda / 'bin'}{os.pathsep}{os.environ['PATH']}")
    done = snakemake(run, "results/tiny/encoders/mfcc/config.json", "--sdm", "conda")
    assert done.returncode == 0, done.stderr
    (copied,) = (run / ".snakemake/conda").glob("*.yaml")
    assert copied.read_bytes() == (ENVS / "environment.yaml").read_bytes()
    assert "Activating conda environment: .snakemake/conda/" in done.stderr


def test_unlocking_sets_up_nothing_under_jobs_that_still_run(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "envs/requirements.lock").touch()  # newer than .venv, of which there is none
    dry = ["make", "-n", "--no-print-directory"]
    done = subprocess.run([*dry, "unlock"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == ".venv/bin/python -m workflow.unlock\n"
    done = subprocess.run([*dry, "env"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "venv --clear .venv" in done.stdout
    assert "pytest" not in done.stdout


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
