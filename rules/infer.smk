# Reconstructions (or anomaly maps) of every cohort at every noise level, cached for scoring.
import shlex


rule reconstruct:
    input:
        model=lambda wc: PLAN.trained_model(**wc),
        outputs=lambda wc: PLAN.outputs_to_rate(**wc),
        stores=stores_of,
        splits=splits_of,
        other=lambda wc: PLAN.other_inputs(wc.arm, wc.modality, int(wc.fold)),
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
        gpu=lambda wc: int(PLAN.runs_network(wc.arm)),
        mem_mb=growing(16000),
        runtime=lambda wc, attempt: PLAN.reading_minutes(wc.arm) * attempt,
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
            **PLAN.levels_to_read(wc.arm),
            **PLAN.training_to_show(wc.arm),
            seed=CONFIG.seed,
        ),
        model=lambda wc, input: (
            f"--model {shlex.quote(str(input.model))}" if input.model else ""
        ),
        outputs=lambda wc, input: (
            f"--outputs {shlex.quote(str(input.outputs))}" if input.outputs else ""
        ),
    shell:
        "python workflow_scripts/reconstruct.py --settings {params.settings:q} --stores {input.stores:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} {params.model} {params.outputs}"
        " --slices-per-pass {resources.slices_per_pass} --table {output.table:q} 2>&1 | tee {log}"


# Contrast and conditioning experiments: a conditioned arm and its unconditioned counterpart (docs/paper.md#experiments).


rule experiments:
    input:
        conditioned=lambda wc: PLAN.experiment_model("conditioned", **wc),
        unconditioned=lambda wc: PLAN.experiment_model("unconditioned", **wc),
        stores=lambda wc: PLAN.store_files(
            PLAN.experiment_cohorts(wc.modality), wc.modality
        ),
        splits=lambda wc: PLAN.split_tables(PLAN.experiment_cohorts(wc.modality)),
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
                for role, arm in PLAN.experiment_arms().items()
            },
            modality=wc.modality,
            cohorts=PLAN.experiment_cohorts(wc.modality),
            single=CONFIG.inference.single,
            ensemble=CONFIG.inference.ensemble,
            seed=CONFIG.seed,
        ),
    shell:
        "python workflow_scripts/run_experiments.py --settings {params.settings:q} --stores {input.stores:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} --slices-per-pass {resources.slices_per_pass}"
        " --conditioned {input.conditioned:q} --unconditioned {input.unconditioned:q} --output {output:q}"
        " 2>&1 | tee {log}"
