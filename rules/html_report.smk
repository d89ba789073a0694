# The report: one folder that opens from disk, with a viewer for a few scans of every cohort.


rule html_report:
    input:
        scores=scores(),
        viewer=viewer_scans(),
        stores=[
            path
            for cohort, modality in [*places(True), *places(False)]
            for path in store_files(cohort, modality)
        ],
        shards=[
            f"{DATA}/preprocessed/{cohort}/shard-{shard}.tsv"
            for cohort in COHORTS
            for shard in CONFIG.shards(cohort)
        ],
        tables=rules.tables.output,
        figures=rules.figures.output.png,
        reproduction=rules.reproduction.output,
        check=rules.check.output,
    output:
        f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/html_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/html_report.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings_file(
            "report",
            CONFIG.run,
            run=CONFIG.run,
            protocol=CONFIG.protocol,
            phantom=bool(PHANTOMS),
            arms=arm_rows(),
            folds=CONFIG.folds,
            healthy=places(True),
            pathological=places(False),
            single=CONFIG.inference.single,
            spacing_mm=store_spacing_mm(),
            config=without(CONFIG.model_dump(mode="json"), "execution"),
            **section("report"),
        ),
        results=lambda wc: RESULTS,
        folder=lambda wc: f"{RESULTS}/report",
    shell:
        "python workflow_scripts/make_report.py --settings {params.settings:q} --results {params.results:q}"
        " --scores {input.scores:q} --viewer {input.viewer:q} --shards {input.shards:q} --tables {input.tables:q}"
        " --figures {input.figures:q} --reproduction {input.reproduction:q} --check {input.check:q} --folder {params.folder:q} 2>&1 | tee {log}"
