"""The recipe: every option survives a file, and every mistake is named."""

import json

import pydantic
import pytest
import yaml

from dip_sci.errors import RecipeError
from dip_sci.recipe import Recipe, options

# For each option, a value other than its default. A new option needs a line here.
OTHER = {
    "preset": "best",
    "seed": 7,
    "device": "cuda:1",
    "noise.model": "poisson_gaussian",
    "noise.sigma": 2.5,
    "noise.gain": 1.25,
    "noise.offset": -100.0,
    "noise.read_noise": 3.5,
    "noise.looks": 12.0,
    "noise.spatial": "correlated",
    "noise.interference": "keep",
    "noise.outliers": "keep",
    "generator.kind": "hourglass",
    "generator.ndim": "3d",
    "generator.neighbours": 2,
    "generator.along": "T",
    "generator.joint_channels": True,
    "generator.channels": (16, 32, 64),
    "generator.up_channels": (8, 16, 32),
    "generator.skip_channels": (0, 4, 4),
    "generator.kernel_down": (7, 5, 3),
    "generator.kernel_up": (5,),
    "generator.downsample": "average",
    "generator.upsample": ("nearest", "linear", "linear"),
    "generator.pointwise": False,
    "generator.norm": "instance",
    "generator.output": "sigmoid",
    "generator.dropout": 0.25,
    "input.kind": "meshgrid",
    "input.channels": 2,
    "input.scale": 0.5,
    "input.jitter": 0.0,
    "operator.kernel": "box",
    "operator.denoise": "no",
    "supervision.kind": "full",
    "supervision.recorrupt": "split",
    "supervision.hidden": (0.2, 0.3),
    "supervision.strength": (0.5, 0.7),
    "supervision.passes": 3,
    "supervision.patch": 64,
    "supervision.flips": "no",
    "fit.steps": 0,
    "fit.rate": 1e-05,
    "fit.schedule": "constant",
    "fit.averaging": 0.9,
    "fit.seeds": 4,
    "fit.precision": "bfloat16",
    "fit.tv": 0.05,
    "fit.outside": 0.0,
    "stop.rule": "held_out",
    "stop.window": 50,
    "stop.alpha": 0.2,
    "stop.patience": 10,
    "stop.min_start": 0,
    "stop.held_out": 0.05,
    "stop.discrepancy": 1.1,
    "stop.split": 0.7,
    "stop.max_seconds": 12.5,
    "output.dtype": "float32",
    "output.known": "restore",
    "output.outside": "restore",
    "output.classical": "beside",
    "output.tile": 256,
}

WRONG = [
    ({"preset": "slow"}, "preset"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**31}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"device": "tpu"}, "device"),
    ({"noise": {"sigma": 0}}, "noise.sigma"),
    ({"noise": {"sigma": float("nan")}}, "noise.sigma"),
    ({"noise": {"gain": -1}}, "noise.gain"),
    ({"noise": {"offset": float("inf")}}, "noise.offset"),
    ({"noise": {"read_noise": -0.1}}, "noise.read_noise"),
    ({"noise": 3}, "noise"),
    ({"noise": {"model": "gaussian", "gain": 2}}, "noise.gain"),
    ({"noise": {"model": "gaussian", "offset": 5}}, "noise.offset"),
    ({"noise": {"model": "gaussian", "read_noise": 0}}, "noise.read_noise"),
    ({"noise": {"model": "poisson_gaussian", "sigma": 5}}, "noise.sigma"),
    ({"noise": {"sigma": 5, "gain": 2}}, "noise.gain"),
    ({"noise": {"sigma": 5, "offset": 0}}, "noise.offset"),
    ({"noise": {"sigma": 5, "read_noise": 1}}, "noise.read_noise"),
    ({"noise": {"gain": 2, "looks": 9}}, "noise.looks"),
    ({"noise": {"model": "rician", "looks": 9}}, "noise.looks"),
    ({"generator": {"channels": []}}, "generator.channels"),
    ({"generator": {"channels": [8, -8]}}, "generator.channels"),
    ({"generator": {"kernel_down": [0]}}, "generator.kernel_down"),
    ({"generator": {"kernel_down": [4]}}, "generator.kernel_down"),
    ({"generator": {"kernel_up": [3, 2]}}, "generator.kernel_up"),
    ({"generator": {"upsample": ["cubic"]}}, "generator.upsample"),
    ({"generator": {"dropout": 1.0}}, "generator.dropout"),
    ({"input": {"channels": 0}}, "input.channels"),
    ({"input": {"jitter": -1}}, "input.jitter"),
    ({"supervision": {"hidden": [0.5, 0.2]}}, "hidden"),
    ({"supervision": {"hidden": [0.0, 0.2]}}, "supervision.hidden"),
    ({"supervision": {"strength": [1.0, 0.5]}}, "strength"),
    ({"generator": {"neighbours": -1}}, "generator.neighbours"),
    ({"output": {"classical": "bm3d"}}, "output.classical"),
    ({"supervision": {"passes": 0}}, "supervision.passes"),
    ({"supervision": {"patch": 8}}, "supervision.patch"),
    ({"fit": {"steps": -1}}, "fit.steps"),
    ({"fit": {"steps": "many"}}, "fit.steps"),
    ({"fit": {"rate": 0}}, "fit.rate"),
    ({"fit": {"averaging": 1}}, "fit.averaging"),
    ({"fit": {"seeds": 0}}, "fit.seeds"),
    ({"fit": {"outside": 1.1}}, "fit.outside"),
    ({"fit": {"tv": -1}}, "fit.tv"),
    ({"generator": {"kind": "resnet", "dropout": 0.5}}, "generator.dropout"),
    ({"stop": {"window": 1}}, "stop.window"),
    ({"stop": {"alpha": 1}}, "stop.alpha"),
    ({"stop": {"held_out": 0}}, "stop.held_out"),
    ({"stop": {"max_seconds": 0}}, "stop.max_seconds"),
    ({"output": {"dtype": "float16"}}, "output.dtype"),
]


