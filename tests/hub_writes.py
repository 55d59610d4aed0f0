"""The side of the local Hub of tests that is written to: repositories created, files uploaded and committed, cards
checked.

Speaks what huggingface_hub 2.4 sends without Xet: preupload, the LFS batch, a PUT to the other origin, verify, then one
commit in NDJSON. Knows who may write where; how a request comes in and an answer goes out is hub_server's."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from tests.hub_files import LFS_SUFFIXES, Commit, File, Refusal, Repo

INLINE_BYTES = 10_000_000  # larger files go to LFS whatever they are called
ATTRIBUTES = ".gitattributes"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
_LICENCES = """apache-2.0 mit cc-by-4.0 cc-by-sa-4.0 cc0-1.0 gpl-3.0 bsd-3-clause openrail other unknown llama3 mpl-2.0
lgpl-3.0 agpl-3.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 gemma unlicense"""
_TEXTS = "library_name pipeline_tag license_name license_link base_model_relation title emoji sdk app_file"
_LISTS = "tags datasets metrics language base_model license models hf_oauth_scopes preload_from_hub"
_ONLY_LISTS = "tags model-index models hf_oauth_scopes preload_from_hub"
LICENCES, TEXTS, LISTS, ONLY_LISTS = (frozenset(names.split()) for names in (_LICENCES, _TEXTS, _LISTS, _ONLY_LISTS))


def check_card(content: str, kind: str) -> tuple[list[str], list[str]]:
    """(errors, warnings) for the metadata of a README.md, in the words of the real Hub as far as they are known."""
    front = content.split("\n---\n", 1)[0].removeprefix("---\n")
    if not content.startswith("---\n") or "\n---\n" not in content or not front.strip():
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        metadata = yaml.safe_load(front)
    except yaml.YAMLError as error:
        return [f"YAML parsing error: {str(error).splitlines()[0]}"], []
    if not isinstance(metadata, dict):
        return ['"value" must be of type object'], []
    errors = [f'"{name}" must be a string' for name in TEXTS & metadata.keys() if not isinstance(metadata[name], str)]
    for name in (LISTS | ONLY_LISTS) & metadata.keys():
        value = metadata[name]
        if not isinstance(value, list) and (name in ONLY_LISTS or not isinstance(value, str)):
            errors.append(f'"{name}" must be an array')
        elif isinstance(value, list) and name != "model-index" and not all(isinstance(item, str) for item in value):
            errors.append(f'"{name}[0]" must be a string')
    stated = metadata.get("license")
    if isinstance(stated, str) and stated not in LICENCES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENCES))}]')
    errors += [error for item in metadata.get("model-index") or [] for error in _check_results(item)]
    if kind == "space":
        errors += [
            f'"{name}" must be one of [{", ".join(sorted(COLOURS))}]'
            for name in ("colorFrom", "colorTo")
            if metadata.get(name, "red") not in COLOURS
        ]
        if len(str(metadata.get("short_description", ""))) > 60:
            errors.append('"short_description" length must be less than or equal to 60 characters long')
        if "sdk" not in metadata:
            errors.append('"sdk" is required')
    return errors, []


def _check_results(item: Any) -> list[str]:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not isinstance(item.get("results"), list):
        return ['"model-index[0]" must have a name and results']
    whole = all(
        isinstance(result, dict)
        and {"task", "dataset", "metrics"} <= result.keys()
        and {"type", "name"} <= result["dataset"].keys()
        and "type" in result["task"]
        and all({"type", "value"} <= metric.keys() for metric in result["metrics"])
        for result in item["results"]
    )
    needed = "a task, a dataset with type and name, and metrics with type and value"
    return [] if whole else [f'"model-index[0].results[0]" must have {needed}']


class Writes:
    """A mixin of the hub's request handler, which has `hub`, `body`, `user`, `repo`, `send_json` and `start`."""

    hub: Any
    body: bytes
    headers: Any
    start: Any
    send_json: Any
    user: Any
    repo: Any

    # -- who may write -------------------------------------------------------------------------------------------------
    def writer(self) -> str:
        user = self.user()
        if user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if self.hub.roles.get(self.headers["Authorization"].removeprefix("Bearer ")) == "read":
            raise Refusal(403, "", "Forbidden: you must use a write token to upload to a repository.")
        return user

    def writable(self, kind: str, repo_id: str) -> Repo:
        user, repo = self.writer(), self.repo(kind, repo_id)
        if repo_id.partition("/")[0] not in self.namespaces(user):
            raise Refusal(403, "", "Forbidden: You don't have the required permissions to write to this repository.")
        return repo

    def namespaces(self, user: str) -> set[str]:
        return {user} | {name for name, role in self.hub.orgs.get(user, {}).items() if role != "read"}

    def check_quota(self, new_bytes: int) -> None:
        used = sum(path.stat().st_size for path in self.hub.store.iterdir())
        if self.hub.quota_bytes is not None and used + new_bytes > self.hub.quota_bytes:
            words = "please upgrade your plan to increase your private storage limit."
            raise Refusal(403, "", f"Private repository storage limit reached, {words}")

    # -- endpoints -----------------------------------------------------------------------------------------------------
    def create_repo(self) -> Any:
        user, asked = self.writer(), json.loads(self.body)
        owner, kind = asked.get("organization") or user, asked.get("type") or "model"
        repo_id = f"{owner}/{asked['name']}"
        if owner not in self.namespaces(user):
            raise Refusal(403, "", f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        place = repo_id if kind == "model" else f"{kind}s/{repo_id}"
        if (f"{kind}s", repo_id) in self.hub.repos:
            said = f"You already created this {kind} repo"
            return self.send_json({"error": said, "url": f"{self.hub.url}/{place}"}, 409, {"X-Error-Message": said})
        repo = Repo(f"{kind}s", repo_id, private=asked.get("visibility") == "private", readers={user})
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))
        files = {ATTRIBUTES: self.keep(attributes.encode())}
        repo.add(Commit(hashlib.sha1(repo_id.encode()).hexdigest(), files, "initial commit"))
        self.hub.repos[f"{kind}s", repo_id] = repo
        return self.send_json({"url": f"{self.hub.url}/{place}", "name": repo_id, "id": "0" * 24})

    def create_branch(self, kind: str, id: str, revision: str) -> None:
        repo, asked = self.writable(kind, id), json.loads(self.body or b"{}")
        if revision in repo.branches:
            raise Refusal(409, "", f"Reference already exists: refs/heads/{revision}")
        repo.branches[revision] = repo.commit(asked.get("startingPoint") or "main").sha
        self.send_json({})

    def validate_yaml(self) -> None:
        asked = json.loads(self.body)
        errors, warnings = check_card(asked["content"], asked["repoType"])
        answer = {
            name: [{"message": text} for text in texts] for name, texts in (("errors", errors), ("warnings", warnings))
        }
        self.send_json(answer, 400 if errors else 200)

    def preupload(self, kind: str, id: str, revision: str) -> None:
        commit = self.writable(kind, id).commit(revision)
        answers = []
        for asked in json.loads(self.body)["files"]:
            large = Path(asked["path"]).suffix in LFS_SUFFIXES or asked["size"] > INLINE_BYTES
            answer = {"path": asked["path"], "shouldIgnore": False, "uploadMode": "lfs" if large else "regular"}
            if file := commit.files.get(asked["path"]):
                answer["oid"] = file.lfs["oid"] if file.lfs else file.oid
            answers.append(answer)
        self.send_json({"commitOid": commit.sha, "files": answers})

    def lfs_batch(self, id: str, kind: str = "models") -> None:
        self.writable(kind, id)
        objects = json.loads(self.body)["objects"]
        self.check_quota(sum(item["size"] for item in objects if not self.stored(item["oid"]).exists()))
        place = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{id}.git/info/lfs/objects/verify"
        for item in objects:
            if not self.stored(item["oid"]).exists():
                # The signature stands for one that must not be logged, and no token goes to this origin.
                upload = {"href": f"{self.hub.cdn_url}/cdn/upload/{item['oid']}?X-Amz-Signature=secret"}
                item["actions"] = {"upload": upload, "verify": {"href": place}}
        self.send_json({"transfer": "basic", "objects": objects})

    def lfs_store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "", "The provided 'x-amz-content-sha256' header does not match what was computed.")
        self.stored(oid).write_bytes(self.body)
        self.start(200, {"Content-Length": 0, "ETag": f'"{oid}"'})

    def lfs_verify(self, id: str, kind: str = "models") -> None:
        self.writable(kind, id)
        asked, path = json.loads(self.body), self.stored(json.loads(self.body)["oid"])
        if not path.exists() or path.stat().st_size != asked["size"]:
            raise Refusal(404, "", "Object does not exist or has another size.")
        self.send_json({})

    def write_commit(self, kind: str, id: str, revision: str) -> None:
        repo = self.writable(kind, id)
        before, lines = repo.commit(revision), [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if revision not in repo.branches:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if header.get("parentCommit") not in (None, before.sha):
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(before.files)
        for line in lines[1:]:
            self.apply(files, line["key"], line["value"])
        files = dict(sorted(files.items()))
        sha = repo.add(Commit(Commit.name(files, before.sha), files, header["summary"]), revision)
        place = f"{self.hub.url}/{id}/commit/{sha}"
        self.send_json({"success": True, "commitOid": sha, "commitUrl": place, "hookOutput": ""})

    def apply(self, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = self.keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self.stored(value["oid"]).exists():
                raise Refusal(422, "", "LFS pointer pointed to a file that does not exist")
            files[path] = File(self.stored(value["oid"]), in_lfs=True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]
        else:
            raise Refusal(400, "", f"Unknown operation {key}")

    # -- what is kept --------------------------------------------------------------------------------------------------
    def stored(self, oid: str) -> Path:
        return self.hub.store / oid

    def keep(self, content: bytes) -> File:
        place = self.stored(hashlib.sha256(content).hexdigest())
        place.write_bytes(content)
        return File(place, in_lfs=False)
