# PCA as a baseline that is a program of its own.  An arm asks for its table of maps (docs/add-a-baseline.md):
#   pca: {method: maps, params: {table: "{results}/baselines/pca/{arm}/{modality}/fold{fold}/maps.tsv"}}


rule pca:
    input:
        # an input, so that a changed program makes its maps again
        program="workflow_scripts/baselines/pca.py",
        stores=stores_of,
        splits=splits_of,
    output:
        table=f"{RESULTS}/baselines/pca/{{arm}}/{{modality}}/fold{{fold}}/maps.tsv",
    log:
        f"{RESULTS}/logs/pca/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pca/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    priority: 5
    conda:
        "../../envs/pca.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        train_cohort=CONFIG.train_cohort,
        options=lambda wc: METHODS[wc.arm].arguments(),
    shell:
        "python {input.program:q} --stores {input.stores:q} --splits {input.splits:q}"
        " --train-cohort {params.train_cohort:q} --modality {wildcards.modality} --fold {wildcards.fold} {params.options}"
        " --table {output.table:q} 2>&1 | tee {log}"
