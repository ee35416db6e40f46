"""A registry in a file, for controllers that die: alias and pointer are two writes, as in the real one."""

from __future__ import annotations

import json
from pathlib import Path

from flows.rollout.traffic import Contender


class FileRegistry:
    """Who reigns, by `alias.json` and `pointer.json` in `folder`; `history.jsonl` has every enthronement."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def champion(self) -> Contender | None:
        return _read(self._folder / "alias.json")

    def pointer(self) -> Contender | None:
        return _read(self._folder / "pointer.json")

    def set_champion(self, version: str, digest: str) -> None:
        text = json.dumps({"version": version, "digest": digest})
        with (self._folder / "history.jsonl").open("a") as history:
            history.write(text + "\n")
        for name in ("alias", "pointer"):
            draft = self._folder / f"{name}.draft"
            draft.write_text(text)
            draft.replace(self._folder / f"{name}.json")

    def clear_champion(self) -> None:
        for name in ("alias", "pointer"):
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def history(self) -> list[str]:
        """Versions in the order of their enthronements."""
        path = self._folder / "history.jsonl"
        return [json.loads(line)["version"] for line in path.read_text().splitlines()] if path.exists() else []


def _read(path: Path) -> Contender | None:
    if not path.exists():
        return None
    tree = json.loads(path.read_text())
    return Contender(tree["version"], tree["digest"])