def nested(name, value):
    group, _, key = name.rpartition(".")
    return {group: {key: value}} if group else {key: value}


def value_of(recipe, name):
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return recipe


def test_every_option_has_another_value_in_the_table():
    assert set(OTHER) == set(options())


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json", ".JSON"])
@pytest.mark.parametrize("name", options())
def test_an_option_survives_a_file(tmp_path, name, suffix):
    recipe = Recipe.parse(nested(name, OTHER[name]))
    assert value_of(recipe, name) == OTHER[name] != value_of(Recipe(), name)
    path = tmp_path / f"recipe{suffix}"
    recipe.save(path)
    again = Recipe.load(path)
    assert again == recipe
    assert type(value_of(again, name)) is type(value_of(recipe, name))


def test_a_saved_recipe_holds_every_option_by_name(tmp_path):
    for suffix, parse in ((".yaml", yaml.safe_load), (".json", json.loads)):
        path = tmp_path / f"recipe{suffix}"
        Recipe().save(path)
        data = parse(path.read_text())
        found = {f"{g}.{k}" for g, v in data.items() if isinstance(v, dict) for k in v}
        found |= {k for k, v in data.items() if not isinstance(v, dict)}
        assert found == set(options())


@pytest.mark.parametrize("name", options())
def test_an_option_is_described(name):
    described = options()[name].description
    assert described
    assert described.rstrip().endswith(".")


@pytest.mark.parametrize("name", options())
def test_a_recipe_is_frozen(name):
    group, _, key = name.rpartition(".")
    owner = getattr(Recipe(), group) if group else Recipe()
    with pytest.raises(pydantic.ValidationError):
        setattr(owner, key, OTHER[name])


@pytest.mark.parametrize(("data", "place"), WRONG, ids=lambda p: str(p))
def test_a_wrong_value_is_named(data, place):
    with pytest.raises(RecipeError, match=place.replace(".", r"\.")):
        Recipe.parse(data)


@pytest.mark.parametrize(
    ("data", "near"),
    [
        ({"fit": {"step": 3}}, "fit.steps"),
        ({"stop": {"patience_": 3}}, "stop.patience"),
        ({"sead": 3}, "seed"),
        ({"genarator": {"channels": [8]}}, "generator"),
        ({"fit": {"max_seconds": 3}}, "stop.max_seconds"),
        ({"steps": 3}, "fit.steps"),
    ],
)
def test_an_unknown_option_names_the_nearest(data, near):
    with pytest.raises(RecipeError, match=f"did you mean '{near}'"):
        Recipe.parse(data)


def test_an_option_like_no_other_is_unknown_without_a_guess():
    with pytest.raises(RecipeError, match=r"unknown option 'xyzzy'\.") as error:
        Recipe.parse({"xyzzy": 1})
    assert "did you mean" not in str(error.value)


def test_all_mistakes_are_told_at_once():
    data = {
        "sead": 1,
        "noise": {"sigma": 3, "gain": 2},
        "generator": {"kernel_down": [3, 4], "kernel_up": [2], "dropout": 1},
        "fit": {"steps": -1},
        "stop": {"alpha": 2},
    }
    with pytest.raises(RecipeError) as error:
        Recipe.parse(data)
    for place in (
        "'sead'",
        "noise.gain",
        "generator.kernel_down",
        "generator.kernel_up",
        "generator.dropout",
        "fit.steps",
        "stop.alpha",
    ):
        assert place in str(error.value)


