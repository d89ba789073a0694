# Tables, figures and the tests of the results.


rule tables:
    input:
        scores=scores(),
    output:
        table2=expand(f"{RESULTS}/tables/table2.{{ext}}", ext=["csv", "md", "tex"]),
        table3=expand(f"{RESULTS}/tables/table3.{{ext}}", ext=["csv", "md", "tex"]),
        html=report(
            expand(f"{RESULTS}/tables/table{{n}}.html", n=[2, 3]),
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
        mem_mb=4000,
        runtime=60,
    params:
        settings=report_settings("tables"),
        folder=lambda wc: f"{RESULTS}/tables",
    shell:
        "python workflow_scripts/make_tables.py --settings {params.settings} --folder {params.folder}"
        " --scores {input.scores} 2>&1 | tee {log}"


rule figures:
    input:
        scores=scores(),
        examples=examples(),
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
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=report_settings("figures"),
        examples=lambda wc: f"{RESULTS}/examples",
        folder=lambda wc: f"{RESULTS}/figures",
    shell:
        "python workflow_scripts/make_figures.py --settings {params.settings} --examples {params.examples}"
        " --folder {params.folder} --scores {input.scores} 2>&1 | tee {log}"


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
        mem_mb=2000,
        runtime=10,
    params:
        settings=report_settings("tables"),
    shell:
        "python workflow_scripts/check_results.py --settings {params.settings} --output {output}"
        " --scores {input.scores} 2>&1 | tee {log}"
