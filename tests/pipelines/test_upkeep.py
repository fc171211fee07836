"""A corpus can be mended and can grow: what is torn is set aside and made again to the same bytes; nothing is deleted unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corpus.errors import MotionloomError, RecipeMismatch, Rejected
from corpus.store import Shard
from pipelines import executor, inventory, plan, shard_task, upkeep
from pipelines.build import build
from pipelines.clips import Loaded, new_row, reject
from pipelines.place import locked
from pipelines.recipe import Recipe, with_choice

pytestmark = pytest.mark.usefixtures("many_shards")


def again(folder: Path, out: Path):
    return build({"robot": folder}, out, scheduler="inline")


def without_quarantine(digests: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in digests.items() if not name.startswith("quarantine/")}


def tear(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(bytes(content))


SHARD_FILES = (
    "shard.json",
    "clips.parquet",
    "segments.parquet",
    "qpos/c/0/0",
    "contact/c/0/0",
    "zarr.json",
    "qpos/zarr.json",
)


# --- what a power cut leaves


def test_a_shard_that_was_made_anew_to_other_bytes_is_told_of_though_the_fold_was_killed(folder, out, monkeypatch):
    """As when a clip was left out as `crashed_worker`, its reader was mended, and the shard deleted."""
    shutil.rmtree(sorted((out / "shards").iterdir())[1])
    with monkeypatch.context() as patch:
        patch.setattr(shard_task, "load_clip", lambda clip, *_: Loaded(reject(new_row(clip), Rejected("bad")), None))
        patch.setattr(executor, "_collect", dying(executor._collect))
        with pytest.raises(KeyboardInterrupt):
            again(folder, out)
    again(folder, out)
    assert not list(inventory.troubles(out))


def dying(function):
    def dies(*arguments):
        function(*arguments)
        raise KeyboardInterrupt

    return dies


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("name", SHARD_FILES)
def test_a_torn_file_of_a_shard_is_set_aside_and_made_again(name, share, folder, built, out, corpus_digests):
    shard = sorted((out / "shards").iterdir())[1]
    tear(shard / name, share)
    outcome = again(folder, out)
    assert outcome.complete and outcome.built_count == 1
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)
    assert [p.name for p in (out / "quarantine").iterdir()] == [f"{shard.name}.0"]


@pytest.mark.parametrize("name", ["plans/00001.parquet", "catalog/clips-00000.parquet", "corpus.json"])
def test_a_torn_file_of_the_corpus_is_made_again(name, folder, built, out, corpus_digests):
    tear(out / name)
    assert again(folder, out).complete
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)


def test_a_lost_plan_of_a_half_built_corpus_is_dealt_to_the_same_shards(folder, built, out, corpus_digests):
    for shard in sorted((out / "shards").iterdir())[::2]:
        shutil.rmtree(shard)
    (out / "plans" / "00001.parquet").write_bytes(b"")
    assert again(folder, out).complete
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)


def test_a_damaged_description_is_not_replaced_by_another_recipes(folder, out):
    (out / "corpus.json").write_text("{")
    with pytest.raises(MotionloomError, match=r"corpus\.json is damaged .* made by another recipe"):
        build({"robot": folder}, out, with_choice(Recipe(), "cut.max_s", "7"), "inline")


def test_a_shard_that_came_late_does_not_stand_twice(folder, tmp_path, corpus_digests):
    """A worker of a client that died finished its shard after another client had planned its clips anew."""
    out, more = tmp_path / "corpus", Path(shutil.copytree(folder, tmp_path / "more"))
    again(folder, out)
    late = Path(shutil.copytree(sorted((out / "shards").iterdir())[0], tmp_path / "late"))
    # Its clips get a new name, as if planned in another deal.
    stray = out / "shards" / "00000000000000aa"
    shutil.copytree(late, stray)
    about = json.loads((stray / "shard.json").read_text()) | {"shard": stray.name}
    (stray / "shard.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    (more / "new.csv").write_bytes((folder / "take001.csv").read_bytes() + b"\n")
    assert again(more, out).complete
    assert not stray.exists() and not list(inventory.troubles(out))
    assert (out / "quarantine" / f"{stray.name}.0").exists()


# --- repair


@pytest.mark.parametrize("name", SHARD_FILES)
def test_a_flipped_bit_is_found_and_the_shard_made_again(name, folder, built, out, corpus_digests):
    shard = sorted((out / "shards").iterdir())[0]
    flip(shard / name)
    assert again(folder, out).built_count == (name == "shard.json")  # a build looks at sizes; shard.json it reads
    done = upkeep.repair(out, {"robot": folder}, scheduler="inline")
    assert not done.troubles and done.outcome is not None and done.outcome.complete
    assert list(done.set_aside) == ([] if name == "shard.json" else [shard.name])
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)


@pytest.mark.parametrize("name", ["plans/00001.parquet", "catalog/segments-00000.parquet"])
def test_a_flipped_bit_in_a_table_is_told_and_mended(name, folder, built, out, corpus_digests):
    flip(out / name, 0.3)
    if name.startswith("catalog"):
        assert list(inventory.troubles(out))
    assert not upkeep.repair(out, {"robot": folder}, scheduler="inline").troubles
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)


def test_without_the_sources_a_repair_keeps_what_is_whole_and_says_what_is_missing(folder, built, out, corpus_digests):
    shard = sorted((out / "shards").iterdir())[0]
    flip(shard / "qpos/c/0/0")
    done = upkeep.repair(out)
    assert done.outcome is None and list(done.set_aside) == [shard.name]
    assert done.troubles == (f"{shard.name}: planned, but not there; run the build again",)
    assert shard.name not in set(pl.read_parquet(out / "catalog" / "clips-*.parquet")["shard"])
    again(folder, out)
    assert without_quarantine(corpus_digests(out)) == corpus_digests(built)


def test_repairing_a_whole_corpus_changes_nothing(built, out, corpus_digests):
    done = upkeep.repair(out)
    assert not done.set_aside and not done.troubles and corpus_digests(out) == corpus_digests(built)


# --- append


def test_new_sources_are_added_and_old_shards_stay_as_they_are(tmp_path, built, out, motion_folder, corpus_digests):
    more = motion_folder(tmp_path / "more", 3, first=50)
    outcome = upkeep.append(out, {"robot": more}, scheduler="inline")
    assert outcome.complete and outcome.built_count >= 1
    old = {name: digest for name, digest in corpus_digests(built).items() if name.startswith("shards/")}
    assert old.items() <= corpus_digests(out).items()
    assert not list(inventory.troubles(out))
    rows = pl.read_parquet(out / "catalog" / "clips-*.parquet")
    assert rows.filter(pl.col("status") == "kept").height == 6 + 3


def test_appending_goes_by_the_recipe_of_the_corpus(folder, tmp_path, motion_folder):
    out = tmp_path / "corpus"
    build({"robot": folder}, out, with_choice(Recipe(), "cut.max_s", "3"), "inline")
    more = motion_folder(tmp_path / "more", 2, first=50)
    with pytest.raises(RecipeMismatch):
        build({"robot": more}, out, scheduler="inline")
    assert upkeep.append(out, {"robot": more}, scheduler="inline").complete
    assert pl.read_parquet(out / "catalog" / "segments-*.parquet")["frames"].max() <= 150


def test_a_build_that_was_not_finished_stays_planned_while_another_source_comes(folder, tmp_path, motion_folder):
    """Nothing of the first source is lost because a run names only the second."""
    out, more = tmp_path / "corpus", motion_folder(tmp_path / "more", 2, first=50)
    both = {"robot": folder, "amass": more}
    build(both, out, scheduler="inline")
    whole = plan.read_plan(out)[1]
    lost = whole.filter(pl.col("source") == "robot")["shard"][0]
    shutil.rmtree(out / "shards" / lost)
    outcome = upkeep.append(out, {"amass": more}, scheduler="inline")
    assert outcome.missing == (lost,) and plan.read_plan(out)[1].equals(whole)
    assert build(both, out, scheduler="inline").built_count == 1
    assert not list(inventory.troubles(out))


def test_only_a_corpus_can_be_appended_to_or_repaired(tmp_path, folder):
    for action in (lambda: upkeep.append(tmp_path, {"robot": folder}), lambda: upkeep.repair(tmp_path)):
        with pytest.raises(MotionloomError, match=r"is no corpus: it has no corpus\.json"):
            action()


# --- garbage


def test_garbage_is_listed_and_deleted_only_when_told(folder, built, out, corpus_digests):
    (out / "shards" / ".tmp-0123456789abcdef-77").mkdir()
    (out / "shards" / ".tmp-0123456789abcdef-77" / "part").write_bytes(b"x" * 1000)
    (out / "plans" / "00000.parquet").write_bytes(b"x" * 10)
    (out / "shards" / "0123456789abcdef").mkdir()
    shutil.copytree(sorted((out / "shards").iterdir())[-1], out / "quarantine" / "0123456789abcdef.0")
    found = upkeep.collect_garbage(out, delete=False)
    assert len(found) == 4 and sum(o.byte_count for o in found if o.name != "quarantine/0123456789abcdef.0") == 1010
    assert all((out / orphan.name).exists() for orphan in found)
    assert upkeep.collect_garbage(out, delete=True) == found
    assert corpus_digests(out) == corpus_digests(built) and not upkeep.collect_garbage(out, delete=True)


def test_an_older_plan_is_no_garbage_where_the_newest_is_damaged(out, tmp_path):
    older = out / "plans" / "00000.parquet"
    shutil.copyfile(out / "plans" / "00001.parquet", older)
    tear(out / "plans" / "00001.parquet")
    with pytest.raises(MotionloomError, match=r"00001\.parquet is damaged"):
        upkeep.collect_garbage(out, delete=True)
    assert older.exists()


def test_a_link_among_the_garbage_is_deleted_and_what_it_leads_to_is_not(out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (out / "shards" / ".tmp-link").symlink_to(tmp_path / "elsewhere")
    assert [orphan.name for orphan in upkeep.collect_garbage(out, delete=True)] == ["shards/.tmp-link"]
    assert (tmp_path / "elsewhere").exists() and not (out / "shards" / ".tmp-link").is_symlink()


def test_no_garbage_is_collected_while_a_build_goes_on(out):
    with locked(out), pytest.raises(MotionloomError, match="being built by another process"):
        upkeep.collect_garbage(out, delete=True)


def test_a_leftover_that_is_still_being_written_never_becomes_half_a_shard(folder, out, monkeypatch):
    """A worker of a client that died renames its folder just as the next run clears it away."""
    from pipelines import place as module

    left = out / "shards" / ".tmp-00000000000000bb-1"
    shutil.copytree(sorted((out / "shards").iterdir())[0], left)
    delete = shutil.rmtree

    def late(path, **options):
        with pytest.raises(FileNotFoundError):
            left.rename(out / "shards" / "00000000000000bb")
        delete(path, **options)

    monkeypatch.setattr(module.shutil, "rmtree", late)
    assert again(folder, out).complete
    assert not (out / "shards" / "00000000000000bb").exists()


def test_frames_survive_a_repair_of_their_neighbour(folder, out):
    """Open arrays of a reader stay readable while a shard beside them is made again."""
    first, second = sorted((out / "shards").iterdir())[:2]
    frames = Shard.open(first).qpos
    before = np.array(frames)
    flip(second / "qpos/c/0/0")
    upkeep.repair(out, {"robot": folder}, scheduler="inline")
    assert np.array_equal(frames, before)