def test_a_mistake_is_told_once():
    with pytest.raises(RecipeError) as error:
        Recipe.parse({"generator": {"kernel_down": [3, 4]}})
    assert str(error.value).count("kernel_down") == 1


CAMERA = {"model": "poisson_gaussian", "gain": 2.0, "offset": 100.0, "read_noise": 5.0}


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (CAMERA, {"sigma": 10}, {"sigma": 10}),
        (CAMERA, {"model": "rician"}, {"model": "rician"}),
        (CAMERA, {"model": "poisson"}, {"model": "poisson", "gain": 2, "offset": 100}),
        (CAMERA, {"model": "auto", "sigma": 10}, {"sigma": 10}),
        (CAMERA, {"gain": 3}, CAMERA | {"gain": 3}),
        (CAMERA, {"model": "auto", "spatial": "correlated"}, CAMERA | {"model": "auto", "spatial": "correlated"}),
        (CAMERA, {"sigma": None}, CAMERA),
        ({"sigma": 2, "outliers": "keep"}, {"gain": 2}, {"gain": 2, "outliers": "keep"}),
        ({"model": "rician", "sigma": 2}, {"offset": 7}, {"offset": 7}),
        ({"model": "rician", "sigma": 2}, {"model": "gaussian"}, {"model": "gaussian", "sigma": 2}),
        ({"model": "poisson", "gain": 2}, {"read_noise": 3}, {"gain": 2, "read_noise": 3}),
        ({}, {"sigma": 2}, {"sigma": 2}),
    ],
    ids=str,
)
def test_merging_drops_what_belongs_to_another_noise_model(before, changes, after):
    # A saved recipe says of all options that they are not given; that is no contradiction.
    for recipe in (Recipe.parse({"noise": before}), Recipe.parse(Recipe.parse({"noise": before}).model_dump())):
        assert recipe.merged({"noise": changes}) == Recipe.parse({"noise": after})


def test_merging_does_not_settle_a_contradiction_within_the_changes():
    with pytest.raises(RecipeError, match=r"noise\.gain belongs to .*poisson.*, noise\.sigma to gaussian"):
        Recipe.parse({"noise": CAMERA}).merged({"noise": {"sigma": 2, "gain": 2}})
    with pytest.raises(RecipeError, match=r"noise\.model"):
        Recipe.parse({"noise": CAMERA}).merged({"noise": {"model": "snow"}})
    with pytest.raises(RecipeError, match="noise"):
        Recipe.parse({"noise": CAMERA}).merged({"noise": 3})


@pytest.mark.parametrize("data", [{"noise": CAMERA | {"sigma": 2}}, {"supervision": {"hidden": [0.5, 0.2]}}])
def test_a_contradiction_is_told_in_words(data):
    with pytest.raises(RecipeError) as error:
        Recipe.parse(data)
    assert "{" not in str(error.value)
    assert str(error.value).count("noise.sigma") <= 1


@pytest.mark.parametrize("data", [[1], "fast", 3])
def test_a_recipe_is_made_of_groups(data):
    with pytest.raises(RecipeError, match="groups of options"):
        Recipe.parse(data)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", "fit: {steps: 3", "not valid"),
        ("a.json", "{'fit': 3}", "not valid"),
        ("a.yaml", "- 1", "groups of options"),
        ("a.yaml", "fit: {stepps: 3}", "fit.steps"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RecipeError, match=says) as error:
        Recipe.load(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(RecipeError, match="not valid"):
        Recipe.load(path)


def test_an_empty_file_is_the_default(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert Recipe.load(path) == Recipe()


def test_merging_keeps_what_is_not_replaced():
    recipe = Recipe.parse({"seed": 3, "fit": {"steps": 9, "rate": 0.5}, "noise": {"sigma": 2}})
    merged = recipe.merged({"fit": {"steps": 4}, "stop": {"rule": "fixed"}})
    assert (merged.fit.steps, merged.stop.rule) == (4, "fixed")
    assert (merged.seed, merged.fit.rate, merged.noise.sigma) == (3, 0.5, 2)
    assert recipe.fit.steps == 9
    assert recipe.merged({}) == recipe


def test_merging_checks_and_says_where():
    with pytest.raises(RecipeError, match=r"the flags: fit\.steps"):
        Recipe().merged({"fit": {"steps": "x"}}, where="the flags")
