"""One configuration: what follows from it is held to it."""

import inspect
from pathlib import Path

import pytest
import typer
import yaml

from dissect_embed import config
from dissect_embed.cli import app
from dissect_embed.config import Config, read_config
from dissect_embed.distillation import settings
from dissect_embed.errors import ConfigError
from dissect_embed.settings import Section, describe_settings, json_schema

ROOT = Path(__file__).parents[1]
PAIR = {"teacher": "resnet32", "student": "resnet20"}
REMEDY = "run 'python -m dissect_embed.config {} > {}'"


@pytest.mark.parametrize(
    ("name", "write", "what"),
    [
        ("pipelines/schemas/config.schema.yaml", json_schema, "schema"),
        ("docs/settings.md", describe_settings, "page"),
    ],
)
def test_what_is_derived_is_up_to_date(name, write, what):
    assert (ROOT / name).read_text("utf-8") == write(Config), REMEDY.format(what, name)


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines/config").glob("*.yaml")), ids=str)
def test_the_configs_that_come_along_are_right(path):
    mini = yaml.safe_load((ROOT / "pipelines/config/mini.yaml").read_text())
    values = mini | yaml.safe_load(path.read_text())
    read = read_config(values)
    assert read["run"] == values["run"]
    assert read_config(read) == read


def sections(section: type[Section] = Config) -> list[type[Section]]:
    return [
        found
        for found in (*vars(config).values(), *vars(settings).values())
        if isinstance(found, type) and issubclass(found, Section) and found is not Section
    ]


def test_every_setting_has_a_help():
    assert len(sections()) > 10
    for section in sections():
        assert section.__doc__
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key}"
            assert field.description[-1] in ".?", f"{section.__name__}.{key}"


def test_options_of_commands_have_the_defaults_of_the_settings():
    """By name: an option of a stage that is called as a setting has its default."""
    owners = {
        "activations": config.Activations, "dissect": config.Dissection, "embed": config.Embedding,
        "thresholds": config.Dissection, "chance": config.Chance, "train": config.Model,
    }  # fmt: skip
    seen = 0
    for command in app.registered_commands:
        function = command.callback
        section = owners.get(function.__name__)
        if section is None:
            continue
        for name, parameter in inspect.signature(function).parameters.items():
            if name in section.model_fields and name not in (
                "cache",
                "layers",
                "weights",
                "name",
                "arguments",
            ):
                option = parameter.default
                assert isinstance(option, typer.models.OptionInfo), f"{function.__name__} {name}"
                default = section.model_fields[name].default
                several = isinstance(default, tuple)
                assert option.default == (list(default) if several else default)
                more = " Repeat for more." if several else ""
                assert option.help == f"{section.model_fields[name].description}{more}"
                seen += 1
    assert seen > 12


