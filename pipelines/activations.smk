# The network, and what its layers put out.


rule train:
    input:
        dataset=f"{RESULTS}/dataset.json",
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
        root=DATASET["root"],
        model=MODEL["name"],
        given=ARGUMENTS + INPUT,
        subset=SUBSET,
        epochs=MODEL["epochs"],
        state=lambda wildcards: source_state(MODEL["name"]),
        version=VERSIONS["model"],
    shell:
        "dissect-embed train --dataset {params.root:q} --model {params.model:q} {params.given:q} "
        "{params.subset:q} "
        "--epochs {params.epochs} --threads {threads} --output {output:q} --log {log:q}"


rule activations:
    input:
        dataset=f"{RESULTS}/dataset.json",
        weights=WEIGHTS,
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
        root=DATASET["root"],
        name=DATASET["name"],
        split=DATASET["split"],
        subset=SUBSET,
        network=NETWORK,
        given=INPUT,
        axes=[f"--axes={json.dumps(MODEL['axes'])}"] if MODEL["axes"] else [],
        prefix=(
            []
            if MODEL["prefix_tokens"] is None
            else f"--prefix-tokens={MODEL['prefix_tokens']}"
        ),
        state=lambda wildcards: network_state(MODEL["name"], MODEL["weights"]),
        layers=[f"--layer={layer}" for layer in MODEL["layers"]],
        batch_size=config["activations"]["batch_size"],
        dtype=config["activations"]["dtype"],
        compression=config["activations"]["compression"],
        precision=config["activations"]["precision"],
        cache=[f"--cache={layer}" for layer in CACHED],
        shard="--shard={scatteritem}" if SHARDED else "",
        version=VERSIONS["activations"],
    shell:
        "dissect-embed activations --dataset {params.root:q} --name {params.name:q} "
        "--split {params.split:q} {params.subset:q} {params.network:q} {params.given:q} {params.axes:q} {params.prefix} "
        "{params.layers:q} "
        "--batch-size {params.batch_size} --dtype {params.dtype} "
        "--compression {params.compression} --precision {params.precision} {params.cache:q} "
        "{params.shard} --threads {threads} --output {output:q} --log {log:q}"


if SHARDED:

    rule gather:
        input:
            parts=gather.shards(f"{RESULTS}/{{{{stage}}}}/shard-{{scatteritem}}.h5"),
            whole=branch(
                lambda wildcards: wildcards.stage,
                cases={
                    "activations": [],
                    "profiles": [f"{RESULTS}/activations.h5"],
                    "chance": [
                        f"{RESULTS}/activations.h5",
                        f"{RESULTS}/profiles.h5",
                    ],
                    "similarity": [f"{RESULTS}/activations.h5"],
                },
            ),
        output:
            f"{RESULTS}/{{stage}}.h5",
        log:
            f"{RESULTS}/logs/gather-{{stage}}.log",
        benchmark:
            f"{RESULTS}/logs/gather-{{stage}}.benchmark.tsv"
        wildcard_constraints:
            stage="activations|profiles|chance|similarity",
        conda:
            "../environment.yml"
        params:
            options=lambda wildcards, input: [
                f"--{option}={path}"
                for option, path in zip(("activations", "profiles"), input.whole)
            ],
            version=lambda wildcards: VERSIONS[wildcards.stage],
        shell:
            "dissect-embed gather {wildcards.stage} {input.parts:q} {params.options:q} "
            "--output {output:q} --log {log:q}"
