"""DVC's remotes as the project's configuration names them; credentials come from the environment alone."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from flows.adapters.versioning import require_repository, run_dvc
from flows.errors import InputError


def read_remotes(root: Path) -> tuple[dict[str, str], str | None]:
    """URL by name, and the name of the default remote. Raises ProjectError when `root` is no DVC repository."""
    require_repository(root)
    from dvc.config import Config

    config = Config(str(root / ".dvc"))
    return {name: str(remote["url"]) for name, remote in config["remote"].items()}, config["core"].get("remote")


def add_remote(root: Path, name: str, url: str) -> bool:
    """Write a remote into .dvc/config, the first as the default; say whether it is.

    Raises:
        InputError: The name is taken or none, or the URL holds credentials.
    """
    known, default = read_remotes(root)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{name!r} is no name for a remote", "Use letters, digits, points, - and _")
    if name in known:
        raise InputError(f"there is a remote {name} already: {known[name]}", "Take another name")
    if not url.strip():
        raise InputError("the URL is empty", "Expected a folder, or s3://BUCKET/FOLDER")
    parts = urlsplit(url)
    if parts.scheme and (parts.password or (parts.scheme == "s3" and "@" in parts.netloc)):
        raise InputError(
            "the URL holds credentials, and .dvc/config is committed",
            "Leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )
    run_dvc(root, "remote", "add", "--quiet", *([] if default else ["--default"]), name, url)
    return not default
