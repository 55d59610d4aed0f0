"""What lies on the local Hub of tests: repositories, their commits and files, and an answer that is an error."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATE = "2024-02-19T10:57:45.000Z"
LFS_SUFFIXES = {".safetensors", ".bin", ".h5", ".onnx", ".parquet", ".jsonl"}


class Refusal(Exception):
    """An answer that is an error, with the headers from which huggingface_hub chooses its exception."""

    def __init__(self, status: int, code: str, message: str, **headers: str):
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}


class File:
    """One file of a commit: where its bytes are, and the hashes Git and LFS would give it. in_lfs: None = by its
    suffix."""

    def __init__(self, source: Path, in_lfs: bool | None = None):
        self.source, self.size = source, source.stat().st_size
        self.lfs: dict[str, Any] | None = None
        blob = source.read_bytes()
        if source.suffix in LFS_SUFFIXES if in_lfs is None else in_lfs:
            sha256 = hashlib.sha256(blob).hexdigest()
            blob = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {self.size}\n".encode()
            self.lfs = {"oid": sha256, "size": self.size, "pointerSize": len(blob)}
        self.oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        facts = {"type": "file", "oid": self.oid, "size": self.size, "path": path}
        return {**facts, "lfs": self.lfs} if self.lfs else facts


@dataclass
class Commit:
    sha: str
    files: dict[str, File]
    title: str = "Upload"

    @classmethod
    def of(cls, folder: Path, sha: str | None = None) -> Commit:
        files = {p.relative_to(folder).as_posix(): File(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        return cls(sha or cls.name(files), files)

    @staticmethod
    def name(files: dict[str, File], before: str = "") -> str:
        """A sha made from the content, and from what came before."""
        listed = "".join(f"{path} {file.oid}\n" for path, file in files.items())
        return hashlib.sha1((before + listed).encode()).hexdigest()

    def entries(self, under: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        """What the tree endpoint lists below a folder: folders too, each before its content."""
        prefix = under + "/" if under else ""
        found: dict[str, dict[str, Any]] = {}
        for path, file in self.files.items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts)):
                name = prefix + "/".join(parts[:depth])
                found.setdefault(
                    name, {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
                )
            found[path] = file.entry(path)
        return [entry for name, entry in found.items() if recursive or "/" not in name.removeprefix(prefix)]


@dataclass
class Repo:
    kind: str  # "models" or "datasets", as in the API's paths
    id: str
    license: str | None = None
    gated: str | bool = False  # False, "auto" or "manual"
    private: bool = False
    readers: set[str] = field(default_factory=set)  # users who may read a gated or private repository
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)  # name to sha

    @property
    def head(self) -> str:
        return self.branches["main"]

    def add(self, commit: Commit, branch: str = "main") -> str:
        """Make this commit the head of a branch; earlier ones stay reachable by their sha."""
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit.sha

    def commit(self, revision: str) -> Commit:
        found = self.commits.get(self.branches.get(revision, revision))
        if found is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found
