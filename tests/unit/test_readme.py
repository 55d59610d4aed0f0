"""What the README promises is there: the front matter of a Space, make targets, commands, files, versions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from qlora_demo.__main__ import build_parser
from qlora_demo.ui import TITLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_, FRONT, BODY = README.split("---\n", 2)


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower(): Version(version) for name, _, version in (line.partition("==") for line in lines) if version}


def test_the_front_matter_is_a_spaces() -> None:
    found = yaml.safe_load(FRONT)
    assert found["sdk"] == "gradio" and found["python_version"] == "3.12" and found["title"] == TITLE
    assert Version(found["sdk_version"]) == pinned()["gradio"]
    assert (ROOT / found["app_file"]).is_file() and found["license"] == "apache-2.0"
    assert len(found["short_description"]) <= 60


def test_every_requirement_admits_the_version_that_is_tested() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(pinned()[requirement.name.lower()]), line


def test_named_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", BODY, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", BODY):
        assert (ROOT / path).exists(), path


def test_the_first_screen_shows_the_two_commands_and_the_page() -> None:
    first = "\n".join(BODY.strip().splitlines()[:14])
    assert "make run" in first and "make test" in first and "![" in first


def test_commands_parse() -> None:
    commands = re.findall(r"^python -m qlora_demo (.+)$", BODY, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        assert callable(build_parser().parse_args(shlex.split(command)).command), command
