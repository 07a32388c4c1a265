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
