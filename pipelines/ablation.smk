# What the network loses without a unit: asked for by name, for it needs labelled images of classes.

ABLATION = config["ablation"]
CLASS_NAMES = [ABLATION["classes"]] if ABLATION["classes"] else []


rule ablate:
    input:
        dataset=f"{RESULTS}/dataset.json",
        activations=f"{RESULTS}/activations.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        weights=WEIGHTS,
        classes=CLASS_NAMES,
    output:
        importance=f"{RESULTS}/importance.csv",
        importance_json=f"{RESULTS}/importance.csv.json",
        statistics=f"{RESULTS}/ablation.csv",
        statistics_json=f"{RESULTS}/ablation.csv.json",
    log:
        f"{RESULTS}/logs/ablate.log",
    benchmark:
        f"{RESULTS}/logs/ablate.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        run=subpath(input.activations, parent=True),
        root=DATASET["root"],
        layers=[f"--layer={layer}" for layer in ABLATION["layers"]],
        settings=[
            f"--{key}={ABLATION[key]}"
            for key in ("images", "classes", "limit", "top", "seed")
        ],
        images=lambda wildcards: (
            file_state([ABLATION["images"]]) if ABLATION["images"] else ""
        ),
        state=lambda wildcards: network_state(MODEL["name"], MODEL["weights"]),
        expect=EXPECT,
        version=[VERSIONS["importance"], VERSIONS["ablation"]],
    shell:
        "dissect-embed ablate {params.run:q} {params.layers:q} {params.settings:q} "
        "--dataset {params.root:q} {params.expect:q} --threads {threads} "
        "--output {output.importance:q} --statistics {output.statistics:q} --log {log:q}"
