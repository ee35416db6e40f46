"""A signed token in the name of whoever let a job into its protected environment."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.adapters import github
from flows.approving import TOKEN, approve_by_token
from flows.errors import InputError
from flows.rollout.journal import open_journal
from flows.rollout.tokens import new_claims, sign_token
from flows.settings import Project


def sign_agreement(who: str, digest: str, promotion: int, valid_s: float) -> tuple[str, str]:
    """A token that agrees to one promotion of one challenger, and who agrees by it.

    Who is, unless named, whoever let this run into its protected environment. The private key is the text of
    TCA_APPROVAL_PRIVATE_KEY, a secret of that environment, or the file that TCA_APPROVAL_KEY names.

    Raises:
        InputError: There is no key, or nobody agreed.
        OutsideError: GitHub does not say who.
    """
    who = who or _reviewers()
    claims = new_claims(who, digest, promotion, time.time(), valid_s)
    with _private_key() as path:
        token = sign_token(path, claims)
    github.write_outputs({"token": token})
    return token, who


def hand_in_agreement(project: Project) -> str | None:
    """Write down what the token in TCA_APPROVAL_TOKEN agrees to, and say it; None where there is nothing to do.

    That is so without a token, without an open promotion, and when a job is run again that has done it already.

    Raises:
        InputError: The token is not genuine, too old, or about another promotion.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token or not project.journal.exists():
        return None
    with open_journal(project.journal) as journal:
        entry = journal.open_entry()
        if entry is None or any(one.token_id == token for one in journal.approvals(entry.id)):
            return None
    return approve_by_token(project, entry.id, token)


def _reviewers() -> str:
    run = github.read_workflow()
    found = github.read_reviewers(run) if run is not None else []
    if not found:
        raise InputError(
            "nobody has agreed: this is no job of a protected environment",
            "Name who agrees: --by NAME; on GitHub: give the environment required reviewers",
        )
    return ", ".join(dict.fromkeys(found))


@contextmanager
def _private_key() -> Iterator[Path]:
    """The file of the key; a key that comes as text is gone from disk afterwards."""
    text = os.environ.get("TCA_APPROVAL_PRIVATE_KEY", "")
    if not text:
        named = os.environ.get("TCA_APPROVAL_KEY", "")
        if not named:
            raise InputError(
                "there is no key to sign with", "Set TCA_APPROVAL_PRIVATE_KEY (text) or TCA_APPROVAL_KEY (file)"
            )
        yield Path(named)
        return
    with tempfile.TemporaryDirectory(prefix="tca-key-") as folder:
        path = Path(folder) / "key"
        path.touch(mode=0o600)
        path.write_text(text.strip() + "\n", encoding="utf-8")
        yield path
