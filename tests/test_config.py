"""Configuration files: strict, and one may build on another."""

from pathlib import Path

import pytest

from fingerprint.errors import ConfigError
from fingerprint.lab.training.config import TrainConfig, load_recipe
from fingerprint.lab.yaml_files import load_config

CONFIGS = Path(__file__).parents[1] / "configs"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_file_changes_single_keys_of_its_base(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="steps: 7\ndegrade: {room: 0.5, noise: 0.25}\nmodel: {embedder: {dim: 64}}",
        small="base: base.yaml\ndegrade: {noise: 0.0}\nmodel: {embedder: {depth: 1}}",
    )
    config = load_config(tmp_path / "small.yaml", TrainConfig)
    assert (config.steps, config.degrade.room, config.degrade.noise) == (7, 0.5, 0.0)
    assert (config.model.embedder.dim, config.model.embedder.depth) == (64, 1)


def test_a_base_that_is_missing_or_has_a_base_itself_is_named(tmp_path: Path) -> None:
    write(tmp_path, a="base: b.yaml", b="base: c.yaml", c="steps: 3", lost="base: gone.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml: its base .*b\.yaml has a base itself"):
        load_config(tmp_path / "a.yaml", TrainConfig)
    with pytest.raises(ConfigError, match=r"lost\.yaml.*gone\.yaml"):
        load_config(tmp_path / "lost.yaml", TrainConfig)


@pytest.mark.parametrize("text", ["stepz: 3", "steps: '3'", "steps: 0", "- 3", "degrade: 3"])
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"wrong\.yaml") as error:
        load_config(write(tmp_path, wrong=text) / "wrong.yaml", TrainConfig)
    assert "\n" not in str(error.value)


def test_music_of_unknown_or_repeated_roles_is_refused(tmp_path: Path) -> None:
    write(tmp_path, twice="music: [train, train]", test="music: [test]", more="music: [rendered]")
    for name in ("twice", "test"):
        with pytest.raises(ConfigError, match="music"):
            load_config(tmp_path / f"{name}.yaml", TrainConfig)
    assert load_config(tmp_path / "more.yaml", TrainConfig).music == ("rendered",)


def test_wrong_keys_of_a_base_are_found_when_a_file_that_extends_it_is_loaded(
    tmp_path: Path,
) -> None:
    write(tmp_path, base="stepz: 3", above="base: base.yaml")
    with pytest.raises(ConfigError, match="stepz"):
        load_config(tmp_path / "above.yaml", TrainConfig)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=str)
def test_every_shipped_configuration_loads(path: Path) -> None:
    load_recipe(path)


def test_a_stage_lists_what_differs_from_the_stage_before(tmp_path: Path) -> None:
    text = """
    stages:
      one: {steps: 3, start: old.pt, degrade: {noise: 0.5, room: 0.25}}
      two: {steps: 4, degrade: {noise: 0.75}}
      three: {start: two/model.pt}
    """
    recipe = load_recipe(write(tmp_path, recipe=text) / "recipe.yaml")
    one, two, three = recipe.stages.values()
    assert (one.start, two.start, three.start) == ("old.pt", "", "two/model.pt")
    assert (one.steps, two.steps, three.steps) == (3, 4, 4)
    assert [stage.degrade.noise for stage in (one, two, three)] == [0.5, 0.75, 0.75]
    assert [stage.degrade.room for stage in (one, two, three)] == [0.25] * 3


def test_a_file_without_stages_is_a_recipe_of_one(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, small="steps: 3") / "small.yaml")
    assert recipe.stages == {"small": TrainConfig(steps=3)}


@pytest.mark.parametrize(
    "text",
    [
        "stages: 3", "stages:", "stages: {one: 3}", "stages: {one: {stepz: 3}}",
        "stages: {one: {}}\nstage: one",
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_recipe_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"wrong\.yaml") as error:
        load_recipe(write(tmp_path, wrong=text) / "wrong.yaml")
    assert "\n" not in str(error.value)
