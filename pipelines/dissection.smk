# Network Dissection: IoU of every unit with every concept.

# Layers that are not cached are computed once more.
AGAIN = CACHED != ["all"] and set(CACHED) != set(config["model"]["layers"])
REPLAY = [
    f"--dataset={config['dataset']['root']}",
    f"--split={config['dataset']['split']}",
    *NETWORK,
]


rule labels:
    input:
        index=f"{config['dataset']['root']}/index.csv",
    output:
        f"{RESULTS}/labels.h5",
    log:
        f"{RESULTS}/logs/labels.log",
    benchmark:
        f"{RESULTS}/logs/labels.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        dataset=subpath(input.index, parent=True),
        name=config["dataset"]["name"],
        split=config["dataset"]["split"],
        schema_version=SCHEMA_VERSIONS["labels"],
    shell:
        "dissect-embed labels --dataset {params.dataset:q} --name {params.name:q} "
        "--split {params.split:q} --output {output:q} --log {log:q}"


if SHARDED:

    rule thresholds:
        input:
            activations=f"{RESULTS}/activations.h5",
            checkpoint=CHECKPOINT if AGAIN else [],
        output:
            f"{RESULTS}/thresholds.h5",
        log:
            f"{RESULTS}/logs/thresholds.log",
        benchmark:
            f"{RESULTS}/logs/thresholds.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            quantile=config["dissection"]["quantile"],
            again=REPLAY if AGAIN else [],
            schema_version=SCHEMA_VERSIONS["thresholds"],
        shell:
            "dissect-embed thresholds {input.activations:q} --quantile {params.quantile} "
            "{params.again:q} --output {output:q} --log {log:q}"


rule dissect:
    input:
        activations=f"{RESULTS}/{PART['activations']}.h5",
        labels=f"{RESULTS}/labels.h5",
        thresholds=f"{RESULTS}/thresholds.h5" if SHARDED else [],
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        f"{RESULTS}/{PART['profiles']}.h5",
    log:
        f"{RESULTS}/logs/{PART['dissect']}.log",
    benchmark:
        f"{RESULTS}/logs/{PART['dissect']}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        quantile=config["dissection"]["quantile"],
        detector_iou=config["dissection"]["detector_iou"],
        null_seed=config["dissection"]["null_seed"],
        thresholds=f"--thresholds={RESULTS}/thresholds.h5" if SHARDED else "",
        again=REPLAY if AGAIN else [],
        expect=EXPECT,
        schema_version=SCHEMA_VERSIONS["profiles"],
    shell:
        "dissect-embed dissect {input.activations:q} {input.labels:q} "
        "--quantile {params.quantile} --detector-iou {params.detector_iou} "
        "--null-seed {params.null_seed} {params.thresholds} {params.again:q} {params.expect:q} "
        "--output {output:q} --log {log:q}"


rule units:
    input:
        f"{RESULTS}/profiles.h5",
    output:
        f"{RESULTS}/units.csv",
    log:
        f"{RESULTS}/logs/units.log",
    benchmark:
        f"{RESULTS}/logs/units.benchmark.tsv"
    conda:
        "../environment.yml"
    shell:
        "dissect-embed units {input:q} --output {output:q} --log {log:q}"
