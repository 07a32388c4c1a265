# What is drawn.


rule figure4:
    input:
        scores=f"{RESULTS}/scores.csv",
        profiles=f"{RESULTS}/profiles.h5",
    output:
        svg=report(
            f"{RESULTS}/figures/figure4.svg",
            caption="report/figure4.rst",
            category="Embedding",
        ),
        png=f"{RESULTS}/figures/figure4.png",
    log:
        f"{RESULTS}/logs/figure4.log",
    benchmark:
        f"{RESULTS}/logs/figure4.benchmark.tsv"
    conda:
        "../environment.yml"
    shell:
        "dissect-embed figure4 {input.scores:q} {input.profiles:q} "
        "--output {output.svg:q} --log {log:q}"


rule detectors:
    input:
        f"{RESULTS}/profiles.h5",
    output:
        svg=report(
            f"{RESULTS}/figures/detectors.svg",
            caption="report/detectors.rst",
            category="Dissection",
        ),
        png=f"{RESULTS}/figures/detectors.png",
        csv=f"{RESULTS}/figures/detectors.csv",
    log:
        f"{RESULTS}/logs/detectors.log",
    benchmark:
        f"{RESULTS}/logs/detectors.benchmark.tsv"
    conda:
        "../environment.yml"
    shell:
        "dissect-embed detectors {input:q} --output {output.svg:q} --log {log:q}"


rule relations:
    input:
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        units=f"{RESULTS}/relations.csv",
        pairs=f"{RESULTS}/pairs.csv",
    log:
        f"{RESULTS}/logs/relations.log",
    benchmark:
        f"{RESULTS}/logs/relations.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        again=REPLAY if AGAIN else [],
        expect=EXPECT,
    shell:
        "dissect-embed relations {input.activations:q} {input.profiles:q} {input.embedding:q} "
        "{params.again:q} {params.expect:q} --pairs {output.pairs:q} --output {output.units:q} "
        "--log {log:q}"


rule figure2:
    input:
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        svg=report(
            f"{RESULTS}/figures/figure2.svg",
            caption="report/figure2.rst",
            category="Embedding",
        ),
        png=f"{RESULTS}/figures/figure2.png",
    log:
        f"{RESULTS}/logs/figure2.log",
    benchmark:
        f"{RESULTS}/logs/figure2.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        data=REPLAY,
        units=[f"--unit={unit}" for unit in config["figure2"]["units"]],
        images=[f"--image={image}" for image in config["figure2"]["images"]],
        seed=config["figure2"]["seed"],
    shell:
        "dissect-embed figure2 {input.activations:q} {input.profiles:q} {input.embedding:q} "
        "{input.labels:q} {params.data:q} {params.units} {params.images:q} --seed {params.seed} "
        "--output {output.svg:q} --log {log:q}"


rule figure3:
    input:
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        svg=report(
            f"{RESULTS}/figures/figure3.svg",
            caption="report/figure3.rst",
            category="Embedding",
        ),
        png=f"{RESULTS}/figures/figure3.png",
    log:
        f"{RESULTS}/logs/figure3.log",
    benchmark:
        f"{RESULTS}/logs/figure3.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        data=REPLAY,
    shell:
        "dissect-embed figure3 {input.activations:q} {input.profiles:q} {input.embedding:q} "
        "{input.labels:q} {params.data:q} --output {output.svg:q} --log {log:q}"


rule export:
    input:
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        npz=f"{RESULTS}/vectors.npz",
        projector=f"{RESULTS}/projector/projector_config.pbtxt",
    log:
        f"{RESULTS}/logs/export.log",
    benchmark:
        f"{RESULTS}/logs/export.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        data=REPLAY,
        folder=subpath(output.projector, parent=True),
    shell:
        "dissect-embed export {input.activations:q} {input.profiles:q} {input.embedding:q} "
        "{input.labels:q} {params.data:q} --projector {params.folder:q} --output {output.npz:q} "
        "--log {log:q}"


rule atlas:
    input:
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        relations=f"{RESULTS}/relations.csv",
        labels=f"{RESULTS}/labels.h5",
        checkpoint=CHECKPOINT if AGAIN else [],
    output:
        f"{RESULTS}/atlas/index.html",
    log:
        f"{RESULTS}/logs/atlas.log",
    benchmark:
        f"{RESULTS}/logs/atlas.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        data=REPLAY,
        folder=subpath(output[0], parent=True),
    shell:
        "dissect-embed atlas {input.profiles:q} {input.embedding:q} {input.relations:q} "
        "--activations {input.activations:q} --labels {input.labels:q} {params.data:q} "
        "--output {params.folder:q} --log {log:q}"


# A page for those who were not there: Snakemake's own, with the figures and a link to the atlas.
rule report:
    input:
        figures=[
            f"{RESULTS}/figures/{name}.svg"
            for name in ("figure2", "figure3", "figure4", "detectors")
        ],
        atlas=f"{RESULTS}/atlas/index.html",
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/logs/report.benchmark.tsv"
    localrule: True
    conda:
        "../environment.yml"
    params:
        config=json.dumps(config),
    shell:
        # A Snakemake within Snakemake: it makes nothing, and what it reads is made.
        "(echo {params.config:q} > {output:q}.json; "
        "snakemake {input.figures:q} --configfile {output:q}.json --nolock "
        "--report {output:q}; rm {output:q}.json) > {log:q} 2>&1"
