"""Does what a page of first steps shows, word by word, and compares what is printed.

``python -m integration.support.first_steps PYTHON [PAGE]`` does it with another Python, which has
the package installed: ``make dist`` tries the wheel so.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.support.pages import ROOT, blocks

from .processes import Process, clean_environment, free_port

#: where the pages show the server
SHOWN = "http://127.0.0.1:5000"
# No proxy of the environment knows this machine's own servers.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_STATUS = re.compile(r"\(exit status (\d)\)\n$")


def replay(page: Path, python: str, folder: Path) -> list[str]:
    """Write the page's app, run it, and do each step; return the commands that were done.

    :raises AssertionError: a command printed something else than the page shows.
    """
    app = next(
        block for block in blocks(page) if block.language == "python" and "Flask(" in block.code
    )
    (folder / "app.py").write_text(app.code, encoding="utf-8")
    port = free_port()
    arguments = [python, "-m", "flask", "run", "--port", str(port)]
    with Process(
        "flask run",
        arguments,
        env=clean_environment(),
        cwd=folder,
        log=folder / "flask.log",
        ready=lambda log: f"Running on http://127.0.0.1:{port}" in log,
        deadline_s=120.0,
    ) as server:
        assert not server.ended, server.evidence()
        return [
            command for command, shown in steps(page) if _do(command, shown, python, folder, port)
        ]


def steps(page: Path) -> list[tuple[str, str]]:
    """Return each command of a page's sessions, and what it is shown to print."""
    code = "".join(f"{block.code}$ \n" for block in blocks(page) if block.language == "console")
    parts = (part.partition("\n") for part in re.split(r"^\$ ", code, flags=re.MULTILINE))
    return [(command, shown) for command, _, shown in parts if command]


def _do(command: str, shown: str, python: str, folder: Path, port: int) -> bool:
    """Do one step; return whether it is one of those that are done here."""
    expected = _STATUS.sub("", shown)
    if command.startswith(f"curl {SHOWN}"):
        url = command.removeprefix("curl ").replace(SHOWN, f"http://127.0.0.1:{port}")
        with _OPENER.open(url, timeout=60) as answer:
            printed = answer.read().decode()
    elif command.startswith("flask waffle "):
        done = subprocess.run(
            [python, "-m", *shlex.split(command)],
            cwd=folder,
            env=clean_environment(PYTHONUTF8="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        printed = done.stdout
        status = _STATUS.search(shown)
        if status:
            assert done.returncode == int(status[1]), command
    else:
        return False
    assert printed == expected, f"{command} printed {printed!r}, the page shows {expected!r}"
    return True


def main() -> int:
    """Do the steps of the README, or of another page."""
    python, *named = sys.argv[1:]
    page = ROOT / (named[0] if named else "README.md")
    with tempfile.TemporaryDirectory() as folder:
        done = replay(page, python, Path(folder))
    print(f"{page.name}: {len(done)} steps printed what the page shows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
