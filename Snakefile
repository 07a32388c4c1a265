# The map of the pipeline: config, rules, targets. Try `snakemake --cores all`.
from snakemake.utils import min_version, validate

min_version("9.20")


configfile: "pipelines/config/mini.yaml"


validate(config, "pipelines/schemas/config.schema.yaml")

RESULTS = f"results/{config['run']}"


include: "pipelines/data.smk"
include: "pipelines/activations.smk"
include: "pipelines/dissection.smk"
include: "pipelines/embedding.smk"
include: "pipelines/figures.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/figures/figure4.svg",
        f"{RESULTS}/scores.csv",
        f"{RESULTS}/controls.csv",
        f"{RESULTS}/units.csv",


onsuccess:
    shell(f"test ! -f {RESULTS}/scores.csv || dissect-embed summary {RESULTS}")
