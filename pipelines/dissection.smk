# Network Dissection: IoU of every unit with every concept.


rule dissect:
    input:
        activations=f"{RESULTS}/activations.h5",
        index=f"{config['dataset']['root']}/index.csv",
    output:
        f"{RESULTS}/profiles.h5",
    log:
        f"{RESULTS}/logs/dissect.log",
    benchmark:
        f"{RESULTS}/logs/dissect.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        root=subpath(input.index, parent=True),
        split=config["dataset"]["split"],
        quantile=config["dissection"]["quantile"],
        detector_iou=config["dissection"]["detector_iou"],
        expect=EXPECT,
        schema_version=SCHEMA_VERSIONS["profiles"],
    shell:
        "dissect-embed dissect {input.activations:q} --dataset {params.root:q} "
        "--split {params.split:q} --quantile {params.quantile} "
        "--detector-iou {params.detector_iou} {params.expect:q} "
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
