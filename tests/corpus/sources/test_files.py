"""Finding and opening files: every one is listed once and in order, and nothing outside the folder is opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import MotionloomError, Rejected
from corpus.motion import Clip
from corpus.sources.files import content_key, list_files, open_path, scan_files


def clip(path: str) -> Clip:
    return Clip("bvh", path, "")


def reason(root: Path, path: str) -> str | None:
    try:
        open_path(root, clip(path))
    except Rejected as rejected:
        return rejected.reason
    return None


def write(path: Path, content: bytes = b"motion") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_every_file_is_listed_in_the_order_of_its_whole_path(tmp_path):
    names = [
        "a/b/c.bvh",
        "a.bvh",
        "a/b.bvh",
        "a-b/c.bvh",
        "a/b-c.bvh",
        "B.bvh",
        ".hidden",
        "z/.cache/x",
        "ä.bvh",
        "日本/動.bvh",
    ]
    for size, name in enumerate(names):
        write(tmp_path / name, b"x" * size)
    listed = list(list_files(tmp_path))
    assert [path for path, _ in listed] == sorted(names)
    assert dict(listed) == {name: size for size, name in enumerate(names)}


def test_an_empty_folder_has_no_files_and_an_absent_one_is_an_error(tmp_path):
    assert list(list_files(tmp_path)) == []
    with pytest.raises(MotionloomError, match="no such file or folder"):
        list(list_files(tmp_path / "absent"))


def test_a_file_stands_for_a_folder_with_that_file_alone(tmp_path):
    file = write(tmp_path / "a.bvh")
    write(tmp_path / "b.bvh")
    assert list(list_files(file)) == [("a.bvh", file.stat().st_size)]
    assert open_path(file, clip("a.bvh")) == file


# Names with a slash, a NUL, "." and ".." do not exist.
file_names = st.binary(min_size=1, max_size=20).map(lambda b: bytes(c for c in b if c not in b"\0/") or b"x")


@settings(max_examples=80, deadline=None)
@given(st.sets(file_names.filter(lambda name: name not in (b".", b"..")), min_size=1, max_size=6))
def test_any_name_is_plain_text_and_found_again(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(name)
    clips = list(scan_files(folder, "bvh", "free"))
    assert len({found.path.encode("utf-8") for found in clips}) == len(names)
    assert {open_path(folder, found).read_bytes() for found in clips} == names


def test_a_stray_byte_stands_as_its_number(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.bvh", "wb") as file:  # noqa: PTH123
        file.write(b"x")
    write(tmp_path / "plain.bvh")
    assert [path for path, _ in list_files(tmp_path)] == [r"caf\xe9.bvh", "plain.bvh"]


@pytest.mark.parametrize(
    "path", ["../secret.bvh", "folder/../../secret.bvh", "a/..", "link.bvh", "folder/up/secret.bvh"]
)
def test_nothing_outside_the_folder_is_opened(tmp_path, path):
    secret = write(tmp_path / "secret.bvh")
    root = tmp_path / "root"
    write(root / "folder" / "good.bvh")
    (root / "link.bvh").symlink_to(secret)
    (root / "folder" / "up").symlink_to(tmp_path)
    assert reason(root, path) == "outside_source"
    assert reason(root, str(secret)) == "outside_source"
    assert reason(root, "folder/good.bvh") is None


def test_a_folder_with_a_similar_name_is_outside(tmp_path):
    write(tmp_path / "data-private" / "x.bvh")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.bvh").symlink_to(tmp_path / "data-private" / "x.bvh")
    assert reason(tmp_path / "data", "x.bvh") == "outside_source"


def test_a_link_within_the_folder_is_a_file_like_any_other(tmp_path):
    write(tmp_path / "real.bvh", b"123456")
    (tmp_path / "link.bvh").symlink_to("real.bvh")
    assert list(list_files(tmp_path)) == [("link.bvh", 6), ("real.bvh", 6)]
    assert open_path(tmp_path, clip("link.bvh")).read_bytes() == b"123456"


def test_the_folder_itself_may_be_reached_by_a_link(tmp_path):
    write(tmp_path / "real" / "x.bvh")
    (tmp_path / "link").symlink_to("real")
    assert [path for path, _ in list_files(tmp_path / "link")] == ["x.bvh"]
    assert reason(tmp_path / "link", "x.bvh") is None


def test_a_folder_link_is_not_entered_but_not_lost_either(tmp_path):
    write(tmp_path / "elsewhere" / "x.bvh")
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "round").symlink_to(root)
    assert [path for path, _ in list_files(root)] == ["out", "round"]
    assert (reason(root, "out"), reason(root, "round")) == ("outside_source", "unreadable")


def test_links_to_nowhere_and_in_a_circle_are_unreadable(tmp_path):
    (tmp_path / "gone.bvh").symlink_to("nothing.bvh")
    (tmp_path / "a.bvh").symlink_to("b.bvh")
    (tmp_path / "b.bvh").symlink_to("a.bvh")
    assert [path for path, _ in list_files(tmp_path)] == ["a.bvh", "b.bvh", "gone.bvh"]
    assert {reason(tmp_path, name) for name in ("gone.bvh", "a.bvh", "absent.bvh", "nul\0.bvh")} == {"unreadable"}


def test_what_is_no_plain_file_is_listed_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.bvh")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.bvh"))
        assert [path for path, _ in list_files(tmp_path)] == ["pipe.bvh", "socket.bvh"]
        assert {reason(tmp_path, name) for name in ("pipe.bvh", "socket.bvh", "folder")} == {"unreadable"}


def test_an_empty_file_says_so(tmp_path):
    write(tmp_path / "empty.bvh", b"")
    assert reason(tmp_path, "empty.bvh") == "empty_file"


def test_a_file_that_may_not_be_read_is_unreadable(tmp_path, monkeypatch):
    write(tmp_path / "x.bvh")

    def refuse(*_args, **_keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Rejected, match="Permission denied"):
        open_path(tmp_path, clip("x.bvh"))


def test_a_folder_that_may_not_be_read_stands_in_the_list(tmp_path, monkeypatch):
    write(tmp_path / "closed" / "x.bvh")
    write(tmp_path / "open" / "y.bvh")
    scandir = os.scandir

    def refuse(path):
        if path.endswith((b"closed", b"closed/")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(list_files(tmp_path)) == [("closed", 0), ("open/y.bvh", 6)]
    assert reason(tmp_path, "closed") == "unreadable"


def test_a_key_tells_content_and_part_not_place(tmp_path):
    write(tmp_path / "a" / "x.bvh", b"one")
    write(tmp_path / "b" / "y.bvh", b"one")
    write(tmp_path / "c.bvh", b"two")
    key = {name: content_key(tmp_path, clip(name)).key for name in ("a/x.bvh", "b/y.bvh", "c.bvh", "gone.bvh")}
    assert key["a/x.bvh"] == key["b/y.bvh"]
    assert len(set(key.values())) == 3
    assert content_key(tmp_path, Clip("bvh", "c.bvh", "", part="1")).key != key["c.bvh"]
