# Network Dissection: IoU of every unit with every concept, and what chance gives.


rule labels:
    input:
        dataset=f"{RESULTS}/dataset.json",
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
        root=DATASET["root"],
        name=DATASET["name"],
        split=DATASET["split"],
        subset=SUBSET,
        version=VERSIONS["labels"],
    shell:
        "dissect-embed labels --dataset {params.root:q} --name {params.name:q} "
        "--split {params.split:q} {params.subset:q} --threads {threads} --output {output:q} --log {log:q}"


if SHARDED:

    rule thresholds:
        input:
            activations=f"{RESULTS}/activations.h5",
            weights=WEIGHTS if AGAIN else [],
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
            again=REPLAY,
            state=lambda wildcards: (
                network_state(MODEL["name"], MODEL["weights"]) if AGAIN else []
            ),
            version=VERSIONS["thresholds"],
        shell:
            "dissect-embed thresholds {input.activations:q} --quantile {params.quantile} "
            "{params.again:q} --threads {threads} --output {output:q} --log {log:q}"


rule dissect:
    input:
        activations=f"{RESULTS}/{PART['activations']}.h5",
        labels=f"{RESULTS}/labels.h5",
        thresholds=f"{RESULTS}/thresholds.h5" if SHARDED else [],
        weights=WEIGHTS if AGAIN else [],
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
        thresholds=f"--thresholds={RESULTS}/thresholds.h5" if SHARDED else "",
        again=REPLAY,
        state=lambda wildcards: (
            network_state(MODEL["name"], MODEL["weights"]) if AGAIN else []
        ),
        expect=EXPECT,
        version=VERSIONS["profiles"],
    shell:
        "dissect-embed dissect {input.activations:q} {input.labels:q} "
        "--quantile {params.quantile} {params.thresholds} {params.again:q} {params.expect:q} "
        "--threads {threads} --output {output:q} --log {log:q}"


# An artefact of its own: no count and no vector depends on it.
rule chance:
    input:
        activations=f"{RESULTS}/{PART['activations']}.h5",
        labels=f"{RESULTS}/labels.h5",
        profiles=f"{RESULTS}/profiles.h5",
        weights=WEIGHTS if AGAIN else [],
    output:
        f"{RESULTS}/{PART['chance']}.h5",
    log:
        f"{RESULTS}/logs/{PART['chance']}.log",
    benchmark:
        f"{RESULTS}/logs/{PART['chance']}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        draws=config["chance"]["draws"],
        seed=config["chance"]["seed"],
        again=REPLAY,
        state=lambda wildcards: (
            network_state(MODEL["name"], MODEL["weights"]) if AGAIN else []
        ),
        expect=EXPECT,
        version=VERSIONS["chance"],
    shell:
        "dissect-embed chance {input.activations:q} {input.labels:q} {input.profiles:q} "
        "--draws {params.draws} --seed {params.seed} {params.again:q} {params.expect:q} "
        "--threads {threads} --output {output:q} --log {log:q}"


rule units:
    input:
        profiles=f"{RESULTS}/profiles.h5",
        chance=f"{RESULTS}/chance.h5",
    output:
        csv=f"{RESULTS}/units.csv",
        json=f"{RESULTS}/units.csv.json",
    log:
        f"{RESULTS}/logs/units.log",
    benchmark:
        f"{RESULTS}/logs/units.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        run=subpath(input.profiles, parent=True),
        version=VERSIONS["units"],
    shell:
        "dissect-embed units {params.run:q} --output {output.csv:q} --log {log:q}"


rule compositions:
    input:
        dataset=f"{RESULTS}/dataset.json" if AGAIN else [],
        activations=f"{RESULTS}/activations.h5",
        labels=f"{RESULTS}/labels.h5",
        profiles=f"{RESULTS}/profiles.h5",
        chance=f"{RESULTS}/chance.h5",
        weights=WEIGHTS if AGAIN else [],
    output:
        csv=f"{RESULTS}/compositions.csv",
        json=f"{RESULTS}/compositions.csv.json",
    log:
        f"{RESULTS}/logs/compositions.log",
    benchmark:
        f"{RESULTS}/logs/compositions.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        run=subpath(input.profiles, parent=True),
        root=DATASET["root"],
        state=lambda wildcards: (
            network_state(MODEL["name"], MODEL["weights"]) if AGAIN else []
        ),
        expect=EXPECT,
        version=VERSIONS["compositions"],
    shell:
        "dissect-embed compositions {params.run:q} --dataset {params.root:q} {params.expect:q} "
        "--threads {threads} --output {output.csv:q} --log {log:q}"
