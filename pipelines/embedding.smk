# How alike units fire, their vectors, and what those are worth.

# Minibatches, as published, go through the maps of the images again.
REPLAYED = (
    config["embedding"]["target"] == "minibatch"
    and "image" in config["embedding"]["similarity"]
)


rule similarity:
    input:
        f"{RESULTS}/{PART['activations']}.h5",
    output:
        f"{RESULTS}/{PART['similarity']}.h5",
    log:
        f"{RESULTS}/logs/{PART['similarity']}.log",
    benchmark:
        f"{RESULTS}/logs/{PART['similarity']}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        expect=EXPECT,
        version=VERSIONS["similarity"],
    shell:
        "dissect-embed similarity {input:q} {params.expect:q} --threads {threads} "
        "--output {output:q} --log {log:q}"


rule embed:
    input:
        similarity=f"{RESULTS}/similarity.h5",
        profiles=f"{RESULTS}/profiles.h5",
        activations=[f"{RESULTS}/activations.h5"] if REPLAYED else [],
    output:
        f"{RESULTS}/embedding.h5",
    log:
        f"{RESULTS}/logs/embed.log",
    benchmark:
        f"{RESULTS}/logs/embed.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        settings=[
            f"--{key.replace('_', '-')}={value}"
            for key, value in config["embedding"].items()
            if key not in ("similarity", "milestones", "seeds")
        ],
        similarity=[
            f"--similarity={name}" for name in config["embedding"]["similarity"]
        ],
        milestones=[f"--milestone={m}" for m in config["embedding"]["milestones"]],
        seeds=[f"--seed={seed}" for seed in config["embedding"]["seeds"]],
        replay=f"--activations={RESULTS}/activations.h5" if REPLAYED else "",
        expect=EXPECT,
        version=VERSIONS["embedding"],
    shell:
        "dissect-embed embed {input.similarity:q} {input.profiles:q} {params.replay} "
        "{params.settings} {params.similarity} {params.milestones} {params.seeds} {params.expect:q} "
        "--threads {threads} --output {output:q} --log {log:q}"


rule score:
    input:
        profiles=f"{RESULTS}/profiles.h5",
        similarity=f"{RESULTS}/similarity.h5",
        embedding=f"{RESULTS}/embedding.h5",
    output:
        scores=f"{RESULTS}/scores.csv",
        scores_json=f"{RESULTS}/scores.csv.json",
        controls=f"{RESULTS}/controls.csv",
        controls_json=f"{RESULTS}/controls.csv.json",
    log:
        f"{RESULTS}/logs/score.log",
    benchmark:
        f"{RESULTS}/logs/score.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        run=subpath(input.profiles, parent=True),
        expect=EXPECT,
        version=VERSIONS["scores"],
    shell:
        "dissect-embed score {params.run:q} {params.expect:q} --threads {threads} "
        "--output {output.scores:q} --controls {output.controls:q} --log {log:q}"
