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
