# The network, and what its layers put out.


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
        checkpoint=(
            [f"{RESULTS}/model.pt"] if config["model"]["weights"] == "trained" else []
        ),
    output:
        f"{RESULTS}/activations.h5",
    log:
        f"{RESULTS}/logs/activations.log",
    benchmark:
        f"{RESULTS}/logs/activations.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        dataset=subpath(input.index, parent=True),
        name=config["dataset"]["name"],
        split=config["dataset"]["split"],
        model=config["model"]["name"],
        weights=config["model"]["weights"],
        layers=[f"--layer={layer}" for layer in config["model"]["layers"]],
        checkpoint=(
            f"--checkpoint={RESULTS}/model.pt"
            if config["model"]["weights"] == "trained"
            else ""
        ),
        batch_size=config["activations"]["batch_size"],
        dtype=config["activations"]["dtype"],
        compression=config["activations"]["compression"],
        schema_version=SCHEMA_VERSIONS["activations"],
    shell:
        "dissect-embed activations --dataset {params.dataset:q} --name {params.name:q} "
        "--split {params.split:q} --model {params.model:q} --weights {params.weights:q} "
        "{params.checkpoint} {params.layers:q} --batch-size {params.batch_size} "
        "--dtype {params.dtype} --compression {params.compression} "
        "--output {output:q} --log {log:q}"
