# What is drawn: from the files of a run, which are named as inputs and found in its folder.

# Images of Figure 2 that are files from elsewhere: the network runs on these.
PICTURES = [image for image in config["figure2"]["images"] if os.path.isfile(image)]


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
    params:
        run=subpath(input.profiles, parent=True),
        version=VERSIONS["figures"],
    shell:
        "dissect-embed figure4 {params.run:q} --output {output.svg:q} --log {log:q}"


rule detectors:
    input:
        profiles=f"{RESULTS}/profiles.h5",
        chance=f"{RESULTS}/chance.h5",
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
    params:
        run=subpath(input.profiles, parent=True),
        detector_iou=config["dissection"]["detector_iou"],
        version=VERSIONS["figures"],
    shell:
        "dissect-embed detectors {params.run:q} --detector-iou {params.detector_iou} "
        "--output {output.svg:q} --log {log:q}"


rule relations:
    input:
        dataset=f"{RESULTS}/dataset.json" if AGAIN else [],
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        weights=WEIGHTS if AGAIN else [],
    output:
        units=f"{RESULTS}/relations.csv",
        units_json=f"{RESULTS}/relations.csv.json",
        pairs=f"{RESULTS}/pairs.csv",
        pairs_json=f"{RESULTS}/pairs.csv.json",
        overlap=f"{RESULTS}/overlap.csv",
        overlap_json=f"{RESULTS}/overlap.csv.json",
    log:
        f"{RESULTS}/logs/relations.log",
    benchmark:
        f"{RESULTS}/logs/relations.benchmark.tsv"
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
        version=VERSIONS["relations"],
    shell:
        "dissect-embed relations {params.run:q} --dataset {params.root:q} {params.expect:q} "
        "--threads {threads} --output {output.units:q} --pairs {output.pairs:q} "
        "--overlap {output.overlap:q} --log {log:q}"


rule figure2:
    input:
        dataset=f"{RESULTS}/dataset.json",
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        overlap=f"{RESULTS}/overlap.csv",
        labels=f"{RESULTS}/labels.h5",
        pictures=PICTURES,
        weights=WEIGHTS if AGAIN or PICTURES else [],
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
        run=subpath(input.profiles, parent=True),
        root=DATASET["root"],
        units=[f"--unit={unit}" for unit in config["figure2"]["units"]],
        images=[f"--image={image}" for image in config["figure2"]["images"]],
        seed=config["figure2"]["seed"],
        version=VERSIONS["figures"],
    shell:
        "dissect-embed figure2 {params.run:q} --dataset {params.root:q} {params.units} "
        "{params.images:q} --seed {params.seed} --output {output.svg:q} --log {log:q}"


rule figure3:
    input:
        dataset=f"{RESULTS}/dataset.json",
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        pairs=f"{RESULTS}/pairs.csv",
        labels=f"{RESULTS}/labels.h5",
        weights=WEIGHTS if AGAIN else [],
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
        run=subpath(input.profiles, parent=True),
        root=DATASET["root"],
        version=VERSIONS["figures"],
    shell:
        "dissect-embed figure3 {params.run:q} --dataset {params.root:q} "
        "--output {output.svg:q} --log {log:q}"


rule export:
    input:
        dataset=f"{RESULTS}/dataset.json",
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        weights=WEIGHTS if AGAIN else [],
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
        run=subpath(input.profiles, parent=True),
        root=DATASET["root"],
        folder=subpath(output.projector, parent=True),
        version=VERSIONS["vectors"],
    shell:
        "dissect-embed export {params.run:q} --dataset {params.root:q} "
        "--projector {params.folder:q} --output {output.npz:q} --log {log:q}"


rule atlas:
    input:
        dataset=f"{RESULTS}/dataset.json",
        activations=f"{RESULTS}/activations.h5",
        profiles=f"{RESULTS}/profiles.h5",
        embedding=f"{RESULTS}/embedding.h5",
        labels=f"{RESULTS}/labels.h5",
        chance=f"{RESULTS}/chance.h5",
        compositions=f"{RESULTS}/compositions.csv",
        relations=f"{RESULTS}/relations.csv",
        pairs=f"{RESULTS}/pairs.csv",
        overlap=f"{RESULTS}/overlap.csv",
        # Told of where it was asked for.
        importance=lambda wildcards: [
            path for path in [f"{RESULTS}/importance.csv"] if os.path.isfile(path)
        ],
        weights=WEIGHTS if AGAIN else [],
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
        run=subpath(input.profiles, parent=True),
        root=DATASET["root"],
        detector_iou=config["dissection"]["detector_iou"],
        folder=subpath(output[0], parent=True),
        version=VERSIONS["atlas"],
    shell:
        "dissect-embed atlas {params.run:q} --dataset {params.root:q} "
        "--detector-iou {params.detector_iou} --threads {threads} --output {params.folder:q} "
        "--log {log:q}"


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
        snakefile=os.path.relpath(workflow.main_snakefile),
        version=VERSIONS["report"],
    shell:
        # A Snakemake within Snakemake: it makes nothing, and what it reads is made.
        "(echo {params.config:q} > {output:q}.json; "
        "snakemake --snakefile {params.snakefile:q} {input.figures:q} --configfile {output:q}.json --nolock "
        "--report {output:q}; rm {output:q}.json) > {log:q} 2>&1"
