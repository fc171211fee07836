"""A plan deals clips to shards by their content alone, and what is planned stays planned."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import MotionloomError, UnknownSource
from pipelines import keys as keys_module
from pipelines import plan
from pipelines.keys import add_keys, text_digest

RECIPE = "r" * 32


def clip_table(names: dict[str, str], *, source: str = "robot", frames: int = 3000) -> pl.DataFrame:
    """Clips by path, with a text that stands for their content."""
    rows = [
        (source, path, "", "open", "", path, "", 100, frames, text_digest(content)) for path, content in names.items()
    ]
    return pl.DataFrame(rows, {**plan.CLIP_COLUMNS, "clip": pl.String}, orient="row")


def numbered(count: int, **options) -> pl.DataFrame:
    return clip_table({f"{i:04d}.csv": f"content {i}" for i in range(count)}, **options)


def deal(clips: pl.DataFrame, recipe_hash: str) -> pl.DataFrame:
    return plan.deal(clips.with_columns(duplicate_of=pl.lit("")), recipe_hash)


def pretend_built(out: Path, shard: str, rows: pl.DataFrame, *, frames: int = 100) -> None:
    folder = out / "shards" / shard
    folder.mkdir(parents=True)
    rows = rows.filter(pl.col("shard") == shard).with_columns(frames=pl.lit(frames))
    rows.write_parquet(folder / "clips.parquet")
    (folder / "shard.json").write_text(json.dumps({"shard": shard}))


def shards_by_path(made: plan.Plan) -> dict[str, str]:
    return dict(made.rows.select("path", "shard").rows())


# --- dealing


@pytest.mark.parametrize(
    ("frames", "count"),
    [(1, 1), (32_000, 1), (32_001, 2), (320_000, 10), (1_024_000, 32), (5_000_000, 32), (6_400_001, 33), (2e9, 10_000)],
)
def test_shard_count_is_a_function_of_the_data(frames, count):
    assert plan.shard_count(int(frames)) == count


def test_the_order_of_files_does_not_matter():
    clips = numbered(300)
    shuffled = clips.sample(fraction=1, shuffle=True, seed=3)
    first, second = (deal(c, RECIPE).sort(plan.IDENTITY) for c in (clips, shuffled))
    assert first.equals(second)


def test_every_clip_is_dealt_once_and_shards_are_even():
    clips = numbered(3500, frames=300)
    dealt = deal(clips, RECIPE)
    assert sorted(dealt["path"]) == sorted(clips["path"])
    sizes = dealt.group_by("shard").agg(pl.col("frames").sum())["frames"]
    assert len(sizes) == 32
    assert sizes.min() > 0.9 * sizes.mean() and sizes.max() < 1.1 * sizes.mean()


def test_shards_are_samples_of_the_whole():
    """Neighbours in the folder are not neighbours in the shards."""
    dealt = deal(numbered(640), RECIPE).sort("path")
    pairs = list(zip(dealt["shard"], dealt["shard"][1:], strict=False))
    together = sum(a == b for a, b in pairs) / len(pairs)
    assert together < 0.1  # by chance 1/32


def test_clips_of_the_same_bytes_share_a_shard():
    names = {f"{i}.csv": f"content {i // 3}" for i in range(300)}
    dealt = deal(clip_table(names), RECIPE)
    assert dealt.group_by("clip").agg(pl.col("shard").n_unique())["shard"].max() == 1


def test_a_shards_name_hangs_on_its_clips_and_the_recipe():
    rows = deal(numbered(1), RECIPE)
    name = rows["shard"][0]
    assert len(name) == 16 and int(name, 16) >= 0
    assert deal(numbered(1), "other")["shard"][0] != name
    assert deal(clip_table({"0000.csv": "else"}), RECIPE)["shard"][0] != name
    assert deal(clip_table({"renamed.csv": "content 0"}), RECIPE)["shard"][0] != name


def test_one_absurd_file_does_not_make_millions_of_shards():
    clips = pl.concat([numbered(10), clip_table({"huge.bin": "huge"}, frames=10**13)])
    assert deal(clips, RECIPE)["shard"].n_unique() <= 32


def dealt_by_the_rule(clips: list[tuple[str, str, int]], recipe_hash: str) -> dict[str, str]:
    """Shard by path, as docs/format.md has it: (path, key, frames) clip by clip."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for path, key, frames in clips:
        groups.setdefault(key, []).append((path, frames))
    sizes = {
        key: min(max(1, *(frames for _, frames in group)), plan.CLIP_FRAMES_LIMIT) for key, group in groups.items()
    }
    total = sum(sizes.values())
    count = plan.shard_count(total)
    before, shards = 0, {}
    for key in sorted(groups):
        index = min((2 * before + sizes[key]) * count // (2 * total), count - 1)
        shards.setdefault(index, []).extend((key, path) for path, _ in groups[key])
        before += sizes[key]
    named = {}
    for rows in shards.values():
        text = "".join(f"{key}\0robot\0{path}\0\n" for key, path in sorted(rows))
        name = hashlib.blake2b((recipe_hash + text).encode(), digest_size=8).hexdigest()
        named |= {path: name for _, path in rows}
    return named


@settings(deadline=None)
@given(st.data())
def test_shards_and_their_names_follow_the_written_rule(data):
    paths = data.draw(st.lists(st.text("ab\n é/", min_size=1), min_size=1, max_size=40, unique=True))
    contents = [data.draw(st.integers(0, 30)) for _ in paths]
    clips = [
        (path, text_digest(str(content)), data.draw(st.integers(0, 60_000)))
        for path, content in zip(paths, contents, strict=True)
    ]
    table = pl.concat([
        clip_table({path: str(content)}, frames=frames)
        for (path, _, frames), content in zip(clips, contents, strict=True)
    ])  # fmt: skip
    assert dict(deal(table, RECIPE).select("path", "shard").rows()) == dealt_by_the_rule(clips, RECIPE)


# --- keeping a plan


def test_a_plan_is_stored_before_anything_is_built_and_found_again(tmp_path):
    made = plan.make_plan(numbered(50), tmp_path, RECIPE)
    stored = (tmp_path / "plans" / "00001.parquet").read_bytes()
    again = plan.make_plan(numbered(50), tmp_path, RECIPE)
    assert again.rows.equals(made.rows) and again.missing.equals(made.missing)
    assert [p.name for p in (tmp_path / "plans").iterdir()] == ["00001.parquet"]
    assert (tmp_path / "plans" / "00001.parquet").read_bytes() == stored


def test_only_what_is_missing_is_left_to_do(tmp_path):
    made = plan.make_plan(numbered(50), tmp_path, RECIPE)
    done = sorted(made.shards)[::2]
    for shard in done:
        pretend_built(tmp_path, shard, made.rows)
    again = plan.make_plan(numbered(50), tmp_path, RECIPE)
    assert set(again.missing["shard"]) == made.shards - set(done)
    assert again.shards == made.shards


def test_growth_adds_shards_and_leaves_the_old_ones(tmp_path):
    old = plan.make_plan(numbered(40), tmp_path, RECIPE)
    pretend_built(tmp_path, min(old.shards), old.rows)
    grown = plan.make_plan(numbered(60), tmp_path, RECIPE)
    before, after = shards_by_path(old), shards_by_path(grown)
    assert {path: after[path] for path in before} == before
    assert len(after) == 60 and not {after[p] for p in after.keys() - before.keys()} & old.shards
    assert [p.name for p in (tmp_path / "plans").iterdir()] == ["00002.parquet"]


def test_clips_of_unbuilt_shards_whose_neighbour_vanished_are_planned_anew(tmp_path):
    old = plan.make_plan(numbered(40), tmp_path, RECIPE)
    gone = old.rows["path"][0]
    hit = old.rows["shard"][0]
    left = numbered(40).filter(pl.col("path") != gone)
    made = plan.make_plan(left, tmp_path, RECIPE)
    assert sorted(made.rows["path"]) == sorted(left["path"])
    assert hit not in made.shards and old.shards - {hit} <= made.shards


def test_clips_of_built_shards_stay_when_their_file_vanishes(tmp_path):
    old = plan.make_plan(numbered(10), tmp_path, RECIPE)
    for shard in old.shards:
        pretend_built(tmp_path, shard, old.rows)
    made = plan.make_plan(numbered(7), tmp_path, RECIPE)
    assert made.missing.is_empty() and len(made.rows) == 10 and made.gone_count == 3


def test_a_changed_file_is_a_new_clip(tmp_path):
    old = plan.make_plan(clip_table({"a.csv": "one"}), tmp_path, RECIPE)
    pretend_built(tmp_path, *old.shards, old.rows)
    made = plan.make_plan(clip_table({"a.csv": "two"}), tmp_path, RECIPE)
    assert len(made.missing) == 1 and made.missing["clip"][0] == text_digest("two") and made.gone_count == 1


def test_a_new_copy_of_a_built_motion_is_marked(tmp_path):
    old = plan.make_plan(clip_table({"a.csv": "one"}), tmp_path, RECIPE)
    pretend_built(tmp_path, *old.shards, old.rows)
    made = plan.make_plan(clip_table({"a.csv": "one", "b.csv": "one", "c.csv": "three"}), tmp_path, RECIPE)
    assert dict(made.missing.select("path", "duplicate_of").rows()) == {"b.csv": "robot:a.csv", "c.csv": ""}


def test_a_copy_under_another_source_of_a_file_the_first_could_not_read_is_not_marked(tmp_path):
    old = plan.make_plan(clip_table({"a.csv": "one"}, source="amass"), tmp_path, RECIPE)
    pretend_built(tmp_path, *old.shards, old.rows, frames=0)
    both = pl.concat([clip_table({"a.csv": "one"}, source="amass"), clip_table({"a.csv": "one"})])
    made = plan.make_plan(both, tmp_path, RECIPE)
    assert made.missing.select("source", "duplicate_of").rows() == [("robot", "")]


def test_a_new_copy_of_an_unbuilt_clip_joins_its_shard(tmp_path):
    plan.make_plan(numbered(40), tmp_path, RECIPE)
    more = pl.concat([numbered(40), clip_table({"copy.csv": "content 7"})])
    made = plan.make_plan(more, tmp_path, RECIPE)
    by_path = shards_by_path(made)
    assert len(by_path) == 41 and by_path["copy.csv"] == by_path["0007.csv"]


def test_clips_of_a_source_that_is_not_named_stay_planned_though_a_copy_comes(tmp_path):
    old = clip_table({"x.csv": "one", "y.csv": "two"}, source="phuma")
    plan.make_plan(old, tmp_path, RECIPE)
    grown = plan.make_plan(clip_table({"copy.csv": "one", "z.csv": "three"}), tmp_path, RECIPE)
    assert set(grown.rows["path"]) == {"x.csv", "y.csv", "copy.csv", "z.csv"} and grown.dropped_count == 0
    assert shards_by_path(grown)["copy.csv"] == shards_by_path(grown)["x.csv"]
    assert grown.missing["path"].to_list() == ["z.csv"]
    both = pl.concat([old, clip_table({"copy.csv": "one", "z.csv": "three"})])
    assert set(plan.make_plan(both, tmp_path, RECIPE).missing["path"]) == set(grown.rows["path"])


def test_clips_of_a_source_that_is_not_named_stay_planned_though_a_neighbour_vanished(tmp_path):
    old = clip_table({"x.csv": "one", "y.csv": "two"}, source="phuma")
    plan.make_plan(pl.concat([old, clip_table({"a.csv": "three", "b.csv": "four"})]), tmp_path, RECIPE)
    made = plan.make_plan(clip_table({"a.csv": "three"}), tmp_path, RECIPE)
    assert set(made.rows["path"]) == {"x.csv", "y.csv", "a.csv"} and made.dropped_count == 1
    assert made.missing["path"].to_list() == ["a.csv"]


def test_a_lost_plan_is_read_back_from_the_shards(tmp_path):
    old = plan.make_plan(numbered(40), tmp_path, RECIPE)
    for shard in old.shards:
        pretend_built(tmp_path, shard, old.rows)
    for file in (tmp_path / "plans").iterdir():
        file.unlink()
    made = plan.make_plan(numbered(40), tmp_path, RECIPE)
    assert made.missing.is_empty() and made.shards == old.shards


def test_a_half_made_shard_does_not_count(tmp_path):
    made = plan.make_plan(numbered(1), tmp_path, RECIPE)
    (tmp_path / "shards" / f".tmp-{min(made.shards)}-1").mkdir(parents=True)
    assert plan.finished_shards(tmp_path) == set()


def test_a_damaged_plan_is_one_clear_line(tmp_path):
    plan.make_plan(numbered(1), tmp_path, RECIPE)
    (tmp_path / "plans" / "00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(MotionloomError, match=r"00001\.parquet is damaged"):
        plan.make_plan(numbered(1), tmp_path, RECIPE)


def test_a_plan_overwritten_with_zeros_anywhere_is_one_clear_line_or_none_the_worse(tmp_path):
    made = plan.make_plan(numbered(500), tmp_path, RECIPE)
    path = tmp_path / "plans" / "00001.parquet"
    whole = path.read_bytes()
    for start in range(0, len(whole), 512):
        path.write_bytes(whole[:start] + bytes(len(whole[start : start + 1024])) + whole[start + 1024 :])
        with contextlib.suppress(MotionloomError):
            assert len(plan.read_plan(tmp_path)[1]) == len(made.rows)


@pytest.mark.parametrize("seed", range(12))
def test_any_history_of_changes_ends_with_every_file_planned_once(tmp_path, seed):
    """Files come, go and change while random shards get built: what is there now is planned exactly once."""
    rng = random.Random(seed)
    files = {f"{i}.csv": f"content {i}" for i in range(30)}
    for step in range(6):
        made = plan.make_plan(clip_table(files, frames=2000), tmp_path, RECIPE)
        planned = made.rows.select("path", "clip").rows()
        now = [(path, text_digest(content)) for path, content in files.items()]
        assert len(planned) == len(set(planned)) and set(now) <= set(planned)
        assert set(made.missing.select("path", "clip").rows()) <= set(now)
        for shard in set(made.missing["shard"]):
            if rng.random() < 0.4:
                pretend_built(tmp_path, shard, made.rows)
        for path in rng.sample(sorted(files), 4):
            del files[path]
        for i in range(6):
            files[f"{step}-{i}.csv"] = f"content {rng.randrange(60)}"


# --- scanning and keys


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    for name, content in {"a.csv": b"1,2", "sub/b.csv": b"3,4", "copy.csv": b"1,2", "empty.csv": b""}.items():
        (root / name).write_bytes(content)
    return root


def keys(root: Path, cache: Path) -> dict[str, str]:
    roots = {"robot": root}
    table = add_keys(plan.scan_sources(roots), roots, cache)
    return dict(table.select("path", "clip").rows())


def test_a_key_is_the_hash_of_the_content(folder, tmp_path):
    found = keys(folder, tmp_path / "keys.parquet")
    assert found["a.csv"] == found["copy.csv"] != found["sub/b.csv"]
    moved = folder.rename(tmp_path / "elsewhere")
    assert keys(moved, tmp_path / "other.parquet") == found


def test_keys_are_remembered_until_a_file_changes(folder, tmp_path, monkeypatch):
    cache = tmp_path / "keys.parquet"
    first = keys(folder, cache)
    read = []
    whole = keys_module._file_digest
    monkeypatch.setattr(keys_module, "_file_digest", lambda path: read.append(path.name) or whole(path))
    assert keys(folder, cache) == first and read == []
    (folder / "a.csv").write_bytes(b"9,9")
    os.utime(folder / "a.csv", ns=(1, 1))
    assert keys(folder, cache)["a.csv"] != first["a.csv"] and read == ["a.csv"]


def test_what_is_remembered_goes_by_size_and_time_of_change(folder, tmp_path):
    """Files need not be read, nor even be there, while what is seen of them is what is remembered."""
    first, looked = keys(folder, tmp_path / "keys.parquet"), []

    def look(root: Path, source: str, path: str):
        looked.append(path)
        return keys_module.look_at_file(root, source, path)

    clips = plan.scan_sources({"robot": folder})
    known = pl.read_parquet(tmp_path / "keys.parquet")
    known.with_columns(digest=pl.lit("f" * 32)).write_parquet(tmp_path / "keys.parquet")
    again = add_keys(clips, {"robot": folder}, tmp_path / "keys.parquet", look=look)
    assert sorted(looked) == sorted(first)
    assert dict(again.select("path", "clip").rows()) == {
        path: key if path == "empty.csv" else "f" * 32 for path, key in first.items()
    }


def test_motions_of_one_file_have_keys_of_their_own(folder, tmp_path):
    clips = plan.scan_sources({"robot": folder}).filter(pl.col("path") == "a.csv")
    parts = pl.concat([clips.with_columns(part=pl.lit(part)) for part in ("", "x", "y")])
    found = add_keys(parts, {"robot": folder}, tmp_path / "keys.parquet")["clip"].to_list()
    assert found == [found[0], text_digest(f"{found[0]}\0x"), text_digest(f"{found[0]}\0y")]


def test_keys_hashed_before_an_interruption_are_remembered(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, "HANDFUL", 1)
    monkeypatch.setattr(keys_module, "HANDFULS", 1)
    whole = keys_module._file_digest

    def interrupted(path: Path) -> str:
        if path.name == "copy.csv":
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(keys_module, "_file_digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keys(folder, tmp_path / "keys.parquet")
    assert [Path(path).name for path in pl.read_parquet(tmp_path / "keys.parquet")["path"]] == ["a.csv"]


def test_a_damaged_cache_of_keys_is_made_anew(folder, tmp_path):
    cache = tmp_path / "keys.parquet"
    first = keys(folder, cache)
    cache.write_bytes(b"junk")
    assert keys(folder, cache) == first


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_has_a_key_too(folder, tmp_path):
    (folder / "a.csv").chmod(0)
    assert len(keys(folder, tmp_path / "keys.parquet")["a.csv"]) == 32


def test_a_link_that_leaves_the_folder_has_a_key_of_its_own(folder, tmp_path):
    (tmp_path / "secret.csv").write_bytes(b"1,2")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    found = keys(folder, tmp_path / "keys.parquet")
    assert len(found["link.csv"]) == 32 and found["link.csv"] != found["a.csv"]


def test_a_name_that_is_not_utf8_is_planned(folder, tmp_path):
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xe9.csv"))).write_bytes(b"1,2")
    found = keys(folder, tmp_path / "keys.parquet")
    odd = next(path for path in found if path.isascii() and "\\x" in path)
    assert found[odd] == found["a.csv"]


def test_a_folder_without_files_and_an_unknown_source_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MotionloomError, match="holds no files"):
        plan.scan_sources({"robot": tmp_path / "empty"})
    with pytest.raises(MotionloomError, match="is not a folder"):
        plan.scan_sources({"robot": tmp_path / "none"})
    with pytest.raises(UnknownSource, match="Known: amass"):
        plan.scan_sources({"amas": tmp_path})
    with pytest.raises(MotionloomError, match="No source given"):
        plan.scan_sources({})


def test_a_skeleton_file_tells_licence_and_subject_of_bvh_recordings(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "P07_walk.bvh").write_text("HIERARCHY")
    skeleton = tmp_path / "map.toml"
    roles = "".join(
        f'{side}_{role} = "{side[0]}{role}"\n'
        for side in ("left", "right")
        for role in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    )
    skeleton.write_text(f'licence = "CC0"\nsubject = "(P\\\\d+)_"\n[roles]\npelvis = "Hips"\nchest = "Chest"\n{roles}')
    assert plan.scan_sources({"bvh": tmp_path / "own"})["licence"].to_list() != ["CC0"]
    table = plan.scan_sources({"bvh": tmp_path / "own"}, skeleton)
    assert (table["licence"].to_list(), table["subject"].to_list()) == (["CC0"], ["P07"])
