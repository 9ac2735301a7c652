"""Results in one JSON file, so that an interrupted run continues with the first prompt that has no result."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


class Results:
    """Results by name, written to the file as soon as each is there.

    Args:
        path (`Path`):
            The JSON file.
        identity (`dict`):
            The settings that the results belong to. A file with other settings is ignored, and replaced when the first
            result is saved.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.steps: dict[str, Any] = self._read()

    def __contains__(self, step: str) -> bool:
        return step in self.steps

    def __getitem__(self, step: str) -> Any:
        return self.steps[step]

    def save(self, step: str, result: Any) -> None:
        """Adds a result and replaces the file in one step, so that an interrupted write leaves the earlier file."""
        self.steps[step] = result
        content = {"key": self.key, "settings": self.identity, "results": self.steps}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, self.path)

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        content = json.loads(self.path.read_text(encoding="utf-8"))
        return dict(content["results"]) if content.get("key") == self.key else {}
