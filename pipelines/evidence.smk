# What units stand for without masks: labels of whole images, and any words.

WORDS = config["words"]


if WORDS["file"]:

    rule words:
        input:
            dataset=f"{RESULTS}/dataset.json",
            file=WORDS["file"],
        output:
            f"{RESULTS}/words.h5",
        log:
            f"{RESULTS}/logs/words.log",
        benchmark:
            f"{RESULTS}/logs/words.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            root=DATASET["root"],
            name=DATASET["name"],
            split=DATASET["split"],
            subset=SUBSET,
            model=WORDS["model"],
            arguments=f"--arguments={json.dumps(WORDS['arguments'])}",
            state=lambda wildcards: source_state(WORDS["model"]),
            version=VERSIONS["words"],
        shell:
            "dissect-embed words --dataset {params.root:q} --name {params.name:q} "
            "--split {params.split:q} {params.subset:q} --file {input.file:q} "
            "--model {params.model:q} {params.arguments:q} --threads {threads} "
            "--output {output:q} --log {log:q}"


rule evidence:
    input:
        profiles=f"{RESULTS}/profiles.h5",
        chance=f"{RESULTS}/chance.h5",
        labels=f"{RESULTS}/labels.h5",
        activations=f"{RESULTS}/activations.h5",
        words=f"{RESULTS}/words.h5" if WORDS["file"] else [],
    output:
        csv=f"{RESULTS}/evidence.csv",
        json=f"{RESULTS}/evidence.csv.json",
    log:
        f"{RESULTS}/logs/evidence.log",
    benchmark:
        f"{RESULTS}/logs/evidence.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        run=subpath(input.profiles, parent=True),
        words="--words" if WORDS["file"] else "--no-words",
        version=VERSIONS["evidence"],
    shell:
        "dissect-embed evidence {params.run:q} {params.words} --output {output.csv:q} --log {log:q}"
