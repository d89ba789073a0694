# Tables, figures, the tests of the results, and the report.

# what tables, and what is made of them, have in common in their settings
TABLES = {"tables": section("tables"), "seed": CONFIG.seed}


rule tables:
    input:
        scores=PLAN.scores(),
        lesions=PLAN.lesions(),
        splits=PLAN.split_tables(COHORTS),
        stores=PLAN.store_tables(),
    output:
        csv=PLAN.table_files("csv"),
        sheets=f"{RESULTS}/tables/sheets.json",
        scans=f"{RESULTS}/tables/scans.csv",
        text=PLAN.table_files("md", "tex"),
        html=report(
            PLAN.table_files("html"),
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
        settings=report_settings("tables", **TABLES),
        folder=lambda wc: f"{RESULTS}/tables",
    shell:
        "python workflow_scripts/make_tables.py --settings {params.settings:q} --splits {input.splits:q}"
        " --stores {input.stores:q} --folder {params.folder:q} --scores {input.scores:q}"
        " --lesions {input.lesions:q} 2>&1 | tee {log}"


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
            "reproduction",
            **TABLES,
            config=without(CONFIG.model_dump(mode="json", by_alias=True), "execution"),
        ),
    shell:
        "python workflow_scripts/make_reproduction.py --settings {params.settings:q} --tables {input.tables:q}"
        " --output {output:q} 2>&1 | tee {log}"


# No output and no benchmark, which counts as one: so it prints every time it is asked for.  Needs no trained arm.
rule parity:
    input:
        scores=PLAN.thresh_scores(),
    log:
        f"{RESULTS}/logs/parity.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=report_settings("parity", **TABLES),
    shell:
        "python workflow_scripts/parity.py --settings {params.settings:q} --scores {input.scores:q} 2>&1 | tee {log}"


# As parity.  The files are a parameter: what is not scored, or scored by older settings, is not made for it.
rule scores:
    log:
        f"{RESULTS}/logs/scores.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        settings=report_settings("scores"),
        scores=lambda wc: [path for path in PLAN.scores() if Path(path).exists()],
    shell:
        "python workflow_scripts/print_scores.py --settings {params.settings:q} --scores {params.scores:q} 2>&1 | tee {log}"


rule figures:
    input:
        scores=PLAN.scores(),
        tallies=PLAN.tallies(),
        examples=PLAN.examples(),
        curves=PLAN.learning_curves(),
        experiments=PLAN.experiments(),
    output:
        png=report(
            PLAN.figures("png"),
            caption="report/figure.rst",
            category="Figures",
        ),
        svg=PLAN.figures("svg"),
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
            **TABLES,
            experiment_arms=PLAN.experiment_arms(),
            experiment_places=PLAN.experiment_places(),
        ),
        examples=lambda wc: f"{RESULTS}/examples",
        folder=lambda wc: f"{RESULTS}/figures",
    shell:
        "python workflow_scripts/make_figures.py --settings {params.settings:q} --examples {params.examples:q}"
        " --folder {params.folder:q} --workers {threads} --scores {input.scores:q} --curves {input.curves:q}"
        " --experiments {input.experiments:q} --tallies {input.tallies:q} 2>&1 | tee {log}"


rule check:
    input:
        scores=PLAN.scores(),
        experiments=PLAN.experiments(),
    output:
        check=f"{RESULTS}/check.txt",
        statements=f"{RESULTS}/statements.txt",
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
        settings=report_settings(
            "check",
            statements=CONFIG.check.statements,
            experiment_cohorts=[cohort for cohort, _ in PLAN.experiment_places()],
        ),
    shell:
        "python workflow_scripts/check_results.py --settings {params.settings:q} --check {output.check:q}"
        " --statements {output.statements:q} --scores {input.scores:q}"
        " --experiments {input.experiments:q} 2>&1 | tee {log}"


# The report: one folder that opens from disk, with a viewer for a few scans of every cohort.


rule html_report:
    input:
        scores=PLAN.scores(),
        viewer=PLAN.viewer_scans(),
        stores=PLAN.all_stores(),
        shards=[table for cohort in COHORTS for table in PLAN.shard_tables(cohort)],
        tables=[
            *rules.tables.output.csv,
            rules.tables.output.scans,
            *rules.tables.output.text,
            *rules.tables.output.html,
        ],
        sheets=rules.tables.output.sheets,
        figures=rules.figures.output.png,
        reproduction=rules.reproduction.output,
        check=rules.check.output.check,
        statements=rules.check.output.statements,
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
        settings=report_settings(
            "report",
            spacing_mm=PLAN.store_spacing_mm(),
            left_out=PLAN.left_out,
            config=without(CONFIG.model_dump(mode="json", by_alias=True), "execution"),
            **section("report"),
        ),
        results=lambda wc: RESULTS,
        folder=lambda wc: f"{RESULTS}/report",
    shell:
        "python workflow_scripts/make_report.py --settings {params.settings:q} --results {params.results:q}"
        " --stores {input.stores:q} --sheets {input.sheets:q}"
        " --scores {input.scores:q} --viewer {input.viewer:q} --shards {input.shards:q} --tables {input.tables:q}"
        " --figures {input.figures:q} --reproduction {input.reproduction:q} --check {input.check:q}"
        " --statements {input.statements:q} --folder {params.folder:q} 2>&1 | tee {log}"
