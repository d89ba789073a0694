# Healthy patches and where they lie: a program of its own.  An arm asks for its table of maps (docs/add-a-baseline.md):
#   patchbank: {method: maps, params: {table: "{results}/baselines/patchbank/{arm}/{modality}/fold{fold}/maps.tsv"}}


rule patchbank:
    input:
        # an input, so that a changed program makes its maps again
        program="workflow_scripts/baselines/patchbank.py",
        stores=stores_of,
        splits=splits_of,
    output:
        table=f"{RESULTS}/baselines/patchbank/{{arm}}/{{modality}}/fold{{fold}}/maps.tsv",
    log:
        f"{RESULTS}/logs/patchbank/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/patchbank/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    priority: 5
    conda:
        "../../envs/patchbank.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        mem_mb=growing(6000),
        runtime=growing(240),
    params:
        train_cohort=CONFIG.train_cohort,
        seed=CONFIG.seed,
        options=lambda wc: METHODS[wc.arm].arguments(),
    shell:
        "python {input.program:q} --stores {input.stores:q} --splits {input.splits:q}"
        " --train-cohort {params.train_cohort:q} --modality {wildcards.modality} --fold {wildcards.fold}"
        " --seed {params.seed:q} {params.options} --table {output.table:q} 2>&1 | tee {log}"
