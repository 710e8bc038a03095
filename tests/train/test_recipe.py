"""Recipes: what they hold, and what is said of an impossible one."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from mien.errors import OptionError, SourceNotFoundError
from mien.train.augment import Augment
from mien.train.recipe import Optim, Recipe, Stage, read_recipe

FLAGSHIP = Path(__file__).parents[2] / "recipes" / "flagship.toml"


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_flagship_recipe_is_one() -> None:
    recipe = read_recipe(FLAGSHIP)
    assert recipe.name == "flagship"
    assert recipe.stages[0].start == 0
    assert 0 < recipe.validation < 0.2


def test_what_a_file_does_not_say_is_the_default(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, "epochs = 3\n[optim]\nlr = 0.5\n[augment]\nerase = 0\n"))
    assert recipe == Recipe(name="mine", epochs=3, optim=Optim(lr=0.5), augment=Augment(erase=0))


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    settings = ["optim.lr=0.02", "epochs = 7", "net=residual", "augment.mixup=0", "net_options.widths=[8, 16]"]
    recipe = read_recipe(write(tmp_path, "epochs = 3"), settings=settings)
    assert (recipe.optim.lr, recipe.epochs, recipe.net, recipe.augment.mixup) == (0.02, 7, "residual", 0)
    assert recipe.net_options == {"widths": [8, 16]}


def test_a_runs_recipe_reads_back(tmp_path: Path) -> None:
    recipe = read_recipe(FLAGSHIP)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.as_dict()), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.json") == recipe


def test_stages_decide_the_size_of_an_epoch() -> None:
    recipe = Recipe(name="r", epochs=10, stages=(Stage(start=0, size=32), Stage(start=0.55, size=48)))
    assert [recipe.stage_at(e).size for e in range(10)] == [32] * 6 + [48] * 4


def test_a_stage_mixes_as_the_recipe_does_unless_it_says_otherwise() -> None:
    stages = (Stage(start=0, size=32), Stage(start=0.5, size=32, mixup=0.0))
    recipe = Recipe(name="r", epochs=4, stages=stages, augment=Augment(mixup=0.4))
    assert [recipe.stage_at(e).mixup for e in range(4)] == [0.4, 0.4, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "mine.toml: not a recipe"),
        ("epoch = 3", "recipe: unknown setting epoch; choose from name, net"),
        ("[optim]\nrate = 3", r"recipe\.optim: unknown setting rate; choose from lr"),
        ("epochs = 'many'", "recipe: epochs is 'many'; it must be a whole number"),
        ("epochs = 2.5", "epochs is 2.5; it must be a whole number"),
        ("batch = true", "batch is True; it must be a whole number"),
        ("[optim]\nlr = 'x'", "lr is 'x'; it must be a number"),
        ("net = 3", "net is 3; it must be a text"),
        ("optim = 3", r"recipe\.optim: expected settings, got 3"),
        ("stages = 3", r"recipe\.stages: expected a list of stages, got 3"),
        ("[[stages]]\nstart = 0.0", r"recipe\.stages: a setting is missing"),
        ("[[stages]]\nstart = 0.5\nsize = 40", "the first starts at 0"),
        ("stages = []", "stages cannot be"),
        ("epochs = 0", "recipe mine: epochs cannot be 0; train for one or more"),
        ("batch = 0", "batch cannot be 0"),
        ("validation = 1.5", "validation cannot be 1.5; it is the share of Training"),
        ("[optim]\nhold = 1", "optim.hold cannot be 1"),
    ],
)
def test_an_impossible_recipe_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        read_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["optim.lr", "epochs.more=3", "a.b.c"])
def test_an_impossible_setting_is_named(tmp_path: Path, setting: str) -> None:
    with pytest.raises(OptionError, match=f"--set '{setting}': write it as name=value"):
        read_recipe(write(tmp_path, "epochs = 3"), settings=[setting])


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"gone\.toml: no such recipe"):
        read_recipe(tmp_path / "gone.toml")
