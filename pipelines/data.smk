# Data sets: the embedded one is rendered, Broden is fetched, any other is used where it lies.

if config["dataset"]["name"] == "mini":

    rule mini:
        output:
            index=f"{config['dataset']['root']}/index.csv",
        log:
            "logs/mini.log",
        benchmark:
            "logs/mini.benchmark.tsv"
        conda:
            "../environment.yml"
        threads: 16
        params:
            root=subpath(output.index, parent=True),
            images=config["dataset"].get("images", 2000),
        shell:
            "dissect-embed mini --images {params.images} --output {params.root:q} --log {log:q}"

elif "sources" in config["dataset"]:

    rule fetch:
        output:
            index=f"{config['dataset']['root']}/index.csv",
        log:
            f"logs/fetch-{config['dataset']['name']}.log",
        benchmark:
            f"logs/fetch-{config['dataset']['name']}.benchmark.tsv"
        conda:
            "../environment.yml"
        params:
            root=subpath(output.index, parent=True),
            archive=f"{config['dataset']['root']}.zip",
            sources=[f"--source={source}" for source in config["dataset"]["sources"]],
            sha256=config["dataset"].get("sha256", ""),
            rows=(
                f"--rows={config['dataset']['rows']}"
                if "rows" in config["dataset"]
                else ""
            ),
        shell:
            "dissect-embed fetch {params.sources:q} --archive {params.archive:q} "
            "--output {params.root:q} --sha256 {params.sha256:q} {params.rows} --log {log:q}"