def test_texts_of_the_command_line_become_numbers():
    read = read_config({"embedding": {"seeds": ["4", "5"], "lr": "0.05"}, "run": "2024"})
    assert read["embedding"]["seeds"] == [4, 5]
    assert read["embedding"]["lr"] == 0.05
    assert read["run"] == "2024"
    given = {"size": "224", "channels": "3", "mean": ["0.5", "0.5", "0.5"]}
    read = read_config({"model": {"input": given, "layers": "auto", "prefix_tokens": "1"}})["model"]
    assert (read["input"]["size"], read["input"]["channels"]) == ([224, 224], 3)
    assert (read["input"]["mean"], read["layers"]) == ([0.5, 0.5, 0.5], ["auto"])
    assert read_config({"model": {"input": {"size": ["7", 9]}}})["model"]["input"]["size"] == [7, 9]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": [1, 2, 3]}, "size: .*: expected one number or two, height and width"),
        ({"size": "big"}, "size: 'big': expected one number or two"),
        ({"size": True}, "size: True, expected no truth value"),
        ({"size": 0}, "size.0: 0, expected at least 1"),
        ({"mean": [1, 2]}, "mean: .*: expected three numbers, red, green, blue, or one for gray"),
        ({"range": [1, 0]}, "range: .*: expected two numbers, .* black the smaller"),
        ({"channels": 4}, "channels: 4, expected 1 or 3"),
        ({"interpolation": "x"}, "interpolation: 'x', expected 'bilinear', 'bicubic' or 'nearest'"),
        ({"sise": 2}, "sise: no such setting in this version; did you mean size"),
    ],
)
def test_an_input_that_cannot_be_is_one_line(values, message):
    with pytest.raises(ConfigError, match=rf"^model\.input\.{message}"):
        read_config({"model": {"input": values}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"axes": {"a": "image"}}, r"axes\.a: 'image': expected one of image unit y x, image y"),
        ({"arguments": 3}, "arguments: 3, expected settings by name"),
        ({"layers": 3}, "layers: 3, expected a list"),
        ({"prefix_tokens": -1}, "prefix_tokens: -1, expected at least 0"),
    ],
)
def test_a_network_that_cannot_be_is_one_line(values, message):
    with pytest.raises(ConfigError, match=rf"^model\.{message}"):
        read_config({"model": values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embeding": {}}, "embeding: no such setting in this version; did you mean embedding"),
        ({"dissection": {"null_seed": 1}}, "dissection.null_seed: is called chance.seed now"),
        ({"dataset": ["mini"]}, r"dataset: \['mini'\], expected settings by name"),
        ({"model": {"layers": []}}, "model.layers: .*, expected at least 1 of them"),
        ({"model": {"layers": ["a", "a"]}}, "model.layers: .*: 'a' stands there twice"),
        ({"dataset": {"sha256": "x"}}, "dataset.sha256: 'x', expected a SHA-256"),
        (
            {"distillation": {"methods": ["kdd"]}},
            "distillation.methods.0: 'kdd': expected one of plain",
        ),
        (
            {"distillation": {"pairs": [PAIR, {"teacher": "vgg13"}]}},
            r"^distillation.pairs.1.student: missing; add it$",
        ),
        (
            {"distillation": {"pairs": [PAIR, PAIR | {"student": "vgg"}, PAIR | {"beta": -1}]}},
            r"^distillation.pairs.1.student: 'vgg': expected .*; distillation.pairs.2.beta: -1, e",
        ),
        ({"distillation": {"pairs": ["vgg13"]}}, "pairs.0: 'vgg13', expected settings by name"),
        # As YAML reads "run: 1.10" and "run: 010".
        ({"run": 1.1}, "^run: 1.1 is a number, expected a text; put it in quotes$"),
        ({"run": 8}, "^run: 8 is a number, expected a text; put it in quotes$"),
        ({"model": {"layers": ["a", 3]}}, "^model.layers.1: 3 is a number, expected a text; put"),
        ({"distillation": {"dataset": {"mean": [1, 2]}}}, "mean: .*: expected three numbers"),
        ({"activations": {"cache": "some"}}, "activations.cache: 'some': expected 'all', 'none'"),
        ({"shards": 0}, "shards: 0, expected at least 1"),
        ({"shards": True}, "shards: True, expected no truth value"),
        ({"embedding": {"dim": True}}, "embedding.dim: True, expected no truth value"),
        (
            {"activations": {"cache": [None]}},
            r"^activations.cache: \[None\]: expected 'all', 'none'",
        ),
        ({"activations": {"cache": [3]}}, "^activations.cache: .*; put numbers in quotes$"),
        (
            {"activations": {"cache": [""]}},
            "^activations.cache: .*: expected 'all', 'none' or a li",
        ),
        ({"activations": {"cache": ["a", "a"]}}, "activations.cache: .*: 'a' stands there twice"),
        # As Snakemake's command line gives them: texts.
        ({"embedding": {"target": "minibach"}}, "embedding.target: 'minibach', expected 'mean' or"),
        ({"embedding": {"dim": "0"}}, "embedding.dim: '0', expected at least 1"),
        ({"embedding": {"lr": "-0.1"}}, "embedding.lr: '-0.1', expected more than 0"),
        ({"embedding": {"momentum": "2"}}, "embedding.momentum: '2', expected less than 1"),
        ({"embedding": {"epochs": "0"}}, "embedding.epochs: '0', expected at least 1"),
        ({"embedding": {"seeds": ["1", "1"]}}, "embedding.seeds: .*: 1 stands there twice"),
        (
            {"dissection": {"quantile": "1"}},
            "dissection.quantile: '1': expected at most 0.5: it is",
        ),
        ({"dissection": {"quantile": "1.5"}}, "dissection.quantile: '1.5': expected at most 0.5"),
        ({"dissection": {"quantile": "-0.2"}}, "dissection.quantile: '-0.2', expected more than 0"),
        ({"dissection": {"quantile": "0.995"}}, "dissection.quantile: '0.995': expected at most"),
        ({"dissection": {"quantile": "nan"}}, "dissection.quantile: 'nan', expected a finite numb"),
        ({"chance": {"seed": "-1"}}, "chance.seed: '-1', expected at least 0"),
        ({"atlas": {"colour": "red"}}, "atlas: no such setting in this version; "),
        ({"embedding": {"dim": 2.5}}, "embedding.dim: 2.5, expected a whole number"),
    ],
)
def test_what_is_wrong_is_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(values)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("cache", ["none", ["layer1"]])
def test_minibatches_without_stored_maps_are_refused_before_any_work(cache):
    replayed = {"embedding": {"target": "minibatch"}}
    read_config(replayed)
    with pytest.raises(ConfigError, match=r"embedding\.target: .* set activations\.cache to 'all'"):
        read_config(replayed | {"activations": {"cache": cache}})
