# Data sets: the embedded one is rendered, Broden is fetched, any other is used where it lies.

if DATASET["name"] == "mini":

    rule mini:
        output:
            index=f"{DATASET['root']}/index.csv",
        log:
            "logs/mini.log",
        benchmark:
            "logs/mini.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            root=subpath(output.index, parent=True),
            images=DATASET["images"],
            version=VERSIONS["mini"],
        shell:
            "dissect-embed mini --images {params.images} --threads {threads} --output {params.root:q} --log {log:q}"

elif DATASET["sources"]:

    rule fetch:
        output:
            index=f"{DATASET['root']}/index.csv",
        log:
            f"logs/fetch-{DATASET['name']}.log",
        benchmark:
            f"logs/fetch-{DATASET['name']}.benchmark.tsv"
        conda:
            "../environment.yml"
        params:
            root=subpath(output.index, parent=True),
            archive=f"{DATASET['root']}.zip",
            sources=[f"--source={source}" for source in DATASET["sources"]],
            sha256=DATASET["sha256"],
            rows=f"--rows={DATASET['rows']}" if DATASET["rows"] else "",
            version=VERSIONS["fetch"],
        shell:
            "dissect-embed fetch {params.sources:q} --archive {params.archive:q} "
            "--output {params.root:q} --sha256 {params.sha256:q} {params.rows} --log {log:q}"


# Cheap; what reads the data set depends on it, and on another picture, label map or table.
rule dataset:
    input:
        index=f"{DATASET['root']}/index.csv",
    output:
        f"{RESULTS}/dataset.json",
    log:
        f"{RESULTS}/logs/dataset.log",
    benchmark:
        f"{RESULTS}/logs/dataset.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        root=subpath(input.index, parent=True),
        name=DATASET["name"],
        split=DATASET["split"],
        subset=SUBSET,
        # Of wildcards alone: what depends on inputs Snakemake does not compare.
        files=lambda wildcards: data_state(f"{DATASET['root']}/index.csv"),
        version=VERSIONS["dataset"],
    shell:
        "dissect-embed dataset --dataset {params.root:q} --name {params.name:q} "
        "--split {params.split:q} {params.subset:q} --output {output:q} --log {log:q}"
