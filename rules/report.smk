# Tables, figures and the tests of the results.


rule tables:
    input:
        scores=scores(),
        splits=expand(f"{DATA}/splits/{{cohort}}.tsv", cohort=COHORTS),
        stores=[
            f"{DATA}/store/{cohort}_{modality}.tsv"
            for cohort, modality in [*places(True), *places(False)]
        ],
    output:
        csv=table_files("csv"),
        text=table_files("md", "tex"),
        html=report(
            table_files("html"),
            caption="report/table.rst",
            category="Tables",
        ),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=report_settings("tables"),
        results=lambda wc: RESULTS,
        folder=lambda wc: f"{RESULTS}/tables",
    shell:
        "python workflow_scripts/make_tables.py --settings {params.settings:q} --results {params.results:q}"
        " --folder {params.folder:q} --scores {input.scores:q} 2>&1 | tee {log}"


rule reproduction:
    input:
        tables=rules.tables.output.csv,
    output:
        report(
            f"{RESULTS}/reproduction.md",
            caption="report/reproduction.rst",
            category="Reproduction",
        ),
    log:
        f"{RESULTS}/logs/reproduction.log",
    benchmark:
        f"{RESULTS}/benchmarks/reproduction.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=report_settings(
            "reproduction", config=without(CONFIG.model_dump(mode="json"), "execution")
        ),
    shell:
        "python workflow_scripts/make_reproduction.py --settings {params.settings:q} --tables {input.tables:q}"
        " --output {output:q} 2>&1 | tee {log}"


# No output and no benchmark, which counts as one: so it prints every time it is asked for.  Needs no trained arm.
rule parity:
    input:
        scores=thresh_scores(),
    log:
        f"{RESULTS}/logs/parity.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=report_settings("parity"),
    shell:
        "python workflow_scripts/parity.py --settings {params.settings:q} --scores {input.scores:q} 2>&1 | tee {log}"


rule figures:
    input:
        scores=scores(),
        examples=examples(),
        curves=learning_curves(),
        experiments=experiments(),
    output:
        png=report(
            expand(f"{RESULTS}/figures/{{stem}}.png", stem=figure_stems()),
            caption="report/figure.rst",
            category="Figures",
        ),
        svg=expand(f"{RESULTS}/figures/{{stem}}.svg", stem=figure_stems()),
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=report_settings(
            "figures",
            experiment_arms=EXPERIMENT_ARMS,
            experiment_places=[
                [cohort, EXPERIMENT_MODALITY]
                for cohort in experiment_cohorts(EXPERIMENT_MODALITY)
            ],
        ),
        examples=lambda wc: f"{RESULTS}/examples",
        folder=lambda wc: f"{RESULTS}/figures",
    shell:
        "python workflow_scripts/make_figures.py --settings {params.settings:q} --examples {params.examples:q}"
        " --folder {params.folder:q} --workers {threads} --scores {input.scores:q} --curves {input.curves:q}"
        " --experiments {input.experiments:q} 2>&1 | tee {log}"


rule check:
    input:
        scores=scores(),
    output:
        f"{RESULTS}/check.txt",
    log:
        f"{RESULTS}/logs/check.log",
    benchmark:
        f"{RESULTS}/benchmarks/check.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=report_settings("tables"),
    shell:
        "python workflow_scripts/check_results.py --settings {params.settings:q} --output {output:q}"
        " --scores {input.scores:q} 2>&1 | tee {log}"
