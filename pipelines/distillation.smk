# Static knowledge distillation and the methods it is compared with: Table 1.

DISTILLED = f"{RESULTS}/distillation"
CLASSES = config["distillation"]["dataset"]["classes"]
IMAGES = config["distillation"]["dataset"]
PAIRS = list_pairs(config["distillation"])
TEACHERS = sorted({write_network(pair["teacher"]) for pair in PAIRS.values()})
TEACHER = teacher_path(DISTILLED, "{teacher}", "{seed}")
PRIOR = prior_paths(DISTILLED, "{teacher}")
STUDENT = student_path(DISTILLED, "{pair}", "{row}", "{seed}")
SCHEDULE = config["distillation"]["schedule"]
# Then every student is told how far it ended from SKD's targets.
WITH_PRIOR = has_priors(config["distillation"])
TRAINING = [
    f"--schedule={SCHEDULE['name']}",
    f"--precision={config['distillation']['precision']}",
    f"--held-out={config['distillation']['held_out']}",
    *(f"--{key}={value}" for key in ("mean", "std") for value in IMAGES[key]),
]


wildcard_constraints:
    pair="|".join(map(re.escape, PAIRS)),
    teacher="|".join(map(re.escape, TEACHERS)),
    row=ROW_PATTERN,
    seed=r"\d+",


if IMAGES["name"] == "shapes":

    rule shapes:
        output:
            CLASSES,
        log:
            "logs/shapes.log",
        benchmark:
            "logs/shapes.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            train=IMAGES["images_per_class"],
            test=IMAGES["test_images_per_class"],
            seed=IMAGES["seed"],
            version=VERSIONS["classes"],
        shell:
            "dissect-embed shapes --images-per-class {params.train} "
            "--test-images-per-class {params.test} --seed {params.seed} "
            "--threads {threads} --output {output:q} --log {log:q}"

elif IMAGES["sources"] or IMAGES["download"]:

    rule classes:
        output:
            CLASSES,
        log:
            f"logs/classes-{IMAGES['name']}.log",
        benchmark:
            f"logs/classes-{IMAGES['name']}.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            name=IMAGES["name"],
            sources=(
                [f"--source={source}" for source in IMAGES["sources"]]
                if IMAGES["sources"]
                else [f"--download={IMAGES['download']}"]
            ),
            files=lambda wildcards: file_state(IMAGES["sources"]),
            reading=[
                *(f"--background={value}" for value in IMAGES["background"]),
                f"--orientation={IMAGES['orientation']}",
            ],
            version=VERSIONS["classes"],
        shell:
            "dissect-embed classes {params.sources:q} --name {params.name:q} {params.reading} "
            "--threads {threads} --output {output:q} --log {log:q}"


# Small networks gain more from a core each than from two cores for one.
rule teacher:
    input:
        CLASSES,
    output:
        json=f"{TEACHER}.json",
        network=f"{TEACHER}.pt",
    log:
        f"{RESULTS}/logs/distillation/teachers/{{teacher}}-seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/logs/distillation/teachers/{{teacher}}-seed{{seed}}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 1
    params:
        student=lambda wildcards: read_network(wildcards.teacher),
        epochs=SCHEDULE["teacher_epochs"] or SCHEDULE["epochs"],
        training=TRAINING,
        version=TRAINING_VERSION,
    shell:
        "dissect-embed distil {input:q} --student {params.student:q} --method plain "
        "--role teacher --seed {wildcards.seed} --epochs {params.epochs} {params.training} --threads {threads} "
        "--output {output.json:q} --log {log:q}"


rule prior:
    input:
        classes=CLASSES,
        teacher=teacher_path(DISTILLED, "{teacher}", 0) + ".pt",
    output:
        prior=PRIOR["prior"],
        similarity=PRIOR["similarity"],
    log:
        f"{RESULTS}/logs/distillation/priors/{{teacher}}.log",
    benchmark:
        f"{RESULTS}/logs/distillation/priors/{{teacher}}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 16
    params:
        own=lambda wildcards: [
            f"--{key}={value}"
            for key, value in own_teacher(read_network(wildcards.teacher)).items()
        ],
        settings=[
            f"--{key.replace('_', '-')}={value}"
            for key, value in config["embedding"].items()
            if key not in ("similarity", "target", "milestones", "seeds")
        ],
        milestones=[f"--milestone={m}" for m in config["embedding"]["milestones"]],
        seed=config["embedding"]["seeds"][0],
        by=config["distillation"]["similarity"],
        held_out=config["distillation"]["held_out"],
        version=[VERSIONS["prior"], VERSIONS["similarity"]],
    shell:
        "dissect-embed prior {input.classes:q} --teacher {input.teacher:q} {params.own:q} "
        "{params.settings} {params.milestones} --seed {params.seed} --by {params.by} "
        "--held-out {params.held_out} --threads {threads} "
        "--similarity {output.similarity:q} --output {output.prior:q} --log {log:q}"


rule distil:
    input:
        classes=CLASSES,
        guides=lambda wildcards: list(
            row_inputs(
                wildcards.row,
                PAIRS[wildcards.pair],
                DISTILLED,
                with_prior=WITH_PRIOR,
            ).values()
        ),
    output:
        json=f"{STUDENT}.json",
        network=f"{STUDENT}.pt",
    log:
        f"{RESULTS}/logs/distillation/{{pair}}/{{row}}-seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/logs/distillation/{{pair}}/{{row}}-seed{{seed}}.benchmark.tsv"
    conda:
        "../environment.yml"
    threads: 1
    params:
        row=lambda wildcards: row_options(
            wildcards.row, PAIRS[wildcards.pair], DISTILLED, with_prior=WITH_PRIOR
        ),
        epochs=SCHEDULE["epochs"],
        training=TRAINING,
        version=TRAINING_VERSION,
    shell:
        "dissect-embed distil {input.classes:q} {params.row:q} --seed {wildcards.seed} "
        "--epochs {params.epochs} {params.training} --threads {threads} "
        "--output {output.json:q} --log {log:q}"


rule table1:
    input:
        classes=CLASSES,
        teachers=expand(f"{TEACHER}.json", teacher=TEACHERS, seed=0),
        students=expand(
            f"{STUDENT}.json",
            pair=PAIRS,
            row=list_rows(config["distillation"]),
            seed=config["distillation"]["seeds"],
        ),
    output:
        csv=f"{RESULTS}/table1.csv",
        md=f"{RESULTS}/table1.md",
        svg=report(
            f"{RESULTS}/figures/table1.svg",
            caption="report/table1.rst",
            category="Distillation",
        ),
        png=f"{RESULTS}/figures/table1.png",
    log:
        f"{RESULTS}/logs/table1.log",
    benchmark:
        f"{RESULTS}/logs/table1.benchmark.tsv"
    conda:
        "../environment.yml"
    params:
        run=subpath(output.csv, parent=True),
        version=VERSIONS["table1"],
        pairs=[
            f"--pair={write_network(pair['teacher'])}:{write_network(pair['student'])}"
            for pair in PAIRS.values()
        ],
    shell:
        "dissect-embed table1 {params.run:q}/distillation {input.classes:q} {params.pairs:q} "
        "--figure {output.svg:q} --output {output.csv:q} --log {log:q}"
