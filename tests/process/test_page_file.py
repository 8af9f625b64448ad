"""The file of a page: how it comes into being, what is taken for one, and where it may lie."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from uwsgi_waffle import ConfigurationError
from uwsgi_waffle.process.page import Page, is_open
from uwsgi_waffle.process.page_file import (
    SIZE,
    inode_of,
    make,
    opened,
    page_path,
    refuse_remote,
    remove,
)
from uwsgi_waffle.testing.forked import in_processes

from ..support.descriptors import open_descriptors
from ..support.rig import NOBODY, Rig, ordinary_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page"


# --- made --------------------------------------------------------------------------------------


def test_page_has_all_its_bytes_before_it_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    link = os.link

    def noting(new: Path, name: Path) -> None:
        assert not path.exists()
        sizes.append(new.stat().st_size)
        link(new, name)

    monkeypatch.setattr(os, "link", noting)
    make(path)
    assert sizes == [SIZE]
    assert path.stat().st_size == SIZE
    assert [entry.name for entry in path.parent.iterdir()] == ["page"]


def test_page_that_another_process_made_meanwhile_stays(path: Path) -> None:
    make(path)
    first = path.stat().st_ino
    make(path)
    assert path.stat().st_ino == first
    assert len(list(path.parent.iterdir())) == 1


def test_page_is_for_owner_and_group_whatever_the_umask(path: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            make(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        path.unlink()


@as_root
def test_page_that_root_makes_belongs_to_the_owner_of_the_folder(open_folder: Path) -> None:
    make(open_folder / "page")
    status = (open_folder / "page").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)


def test_failure_leaves_no_new_file_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="no links here"):
        make(path)
    assert not list(path.parent.iterdir())


# --- opened ------------------------------------------------------------------------------------


def _symlink(path: Path) -> None:
    make(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _longer(path: Path) -> None:
    path.write_bytes(b"waffle\x00\x01".ljust(SIZE + 1, b"\0"))


def _text(path: Path) -> None:
    path.write_text("somebody's notes")


def _other_format(path: Path) -> None:
    path.write_bytes(b"waffle\x00\x02".ljust(SIZE, b"\0"))


IN_ITS_PLACE: list[Callable[[Path], object]] = [
    _symlink,
    os.mkfifo,
    Path.mkdir,
    _longer,
    _text,
    _other_format,
]


@pytest.mark.parametrize("put", IN_ITS_PLACE, ids=lambda put: put.__name__.strip("_"))
def test_something_else_in_its_place_is_named_and_stops_no_request(
    put: Callable[[Path], object], folder: Path
) -> None:
    path = folder / "waffle.page"
    put(path)
    rig = Rig(folder)
    problem = rig.manager.page.problem
    assert str(path) in problem
    assert "WAFFLE_PAGE_FILE" in problem
    rig.changed_elsewhere(LIMIT=7)
    assert rig.begin_request()["LIMIT"] == 7
    rig.update(LIMIT=8)
    assert rig.begin_request()["LIMIT"] == 8
    assert rig.manager.health.state == "VALID"
    assert "WAFFLE_PAGE_FILE" in str(rig.status())
    assert not [each for each in os.listdir("/proc/self/fd") if _is_at(each, path)]


@pytest.mark.parametrize("left", [b"", b"waf", b"waffle\0\1" + b"x" * 40, bytes(SIZE), bytes(9)])
def test_page_that_has_lost_its_bytes_is_made_again(
    left: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "waffle.page"
    path.write_bytes(left)
    only_reads = Page(path, may_make=False)
    assert "has lost its bytes" in only_reads.problem
    assert path.read_bytes() == left
    rig = Rig(folder)
    assert (rig.manager.page.problem, path.stat().st_size) == ("", SIZE)
    assert caplog.messages == [f"{path} had lost its bytes and was made again"]
    rig.update(LIMIT=8)
    assert rig.begin_request()["LIMIT"] == 8
    only_reads.follow_path()
    assert only_reads.identity == rig.manager.page.identity


def test_page_that_another_process_has_made_again_meanwhile_stays(folder: Path) -> None:
    path = folder / "waffle.page"
    path.touch()
    spoilt = inode_of(path.stat())
    make(path.with_name("new"))
    os.replace(path.with_name("new"), path)
    remove(path, spoilt)
    assert path.stat().st_size == SIZE
    path.unlink()
    remove(path, spoilt)


def _is_at(descriptor: str, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    return False


def test_page_is_used_once_the_other_thing_was_removed(folder: Path) -> None:
    path = folder / "waffle.page"
    path.mkdir()
    rig = Rig(folder)
    rig.begin_request()
    assert list(rig.manager.health.failing()) == ["page"]
    path.rmdir()
    rig.begin_request()
    assert rig.manager.page.problem == ""
    assert rig.manager.health.failing() == {}
    assert path.is_file()


def test_page_without_a_folder_is_a_problem_not_an_error(tmp_path: Path) -> None:
    page = Page(tmp_path / "gone" / "page")
    assert "WAFFLE_PAGE_FILE" in page.problem
    with page.change() as change:
        change.open()
    page.mark(b"identity", 1)
    page.close_if_unused()
    assert page.words() == bytes(24), "the words of no page at all"


def test_descriptors_are_closed_when_a_page_is_no_more_used(path: Path) -> None:
    for _ in range(5):
        page = Page(path)
        path.unlink()
        page.follow_path()
    del page
    gc.collect()
    assert not open_descriptors(path)


def test_page_that_can_not_be_mapped_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no mappings here")

    monkeypatch.setattr(mmap, "mmap", refuse)
    read, writer = Page(path), Page(path)
    assert not read.problem
    writer.mark(b"identity", 7, epoch="0123456789abcdef")
    assert (read.identity, read.epoch) == (b"identity", "0123456789abcdef")
    assert read.asked == bytes(8)
    assert writer.ask() == read.asked
    assert read.words() == writer.words()
    with writer.change() as change:
        change.open()
        assert is_open(read.words())
    assert not is_open(read.words())
    del read, writer, change
    gc.collect()
    assert not open_descriptors(path)


def test_mapping_has_a_descriptor_that_is_never_locked(path: Path) -> None:
    page = Page(path)
    with page.change():
        # The lock must end when it is released, though the mapping lives on.
        assert page._file.is_locked()
    assert not page._file.is_locked()
    assert page.words() != bytes(24)


def test_page_that_may_only_be_read_is_opened_for_that(open_folder: Path) -> None:
    make(open_folder / "page")
    with ordinary_user():
        (open_folder / "page").chmod(0o440)
        assert not opened(open_folder / "page").writable


# --- where it may lie --------------------------------------------------------------------------


def _mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, *kinds: str) -> None:
    device = folder.stat().st_dev
    lines = ["21 1 0:0 / / rw - ext4 /dev/root rw"]
    lines += [
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime shared:1 - {kind} x rw"
        for kind in kinds
    ]
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "\n".join(lines))


REMOTE = ["nfs4", "nfs", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre", "afs", "virtiofs"]


@pytest.mark.parametrize("kind", REMOTE)
def test_file_system_of_other_hosts_is_refused(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mounted(monkeypatch, path.parent, kind)
    with pytest.raises(ConfigurationError, match=f"{kind}.*WAFFLE_PAGE_FILE"):
        refuse_remote(path)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"])
def test_file_system_of_this_host_is_taken(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mounted(monkeypatch, path.parent, kind)
    refuse_remote(path)


def test_file_system_that_was_mounted_last_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mounted(monkeypatch, path.parent, "nfs", "ext4")
    refuse_remote(path)
    # As in some containers, whose list lacks it.
    _mounted(monkeypatch, path.parent)
    refuse_remote(path)


def test_file_system_that_nobody_can_tell_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no /proc")

    monkeypatch.setattr(Path, "read_text", refuse)
    refuse_remote(path)
    refuse_remote(Path("/nowhere/at/all"))


def test_two_stores_have_two_pages_beside_one_watch_file() -> None:
    watch_file = Path("/run/shop/waffle.watch")
    one, other = page_path(watch_file, "redis://a/0"), page_path(watch_file, "redis://a/1")
    assert one != other
    assert one == page_path(watch_file, "redis://a/0")
    assert one.parent == watch_file.parent
    assert page_path(watch_file, "\udcff").name.endswith(".page")


def test_page_may_have_the_first_descriptor_of_a_process_that_closed_its_input(path: Path) -> None:
    def use(_: int) -> list[object]:
        os.close(0)
        page = Page(path)
        page.mark(b"identity", 7)
        found = [os.readlink("/proc/self/fd/0") == str(path), page.inode is not None]
        del page
        gc.collect()
        return [*found, os.path.exists("/proc/self/fd/0")]

    assert in_processes(1, use) == [[True, True, False]]
