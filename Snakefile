# The map of the pipeline: config, rules, targets. Try `snakemake --cores all`.
import json
import os
import re

from dissect_embed.workflow import (
    ROW_PATTERN,
    TRAINING_VERSION,
    VERSIONS,
    ConfigError,
    changed_subset,
    data_state,
    file_state,
    has_priors,
    is_path,
    list_pairs,
    list_rows,
    load_config,
    network_state,
    own_teacher,
    prior_paths,
    read_network,
    row_inputs,
    row_options,
    source_state,
    student_path,
    teacher_path,
    write_network,
)
from snakemake.utils import min_version

min_version("9.20")


report: "pipelines/report/workflow.rst"


configfile: workflow.source_path("pipelines/config/mini.yaml")


try:
    config = load_config(config)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

DATASET, MODEL = config["dataset"], config["model"]
RESULTS = f"results/{config['run']}"


# What is said of all images at once is made in parts where there are several shards.
scattergather:
    shards=config["shards"],


SHARDED = config["shards"] > 1
PART = {
    name: f"{name}/shard-{{scatteritem}}" if SHARDED else name
    for name in ("activations", "dissect", "profiles", "chance", "similarity")
}
# What every stage checks its inputs against:
EXPECT = [
    f"--expect=dataset.name={DATASET['name']}",
    f"--expect=dataset.split={DATASET['split']}",
    f"--expect=model.name={MODEL['name']}",
    f"--expect=model.weights={MODEL['weights']}",
    f"--expect=model.layers={','.join(MODEL['layers'])}",
]
# The file of the network's weights, if there is one. Where layers are not cached, the network runs
# in every stage that looks at them.
CHECKPOINT = [f"{RESULTS}/model.pt"] if MODEL["weights"] == "trained" else []
WEIGHTS = [MODEL["weights"]] if is_path(MODEL["weights"]) else CHECKPOINT
CACHE = config["activations"]["cache"]
CACHED = [CACHE] if isinstance(CACHE, str) else CACHE
AGAIN = CACHED != ["all"] and set(CACHED) != set(MODEL["layers"])
ARGUMENTS = (
    [f"--arguments={json.dumps(MODEL['arguments'])}"] if MODEL["arguments"] else []
)
NETWORK = [
    f"--model={MODEL['name']}",
    f"--weights={MODEL['weights']}",
    *ARGUMENTS,
    *(f"--checkpoint={path}" for path in CHECKPOINT),
]
# Which images and labels of the data set, where not all.
SUBSET = (
    [f"--subset={json.dumps(subset)}"] if (subset := changed_subset(DATASET)) else []
)
# What the network is given; later stages read it from activations.h5.
INPUT = [f"--input={json.dumps(MODEL['input'])}"]
REPLAY = (
    [f"--dataset={DATASET['root']}", f"--split={DATASET['split']}", *SUBSET, *NETWORK]
    if AGAIN
    else []
)


include: "pipelines/data.smk"
include: "pipelines/activations.smk"
include: "pipelines/dissection.smk"
include: "pipelines/evidence.smk"
include: "pipelines/embedding.smk"
include: "pipelines/ablation.smk"
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
        f"{RESULTS}/compositions.csv",
        f"{RESULTS}/evidence.csv",
        f"{RESULTS}/relations.csv",
        f"{RESULTS}/vectors.npz",
        f"{RESULTS}/atlas/index.html",
        f"{RESULTS}/report.html",


onsuccess:
    shell(f"test ! -f {RESULTS}/scores.csv || dissect-embed summary {RESULTS}")
