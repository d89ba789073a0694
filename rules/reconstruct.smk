# Reconstructions (or anomaly maps) of every cohort at every noise level, cached for scoring.


rule reconstruct:
    input:
        model=trained_model,
        stores=stores_of,
        splits=splits_of,
        other=other_inputs,
    output:
        table=f"{RESULTS}/reconstructions/{{arm}}/{{modality}}/fold{{fold}}/arrays.tsv",
    log:
        f"{RESULTS}/logs/reconstruct/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/reconstruct/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    priority: 5
    conda:
        "../envs/train.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        gpu=lambda wc: int(METHODS[wc.arm].trains),
        mem_mb=growing(16000),
        runtime=growing(60),
        # a resource, since another number changes no result and should rerun nothing
        slices_per_pass=CONFIG.execution.slices_per_pass or 0,
    params:
        settings=lambda wc: settings_file(
            "reconstruct",
            f"{wc.arm}-{wc.modality}",
            **without(arm_settings(CONFIG, wc.arm), "train"),
            method_version=METHODS[wc.arm].RECIPE_VERSION,
            modality=wc.modality,
            cohorts=cohorts_with(wc.modality),
            t_tests=(
                CONFIG.inference.t_test if METHODS[wc.arm].reads_noise_levels else []
            ),
            seed=CONFIG.seed,
        ),
        model=lambda wc, input: f"--model {input.model}" if input.model else "",
        results=lambda wc: RESULTS,
    shell:
        "python workflow_scripts/reconstruct.py --settings {params.settings:q} --results {params.results:q}"
        " --fold {wildcards.fold} --threads {threads} {params.model}"
        " --slices-per-pass {resources.slices_per_pass} --table {output.table:q} 2>&1 | tee {log}"
