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
