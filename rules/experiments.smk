# Contrast and conditioning experiments: a conditioned arm and its unconditioned counterpart (docs/paper.md#experiments).


rule experiments:
    input:
        conditioned=lambda wc: model_of(EXPERIMENT_ARMS["conditioned"], wc),
        unconditioned=lambda wc: model_of(EXPERIMENT_ARMS["unconditioned"], wc),
        stores=lambda wc: [
            path
            for cohort in experiment_cohorts(wc.modality)
            for path in store_files(cohort, wc.modality)
        ],
        splits=lambda wc: expand(
            f"{DATA}/splits/{{cohort}}.tsv", cohort=experiment_cohorts(wc.modality)
        ),
    output:
        f"{RESULTS}/experiments/{{modality}}/fold{{fold}}.npz",
    log:
        f"{RESULTS}/logs/experiments/{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/experiments/{{modality}}-fold{{fold}}.tsv"
    priority: 4
    conda:
        "../envs/train.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(240),
        # a resource, since another number changes no result and should rerun nothing
        slices_per_pass=CONFIG.execution.slices_per_pass or 0,
    params:
        settings=lambda wc: settings_file(
            "experiments",
            wc.modality,
            **{
                role: {
                    **without(arm_settings(CONFIG, arm), "train"),
                    "method_version": METHODS[arm].RECIPE_VERSION,
                }
                for role, arm in EXPERIMENT_ARMS.items()
            },
            modality=wc.modality,
            cohorts=experiment_cohorts(wc.modality),
            single=CONFIG.inference.single,
            ensemble=CONFIG.inference.ensemble,
            seed=CONFIG.seed,
        ),
        results=lambda wc: RESULTS,
    shell:
        "python workflow_scripts/run_experiments.py --settings {params.settings:q} --results {params.results:q}"
        " --fold {wildcards.fold} --threads {threads} --slices-per-pass {resources.slices_per_pass}"
        " --conditioned {input.conditioned:q} --unconditioned {input.unconditioned:q} --output {output:q}"
        " 2>&1 | tee {log}"
