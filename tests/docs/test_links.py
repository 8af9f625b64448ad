"""Links within the documentation lead to a page, a file or a heading that exists."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from ..support.pages import DOCS, ROOT, anchors, links, name, pages

PROJECT = "https://github.com/uwsgi-waffle/uwsgi-waffle"
RAW = "https://raw.githubusercontent.com/uwsgi-waffle/uwsgi-waffle/main/"
#: shown by a package index, which knows no other file of the repository
ALONE = ROOT / "README.md"


def local(page: Path, target: str) -> tuple[Path, str] | None:
    """Return the file of the repository that a link leads to, and the anchor; or ``None``."""
    path, _, anchor = target.partition("#")
    for start in (f"{PROJECT}/blob/main/", f"{PROJECT}/tree/main/", RAW):
        if path.startswith(start):
            return ROOT / unquote(path.removeprefix(start)), anchor
    if re.match(r"[a-z]+:", path):
        return None
    # A page of the site that is a file of the root is included there.
    return (page.parent / unquote(path)).resolve() if path else page, anchor


@pytest.mark.parametrize("page", pages(), ids=name)
def test_each_link_within_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for line, target in links(page):
        found = local(page, target)
        if found is None:
            continue
        path, anchor = found
        if not path.exists():
            broken.append(f"{name(page)}:{line}: {target}: there is no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            broken.append(f"{name(page)}:{line}: {target}: there is no such heading")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_to_other_sites_have_the_form_of_an_address(page: Path) -> None:
    others = [target for _, target in links(page) if re.match(r"[a-z]+:", target)]
    form = re.compile(r"https://([\w-]+\.)+[a-z]{2,}(:\d+)?(/[\w./?=&%#~+@:-]*)?")
    assert [target for target in others if not form.fullmatch(target)] == []


def test_links_of_the_readme_are_right_on_a_package_index_too() -> None:
    relative = [target for _, target in links(ALONE) if not target.startswith("https://")]
    assert not relative


def test_links_of_the_project_agree_with_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    urls = re.findall(r'^\w+ = "(https://[^"]+)"$', text.partition("[project.urls]")[2], re.M)
    assert urls
    for url in urls:
        assert url.startswith(PROJECT)
        found = local(ALONE, url)
        assert found is None or found[0].exists(), url


def test_each_page_of_the_site_is_in_its_menu() -> None:
    menu = set()
    for index in (DOCS / "index.md", *DOCS.glob("*/index.md")):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text("utf-8"), re.DOTALL):
            for line in filter(None, (line.strip() for line in tree.splitlines())):
                if not line.startswith(":"):
                    menu |= set(index.parent.glob(f"{line}.md"))
    missing = [name(page) for page in pages() if DOCS in page.parents and page not in menu]
    assert set(missing) <= {"docs/index.md"}


_FOLDERS = (
    "tests|integration|uwsgi_waffle|docs|bench|faults|examples|process|stores|reporting|doctor"
)
_PATH = re.compile(rf"`((?:{_FOLDERS}|checks|settings|notifiers)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize(
    "page", [page for page in pages() if page.name != "CHANGELOG.md"], ids=name
)
def test_file_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    for path in _PATH.findall(page.read_text(encoding="utf-8")):
        # Pages about the package leave its own folder out.
        assert (ROOT / path).exists() or (ROOT / "uwsgi_waffle" / path).exists(), path
