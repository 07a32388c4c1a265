# The map of the pipeline: config, rules, targets. Try `snakemake --cores all`.
import json
import re

import yaml
from dissect_embed.artefacts.files import SCHEMA_VERSIONS
from dissect_embed.distillation import TRAINING_VERSION
from dissect_embed.distillation.results.names import (
    ROW_PATTERN,
    list_pairs,
    list_rows,
    own_teacher,
    prior_paths,
    read_network,
    row_inputs,
    row_options,
    student_path,
    teacher_path,
    write_network,
)
from dissect_embed.settings import read_types
from snakemake.utils import min_version, validate

min_version("9.20")


report: "pipelines/report/workflow.rst"


configfile: "pipelines/config/mini.yaml"


with open(workflow.source_path("pipelines/schemas/config.schema.yaml")) as schema:
    config.update(read_types(config, yaml.safe_load(schema)))
validate(config, "pipelines/schemas/config.schema.yaml")

RESULTS = f"results/{config['run']}"


# What is said of all images at once is made in parts where there are several shards.
scattergather:
    shards=config["shards"],


SHARDED = config["shards"] > 1
PART = {
    name: f"{name}/shard-{{scatteritem}}" if SHARDED else name
    for name in ("activations", "dissect", "profiles", "similarity")
}
# Rules that ask for 16 threads get the cores there are. What every stage checks its inputs against:
EXPECT = [
    f"--expect=dataset.name={config['dataset']['name']}",
    f"--expect=dataset.split={config['dataset']['split']}",
    f"--expect=model.name={config['model']['name']}",
    f"--expect=model.weights={config['model']['weights']}",
    f"--expect=layers={','.join(config['model']['layers'])}",
]


include: "pipelines/data.smk"
include: "pipelines/activations.smk"
include: "pipelines/dissection.smk"
include: "pipelines/embedding.smk"
include: "pipelines/figures.smk"
include: "pipelines/distillation.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/figures/figure2.svg",
        f"{RESULTS}/figures/figure3.svg",
        f"{RESULTS}/figures/figure4.svg",
        f"{RESULTS}/figures/detectors.svg",
        f"{RESULTS}/scores.csv",
        f"{RESULTS}/controls.csv",
        f"{RESULTS}/units.csv",
        f"{RESULTS}/relations.csv",
        f"{RESULTS}/vectors.npz",
        f"{RESULTS}/atlas/index.html",
        f"{RESULTS}/report.html",


onsuccess:
    shell(f"test ! -f {RESULTS}/scores.csv || dissect-embed summary {RESULTS}")
