# The network, and what its layers put out.

CHECKPOINT = [f"{RESULTS}/model.pt"] if config["model"]["weights"] == "trained" else []
NETWORK = [
    f"--model={config['model']['name']}",
    f"--weights={config['model']['weights']}",
    *(f"--checkpoint={path}" for path in CHECKPOINT),
]
CACHE = config["activations"]["cache"]
CACHED = [CACHE] if isinstance(CACHE, str) else CACHE


rule train:
    input:
        index=f"{config['dataset']['root']}/index.csv",
    output:
        f"{RESULTS}/model.pt",
    log:
        f"{RESULTS}/logs/train.log",
    benchmark:
        f"{RESULTS}/logs/train.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        root=subpath(input.index, parent=True),
        model=config["model"]["name"],
        epochs=config["model"].get("epochs", 3),
    shell:
        "dissect-embed train --dataset {params.root:q} --model {params.model:q} "
        "--epochs {params.epochs} --output {output:q} --log {log:q}"


rule activations:
    input:
        index=f"{config['dataset']['root']}/index.csv",
        checkpoint=CHECKPOINT,
    output:
        f"{RESULTS}/{PART['activations']}.h5",
    log:
        f"{RESULTS}/logs/{PART['activations']}.log",
    benchmark:
        f"{RESULTS}/logs/{PART['activations']}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        dataset=subpath(input.index, parent=True),
        name=config["dataset"]["name"],
        split=config["dataset"]["split"],
        network=NETWORK,
        layers=[f"--layer={layer}" for layer in config["model"]["layers"]],
        batch_size=config["activations"]["batch_size"],
        dtype=config["activations"]["dtype"],
        compression=config["activations"]["compression"],
        precision=config["activations"]["precision"],
        cache=[f"--cache={layer}" for layer in CACHED],
        shard="--shard={scatteritem}" if SHARDED else "",
        schema_version=SCHEMA_VERSIONS["activations"],
    shell:
        "dissect-embed activations --dataset {params.dataset:q} --name {params.name:q} "
        "--split {params.split:q} {params.network:q} {params.layers:q} "
        "--batch-size {params.batch_size} --dtype {params.dtype} "
        "--compression {params.compression} --precision {params.precision} {params.cache:q} "
        "{params.shard} --output {output:q} --log {log:q}"


if SHARDED:

    rule gather:
        input:
            gather.shards(f"{RESULTS}/{{{{stage}}}}/shard-{{scatteritem}}.h5"),
        output:
            f"{RESULTS}/{{stage}}.h5",
        log:
            f"{RESULTS}/logs/gather-{{stage}}.log",
        benchmark:
            f"{RESULTS}/logs/gather-{{stage}}.benchmark.tsv"
        wildcard_constraints:
            stage="activations|profiles|similarity",
        conda:
            "../environment.yml"
        params:
            schema_version=lambda wildcards: SCHEMA_VERSIONS[wildcards.stage],
        shell:
            "dissect-embed gather {wildcards.stage} {input:q} --output {output:q} --log {log:q}"
