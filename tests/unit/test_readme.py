"""What the README promises is there: the front matter of a Space, make targets, commands, files, versions."""

from __future__ import annotations

import re
import shlex

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from qlora_demo.__main__ import build_parser
from qlora_demo.ui import TITLE
from tests.hub_writes import check_card
from tests.serving import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# huggingface.co/docs/hub/spaces-config-reference
SPACE_KEYS = set(
    (
        "title emoji colorFrom colorTo sdk python_version sdk_version suggested_hardware app_file app_port "
        "base_path fullWidth header short_description models datasets tags thumbnail pinned hf_oauth "
        "hf_oauth_scopes hf_oauth_expiration_minutes hf_oauth_authorized_org disable_embedding "
        "startup_duration_timeout custom_headers preload_from_hub license"
    ).split()
)
_, FRONT, BODY = README.split("---\n", 2)


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower(): Version(version) for name, _, version in (line.partition("==") for line in lines) if version}


def test_the_front_matter_is_a_spaces() -> None:
    found = yaml.safe_load(FRONT)
    assert found["sdk"] == "gradio" and found["python_version"] == "3.12" and found["title"] == TITLE
    assert Version(found["sdk_version"]) == pinned()["gradio"]
    assert (ROOT / found["app_file"]).is_file() and found["license"] == "apache-2.0"
    assert check_card(README, "space") == ([], []) and set(found) <= SPACE_KEYS
    assert found["hf_oauth"] is True and found["hf_oauth_scopes"] == ["contribute-repos"], "no more than is needed"
    for line in found["preload_from_hub"]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+( [\w.,-]+)?( [0-9a-f]{40})?", line), line


def test_a_spaces_python_and_packages_fit_each_other() -> None:
    """ZeroGPU offers 3.12, and torch in versions that requirements.txt must not shut out."""
    found = yaml.safe_load(FRONT)
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    wanted = {requirement.name.lower(): requirement.specifier for requirement in map(Requirement, lines)}
    assert wanted["gradio"].contains(found["sdk_version"])
    for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0"):
        assert wanted["torch"].contains(version), version
    assert "spaces" not in wanted, "a Space brings its own"
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    for name, versions in wanted.items():
        assert versions.contains(pinned()[name]), f"the version of {name} that is tested"


def test_named_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", BODY, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", BODY):
        assert (ROOT / path).exists(), path


def test_commands_parse() -> None:
    commands = re.findall(r"^python -m qlora_demo (.+)$", BODY, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        assert callable(build_parser().parse_args(shlex.split(command)).command), command
