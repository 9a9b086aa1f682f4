"""The form is the recipe: every option is there, and comes back as it was given."""

import pytest
from magicgui.widgets import LineEdit
from test_recipe import OTHER, nested, value_of

from dip_sci.recipe import Recipe, options
from napari_plugin._form import Form


@pytest.fixture(scope="module")
def form(qapp):
    return Form()


@pytest.mark.parametrize("name", options())
def test_an_option_survives_the_form(form, name):
    recipe = Recipe.parse(nested(name, OTHER[name]))
    form.show(recipe)
    assert form.recipe() == recipe
    assert value_of(form.recipe(), name) == OTHER[name]
    assert form.given() == recipe.model_dump(exclude_unset=True) or isinstance(OTHER[name], tuple)
    form.show(Recipe())
    assert form.given() == {}


@pytest.mark.parametrize("name", options())
def test_an_option_is_described_where_it_is_set(form, name):
    assert form[name].tooltip == " ".join(options()[name].description.split())


def test_the_groups_are_the_recipes(form):
    groups = form.groups()
    assert sum(len(inside) for inside in groups.values()) == len(options())
    assert set(groups) == {name.rpartition(".")[0] for name in options()}


@pytest.mark.parametrize(
    ("name", "text"),
    [("fit.rate", "0"), ("fit.steps", "many"), ("noise.sigma", "-3"), ("generator.kernel_down", "4"), ("seed", "1.5")],
)
def test_what_cannot_be_is_marked_and_told(form, name, text):
    form.show(Recipe())
    form[name].value = text
    assert name in form.error()
    assert form[name].native.styleSheet()
    form[name].value = ""
    assert form.error() == ""
    assert not form[name].native.styleSheet()


def test_options_that_contradict_each_other_are_told(form):
    form.show(Recipe())
    form["noise.model"].value, form["noise.gain"].value = "gaussian", "2"
    assert "noise.gain belongs to" in form.error()
    form.show(Recipe())


def test_small_and_large_numbers_are_what_was_typed(form):
    form["fit.rate"].value, form["fit.steps"].value = "1e-5", "123456"
    assert (form.recipe().fit.rate, form.recipe().fit.steps) == (1e-5, 123456)
    form.show(Recipe())


def test_an_empty_line_says_what_it_stands_for(form):
    for name, field in form.fields.items():
        if isinstance(field.widget, LineEdit):
            assert field.widget.native.placeholderText(), name


def test_a_change_is_heard():
    heard = []
    form = Form(lambda: heard.append(1))
    form["preset"].value = "fast"
    assert heard == [1]
    form.show(Recipe())
    assert heard == [1, 1]
