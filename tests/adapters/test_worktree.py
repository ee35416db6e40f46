from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.adapters.worktree import apply_changes, fresh_worktree, has_commit, read_changes, read_commit, sweep
from flows.errors import OutsideError, ProjectError
from tests.projects import ROOT, run

PATHS = ("code", "settings.toml", "never_there")


def git(root: Path, *arguments: str) -> str:
    return run(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "code").mkdir(parents=True)
    (root / "code" / "a.py").write_text("a = 1\nb = 2\n")
    (root / "code" / "gone.py").write_text("c = 3\n")
    (root / "settings.toml").write_text("x = 1\n")
    (root / "secret.env").write_text("TOKEN=old\n")
    (root / ".gitignore").write_text("*.pyc\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def make_dirty(root: Path) -> dict[str, bytes]:
    """Change, add and remove files; return what the sources consist of afterwards."""
    (root / "code" / "a.py").write_text("a = 1\nb = 'zwei – δύο'\n", encoding="utf-8")
    (root / "code" / "gone.py").unlink()
    (root / "code" / "new").mkdir()
    (root / "code" / "new" / "module with space.py").write_text("d = 4")
    (root / "code" / "blob.bin").write_bytes(bytes(range(256)))
    (root / "code" / "cache.pyc").write_text("ignored")
    (root / "secret.env").write_text("TOKEN=new\n")
    return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    found = [*(root / "code").rglob("*"), root / "settings.toml"]
    return {str(p.relative_to(root)): p.read_bytes() for p in found if p.is_file() and p.suffix != ".pyc"}


def worktrees(root: Path) -> int:
    return git(root, "worktree", "list", "--porcelain").count("worktree ")


def test_a_clean_tree_has_no_changes(repository: Path) -> None:
    assert read_changes(repository, PATHS) == (b"", ())
    assert read_changes(repository, ("never_there",)) == (b"", ())


def test_changes_carry_over_to_a_fresh_tree_and_leave_the_repository_alone(repository: Path) -> None:
    git(repository, "config", "core.autocrlf", "false")
    wanted = make_dirty(repository)
    (repository / "settings.toml").write_text("x = 2\n")
    git(repository, "add", "settings.toml")  # staged changes count, too
    wanted["settings.toml"] = b"x = 2\n"
    before = git(repository, "status", "--porcelain"), git(repository, "count-objects")
    patch, names = read_changes(repository, PATHS)
    assert (git(repository, "status", "--porcelain"), git(repository, "count-objects")) == before
    assert set(names) == {
        "code/a.py",
        "code/gone.py",
        "code/new/module with space.py",
        "code/blob.bin",
        "settings.toml",
    }
    assert b"TOKEN" not in patch
    with fresh_worktree(repository, str(read_commit(repository))) as tree:
        apply_changes(tree.root, patch.decode())
        assert contents(tree.root) == wanted
        assert (tree.root / "secret.env").read_text() == "TOKEN=old\n"
    assert not tree.folder.exists()
    assert worktrees(repository) == 1
    assert (git(repository, "status", "--porcelain"), git(repository, "count-objects")) == before


def test_a_project_may_be_a_folder_of_a_larger_repository(tmp_path: Path, repository: Path) -> None:
    inner = repository / "inner" / "project"
    (inner / "code").mkdir(parents=True)
    (inner / "code" / "a.py").write_text("one\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "inner")
    (inner / "code" / "a.py").write_text("two\n")
    (repository / "code" / "a.py").write_text("outside\n")
    patch, names = read_changes(inner, PATHS)
    assert names == ("code/a.py",)
    with fresh_worktree(inner, str(read_commit(inner))) as tree:
        assert tree.root == tree.folder / "tree" / "inner" / "project"
        apply_changes(tree.root, patch.decode())
        assert (tree.root / "code" / "a.py").read_text() == "two\n"
        assert (tree.folder / "tree" / "code" / "a.py").read_text() == "a = 1\nb = 2\n"


def test_the_tree_goes_when_the_body_fails_and_stays_when_kept(repository: Path) -> None:
    commit = str(read_commit(repository))
    with pytest.raises(KeyboardInterrupt), fresh_worktree(repository, commit) as tree:
        raise KeyboardInterrupt
    assert not tree.folder.exists()
    with fresh_worktree(repository, commit, keep=True) as kept:
        pass
    sweep(repository)
    assert (kept.root / "code" / "a.py").is_file()
    shutil.rmtree(kept.folder)
    sweep(repository)
    assert worktrees(repository) == 1


def test_a_tree_of_the_users_own_is_not_forgotten_while_its_disk_is_away(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "worktree", "add", "-q", "--detach", str(tmp_path / "away")], cwd=repository, check=True)
    (tmp_path / "away").rename(tmp_path / "elsewhere")
    with fresh_worktree(repository, "HEAD"):
        pass
    sweep(repository)
    assert worktrees(repository) == 2


def test_the_tree_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(repository: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from flows.adapters.worktree import fresh_worktree\n"
        "with fresh_worktree(Path(sys.argv[1]), 'HEAD') as tree:\n"
        "    print(tree.folder, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", hold, str(repository)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    folder = Path(holder.stdout.readline().strip())
    try:
        sweep(repository)
        assert (folder / "tree" / "settings.toml").is_file()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert worktrees(repository) == 2
    sweep(repository)
    assert not folder.exists()
    assert worktrees(repository) == 1


def test_hooks_do_not_run(repository: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with fresh_worktree(repository, "HEAD"):
        pass


def test_an_unknown_commit_and_a_patch_that_does_not_fit_are_said(repository: Path, tmp_path: Path) -> None:
    assert not has_commit(repository, "0" * 40)
    with pytest.raises(ProjectError, match=r"commit 000000000000 is not in this repository\. Fetch it"):
        fresh_worktree(repository, "0" * 40).__enter__()
    (repository / "code" / "a.py").write_text("changed\n")
    patch, _ = read_changes(repository, PATHS)
    (repository / "code" / "a.py").write_text("otherwise\n")
    git(repository, "commit", "-qam", "second")
    with (
        pytest.raises(OutsideError, match="git apply failed"),
        fresh_worktree(repository, "HEAD") as tree,
    ):
        apply_changes(tree.root, patch.decode())
    assert read_commit(tmp_path) is None
