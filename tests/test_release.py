"""What a release consists of: the source distribution, and the wheel that is built and installed from it."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from packaging.metadata import Metadata

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"momentum_jax-{PROJECT['version']}"
# Anything else, such as a log, is there by mistake.
KINDS = {".py", ".typed", ".js", ".css", ".html", ".npz", ".xz", ".md"}

pytestmark = pytest.mark.exhaustive


def run(*command, **options):
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The unpacked source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("release")
    run("hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.iterdir()
    assert archive.name == f"{NAME}.tar.gz"
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def wheel(source):
    run("hatchling", "build", "-t", "wheel", "-d", source.parent / "wheels", cwd=source)
    (built,) = (source.parent / "wheels").iterdir()
    assert built.name == f"{NAME}-py3-none-any.whl"
    return built


def package():
    """Every file of the package in this checkout."""
    paths = (path.relative_to(ROOT) for path in (ROOT / "momentum_jax").rglob("*") if path.is_file())
    return {str(path) for path in paths if "__pycache__" not in path.parts}


def test_the_source_distribution_has_the_package_its_licences_and_what_builds_it(source):
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    beside = {"CHANGELOG.md", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert files == package() | beside
    assert {pathlib.Path(file).suffix for file in files - beside} == KINDS
    assert set(PROJECT["license-files"]) < files


def test_a_wheel_built_from_it_has_the_package_and_the_licences_and_nothing_else(wheel):
    about = f"{NAME}.dist-info"
    with zipfile.ZipFile(wheel) as opened:
        files, content = set(opened.namelist()), opened.read(f"{about}/METADATA")
    licences = {f"{about}/licenses/{name}" for name in PROJECT["license-files"]}
    records = {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert files == {file for file in package() if not file.endswith("README.md")} | licences | records
    # Every field follows the standard, or this raises.
    metadata = Metadata.from_email(content)
    assert metadata.description == (ROOT / "README.md").read_text()
    assert metadata.description_content_type == "text/markdown"
    assert metadata.license_expression == PROJECT["license"]
    assert metadata.license_files == PROJECT["license-files"]
    assert len(metadata.requires_dist) == len(PROJECT["dependencies"]) + sum(
        map(len, PROJECT["optional-dependencies"].values())
    )


def test_what_is_installed_from_it_says_its_version_and_finds_its_data(wheel, tmp_path):
    run("pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target", tmp_path / "site", wheel)
    code = """if True:
        import importlib.metadata
        import momentum_jax as mj
        from momentum_jax.tasks.datasets import load_text

        print(mj.__file__, importlib.metadata.version("momentum-jax"))
        print(len(mj.load_dataset("mnist").x_train), len(load_text("shakespeare").documents))
    """
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    there = tmp_path / "site" / "momentum_jax" / "__init__.py"
    assert printed.splitlines() == [f"{there} {PROJECT['version']}", "60000 10"]


def test_the_citation_has_the_version_and_so_has_the_newest_heading_of_the_changelog_unless_it_is_not_released():
    assert f"version = {{{PROJECT['version']}}}" in (ROOT / "momentum_jax" / "README.md").read_text()
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert heading.partition(" ")[0] in ("Unreleased", PROJECT["version"])
