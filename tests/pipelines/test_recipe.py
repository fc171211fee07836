"""A recipe is every choice that made a corpus: frozen, hashed, stored, and strict about what it is told."""

from __future__ import annotations

import dataclasses
import json

import pytest

from corpus.errors import MotionloomError
from corpus.sources.options import LoadOptions
from pipelines.recipe import BadRecipe, Recipe, choices, differences, with_choice, with_reading


def test_a_recipe_survives_its_json():
    recipe = with_choice(with_choice(Recipe(), "cut.max_s", "12"), "load.quaternion", "xyzw")
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(recipe.to_json()).hash == recipe.hash


def test_what_is_not_named_keeps_its_default():
    assert Recipe.from_json("{}") == Recipe()
    assert Recipe.from_json('{"cut": {"max_s": 7}}') == with_choice(Recipe(), "cut.max_s", "7")


def test_a_whole_corpus_json_is_taken_for_its_recipe():
    recipe = with_choice(Recipe(), "cut.max_s", "7")
    assert Recipe.from_json(json.dumps({"format": 1, "recipe": json.loads(recipe.to_json())})) == recipe


@pytest.mark.parametrize("name", sorted(choices(Recipe())))
def test_every_choice_changes_the_hash(name):
    value = choices(Recipe())[name]
    other = {bool: lambda: not value, str: lambda: "xyzw", int: lambda: value + 1, float: lambda: value + 0.5}
    changed = other.get(type(value), lambda: 25.0 if value is None else [*value, *value][: len(value)][::-1])()
    if changed == value or name in ("load.body_models", "load.skeleton"):
        pytest.skip("no other value to try")
    assert with_choice(Recipe(), name, json.dumps(changed)).hash != Recipe().hash


def test_a_whole_number_and_its_float_are_one_recipe():
    gate = Recipe().gate
    whole = {f.name: 1 for f in dataclasses.fields(gate) if isinstance(getattr(gate, f.name), float)}
    floats = dict.fromkeys(whole, 1.0)
    assert Recipe(gate=dataclasses.replace(gate, **whole)).hash == Recipe(gate=dataclasses.replace(gate, **floats)).hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "should be an object"),
        ('{"gates": {}}', "no field 'gates'. Known: cut, format, gate"),
        ('{"cut": {"longest": 3}}', "recipe.cut has no field 'longest'"),
        ('{"cut": {"max_s": "long"}}', "recipe.cut.max_s should be float, not 'long'"),
        ('{"cut": {"max_s": true}}', "should be float, not True"),
        ('{"load": {"quaternion": "xwyz"}}', "'auto' or 'wxyz' or 'xyzw', not 'xwyz'"),
        ('{"cut": 3}', "recipe.cut should be an object"),
    ],
)
def test_a_bad_recipe_is_told_what_would_be_right(text, words):
    with pytest.raises(BadRecipe) as caught:
        Recipe.from_json(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["gate", "gate.none_such", "none.such", "cut.max_s.more", ""])
def test_an_unknown_choice_lists_those_there_are(name):
    with pytest.raises(BadRecipe, match=r"Known: .*cut\.max_s"):
        with_choice(Recipe(), name, "1")


def test_the_users_files_count_by_content_not_by_place(tmp_path):
    hashes = []
    for place, content in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "map.toml").write_text(content)
        hashes.append(with_reading(Recipe(), LoadOptions(skeleton=tmp_path / place / "map.toml")).hash)
    assert hashes[0] == hashes[1] != hashes[2]
    assert with_reading(Recipe(), LoadOptions(body_models=tmp_path / "a")).load.body_models != ""
    assert str(tmp_path) not in with_reading(Recipe(), LoadOptions(body_models=tmp_path)).to_json()


def test_a_missing_file_of_the_user_is_named(tmp_path):
    with pytest.raises(MotionloomError, match=r"none\.toml does not exist"):
        with_reading(Recipe(), LoadOptions(skeleton=tmp_path / "none.toml"))


def test_a_recipe_that_names_a_file_wants_that_file(tmp_path):
    (tmp_path / "map.toml").write_text("x = 1")
    recipe = with_reading(Recipe(), LoadOptions(skeleton=tmp_path / "map.toml"))
    assert with_reading(recipe, LoadOptions(skeleton=tmp_path / "map.toml")) == recipe
    with pytest.raises(BadRecipe, match="no files were given"):
        with_reading(recipe, LoadOptions())


def test_differences_are_told_by_name_and_value():
    there = with_choice(Recipe(), "cut.max_s", "7").to_json()
    told = differences(there, Recipe())
    assert told.startswith("cut.max_s is 7.0 there and ") and told.endswith(" here") and "," not in told
