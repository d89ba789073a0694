# No scan and no person may be learned from in one cohort and tested on in another.  Of a run with `data_of` too, whose
# cohorts may be others than those of the run that made the data; so the table lies beside the data's folders.

LEAKS = f"{RESULTS}/leaks.tsv"


rule leaks:
    input:
        cohorts=expand(f"{DATA}/cohorts/{{cohort}}.tsv", cohort=COHORTS),
        splits=expand(f"{DATA}/splits/{{cohort}}.tsv", cohort=COHORTS),
    output:
        table=LEAKS,
    log:
        f"{RESULTS}/logs/leaks.log",
    benchmark:
        f"{RESULTS}/benchmarks/leaks.tsv"
    priority: 20
    conda:
        "../envs/preprocess.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=lambda wc: settings_file(
            "leaks",
            CONFIG.run,
            person={name: cohort.person for name, cohort in COHORTS.items()},
        ),
        results=lambda wc: RESULTS,
    shell:
        "python workflow_scripts/leaks.py --settings {params.settings:q} --results {params.results:q}"
        " --table {output.table:q} 2>&1 | tee {log}"
