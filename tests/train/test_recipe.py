"""Recipes: what they hold, and what is said of an impossible one."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch")

from mien.errors import OptionError, SourceNotFoundError
from mien.labels import EIGHT, SEVEN, SIX
from mien.train.augment import Augment
from mien.train.nets import NETS
from mien.train.recipe import PLAIN, Optim, Recipe, Stage, plain_recipe, read_recipe, recipe_of

RECIPES = Path(__file__).parents[2] / "recipes"
FLAGSHIP = RECIPES / "flagship.toml"
PAGE = RECIPES.parent / "docs" / "training.md"


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
        ("[optim]\nrate = 3", r"recipe\.optim: unknown setting rate; choose from kind, lr"),
        ("epochs = 'many'", "recipe: epochs is 'many'; it must be a whole number"),
        ("epochs = 2.5", "epochs is 2.5; it must be a whole number"),
        ("batch = true", "batch is True; it must be a whole number"),
        ("[optim]\nlr = 'x'", "lr is 'x'; it must be a number"),
        ("net = 3", "net is 3; it must be a text"),
        ("optim = 3", r"recipe\.optim: expected settings, got 3"),
        ("stages = 3", r"recipe\.stages: expected a list of stages, got 3"),
        ("[[stages]]\nsize = 48", r"recipe\.stages: a setting is missing"),
        ("[[stages]]\nstart = 0.5\nsize = 40", "the first starts at 0"),
        ("stages = []", "stages cannot be"),
        ("epochs = 0", "recipe mine: epochs cannot be 0; train for one or more"),
        ("batch = 0", "batch cannot be 0"),
        ("validation = 1.5", "validation cannot be 1.5; it is the share of Training"),
        ("[optim]\nhold = 1", "optim.hold cannot be 1"),
        ("[optim]\nkind = 'lamb'", "optim.kind cannot be 'lamb'; choose from sgd, adam, adamw"),
        ("[optim]\nschedule = 'steps'", "optim.schedule cannot be 'steps'; choose from trapezoid, cosine, onecycle"),
        ("[optim]\nlr = 0", "optim.lr cannot be 0; a rate is more than 0"),
        ("[optim]\nema = 1.0", "optim.ema cannot be 1.0"),
        ("[optim]\nfactor = 1", "optim.factor cannot be 1"),
        ("[optim]\npatience = 0", "optim.patience cannot be 0"),
        ("smoothing = 1", "smoothing cannot be 1"),
        ("accumulate = 200", "accumulate cannot be 200"),
        ("patience = -1", "patience cannot be -1"),
        ("checkpoint_every = -1", "checkpoint_every cannot be -1"),
        ("labels = 'nine'", "labels cannot be 'nine'; unknown label set 'nine'"),
        ("labels = ['smile']", r"labels cannot be \('smile',\)"),
        ("labels = ['smile', 3]", "labels is .* it must be a text, or a list of texts"),
        ("targets = 'wishes'", "targets cannot be 'wishes'; choose from labels, votes"),
        ("targets = 'votes'", "targets cannot be 'votes'; heads of both kinds"),
        ("merge = {disgust = 'angry'}", "merge cannot be .*; heads of both kinds"),
        ("labels = 'six'\nmerge = {disgust = 1}", "merge is .* it must be a table of texts"),
        ("class_weights = 'all'", "class_weights cannot be 'all'"),
        ("sampler = 'rare'", "sampler cannot be 'rare'"),
        ("split_by = 'film'", "split_by cannot be 'film'"),
        ("mode = 'best'", "mode cannot be 'best'"),
        ("teacher_weight = 1.5", "teacher_weight cannot be 1.5"),
        ("teacher_weight = {mood = 0.5}", "there is no head mood; the heads are crowd, fer2013"),
        ("teacher = 'runs/a'", "teacher is 'runs/a'; it must be a list of texts"),
        ("freeze_trunk = 1", "freeze_trunk is 1; it must be true or false"),
        ("[augment]\nenabled = 0", "enabled is 0; it must be true or false"),
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


def test_heads_are_those_of_the_labels() -> None:
    assert Recipe(name="r").heads() == {"crowd": EIGHT, "fer2013": SEVEN}
    assert Recipe(name="r", labels="six").heads() == {"labels": SIX}
    own = Recipe(name="r", labels=("smile", "pout", "neutral"))
    assert own.heads()["labels"].labels == ("smile", "pout", "neutral")
    assert Recipe(name="r", labels="smile,pout,neutral").heads() == own.heads()
    assert [Recipe(name="r").soft(head) for head in ("crowd", "fer2013")] == [True, False]
    assert Recipe(name="r", labels="six", targets="votes").soft("labels")


def test_a_teacher_has_one_weight_or_one_for_each_head() -> None:
    assert Recipe(name="r", teacher_weight=0.3).teacher_share("crowd") == 0.3
    several = Recipe(name="r", teacher_weight={"fer2013": 0.4})
    assert (several.teacher_share("crowd"), several.teacher_share("fer2013")) == (0, 0.4)


@pytest.mark.parametrize(
    ("monitor", "mode", "lower"),
    [
        ("val_loss", "auto", True),
        ("val_accuracy", "auto", False),
        ("val_f1", "auto", False),
        ("val_loss", "max", False),
    ],
)
def test_what_is_best(monitor: str, mode: str, lower: bool) -> None:
    assert Recipe(name="r", monitor=monitor, mode=mode).lower_is_better() is lower


def test_a_recipe_of_before_reads_as_it_did(tmp_path: Path) -> None:
    old = {
        "name": "old",
        "net": "residual",
        "net_options": {"widths": [8, 16]},
        "epochs": 3,
        "batch": 16,
        "seed": 1,
        "precision": "32-true",
        "validation": 0.1,
        "crowd_weight": 1.0,
        "fer2013_weight": 1.0,
        "smoothing": 0.1,
        "optim": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 0.03, "hold": 0.4, "ema": 0.998},
        "augment": {"rotate": 12.0, "scale": 0.15, "shift": 0.08, "shear": 0.08, "gamma": 0.3, "blur": 0.1}
        | {"noise": 0.1, "erase": 0.5, "mixup": 0.3},
        "stages": [{"start": 0.0, "size": 40, "mixup": None}],
        "card": {},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(old), encoding="utf-8")
    recipe = read_recipe(tmp_path / "recipe.json")
    assert recipe == Recipe(
        name="old",
        net_options={"widths": [8, 16]},
        epochs=3,
        batch=16,
        precision="32-true",
        validation=0.1,
        stages=(Stage(start=0.0, size=40),),
    )
    assert (recipe.labels, recipe.optim.kind, recipe.optim.schedule) == ("both", "sgd", "trapezoid")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda f: f.stem)
def test_every_recipe_that_is_shipped_reads_and_reads_back(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.net in NETS
    assert recipe_of(json.loads(json.dumps(recipe.as_dict()))) == recipe


COMPARED = ("emoticon", "simple256", "elu5", "mememoji", "mememoji_baseline", "minixception", "resnet18", "vgg13")


@pytest.mark.parametrize("name", COMPARED)
def test_the_nets_of_tutorials_are_trained_alike(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe == plain_recipe(name, settings=[f"card={_inline(recipe.card)}"])
    assert recipe.heads() == {"labels": SEVEN}


def _inline(card: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in card.items()) + "}"


def test_flags_are_settings_upon_the_plain_ones() -> None:
    recipe = plain_recipe("elu5", settings=['labels="six"', "epochs=2", "optim.lr=0.01"])
    assert (recipe.name, recipe.net, recipe.labels, recipe.epochs, recipe.optim.lr) == ("elu5", "elu5", "six", 2, 0.01)
    assert recipe.batch == PLAIN["batch"]
    assert plain_recipe("elu5").optim.lr == PLAIN["optim"]["lr"]


def _settings(kind: type, before: str = "") -> dict[str, object]:
    """Return every setting with its default, as plain values."""
    table = json.loads(json.dumps(dataclasses.asdict(kind(name="r") if kind is Recipe else kind())))
    parts = {"name", "optim", "augment", "stages"}
    return {before + name: value for name, value in table.items() if name not in parts}


def test_the_page_on_training_has_every_setting_and_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)`)? *\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: tomllib.loads(f"x = {default}")["x"] if default else None for name, default in rows}
    assert told.pop("stages") == [{"start": 0.0}]
    assert told == _settings(Recipe) | _settings(Optim, "optim.") | _settings(Augment, "augment.")
