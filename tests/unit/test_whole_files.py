"""Folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.files import replaced_folder


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with replaced_folder(target) as fresh:
            (fresh / name).write_text(name)
            assert not (target / name).exists()
        assert [path.name for path in target.iterdir()] == [name]
    assert [path.name for path in target.parent.iterdir()] == ["folder"], "nothing is left beside it"


def test_what_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced_folder(target) as fresh:
        (fresh / "half").write_text("")
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_where_the_new_one_cannot_take_its_place_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def fails(self: Path, to: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no"), replaced_folder(target):
        pass
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
