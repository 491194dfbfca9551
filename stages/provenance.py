"""Which commit made a result."""

import subprocess

CODE = ["stages", "Snakefile", "dvc.yaml", "requirements.lock"]


def commit() -> str | None:
    """Return the commit that is checked out; None outside a git repository, or without git."""
    return (_git("rev-parse", "HEAD") or "").strip() or None


def uncommitted(*files: str) -> list[str]:
    """Return which of the project's code, and of these files, is changed or new since the commit."""
    lines = (_git("status", "--porcelain", "--", *CODE, *files) or "").splitlines()
    return [line.split()[-1] for line in lines]


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None
