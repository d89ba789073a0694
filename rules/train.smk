# What comes before training, and training: one job per (arm, modality, fold).
import shlex

# No scan and no person may be learned from in one cohort and tested on in another.  Of a run with `data_of` too, whose
# cohorts may be others than those of the run that made the data; so the table lies beside the data's folders.

LEAKS = f"{RESULTS}/leaks.tsv"


rule leaks:
    input:
        cohorts=PLAN.cohort_tables(),
        splits=PLAN.split_tables(COHORTS),
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
            planted={name: CONFIG.planted.of for name in PLAN.planted},
        ),
    shell:
        "python workflow_scripts/leaks.py --settings {params.settings:q} --cohorts {input.cohorts:q}"
        " --splits {input.splits:q} --table {output.table:q} 2>&1 | tee {log}"


# Checkpoints sit beside the declared model, so a killed job resumes.  Slurm's SIGTERM and a terminal's Ctrl-C reach every
# process of a job.  Python alone acts on them: `trap` keeps the shell and tee until the checkpoint is written.


rule pretrain:
    input:
        store=lambda wc: PLAN.store_files([CONFIG.train_cohort], wc.modality),
        splits=PLAN.split_tables([CONFIG.train_cohort]),
        leaks=ancient(LEAKS),
    output:
        model=f"{RESULTS}/pretrained/{{arm}}/{{modality}}/fold{{fold}}/model.safetensors",
        log=f"{RESULTS}/pretrained/{{arm}}/{{modality}}/fold{{fold}}/log.csv",
        provenance=f"{RESULTS}/pretrained/{{arm}}/{{modality}}/fold{{fold}}/provenance.json",
    log:
        f"{RESULTS}/logs/pretrain/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    priority: 6
    conda:
        "../envs/train.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=lambda wc, attempt: int(
            60 * METHODS[wc.arm].pretraining().gpu_hours * attempt
        ),
    params:
        settings=lambda wc: settings_file(
            "pretrain",
            f"{wc.arm}-{wc.modality}",
            **pretraining_settings(CONFIG, wc.arm),
            method_version=METHODS[wc.arm].pretraining().RECIPE_VERSION,
            modality=wc.modality,
            spacing_mm=PLAN.store_spacing_mm(),
            seed=CONFIG.seed,
        ),
        store=lambda wc: f"{RESULTS}/store/{CONFIG.train_cohort}_{wc.modality}",
    shell:
        "trap : TERM INT; python workflow_scripts/train.py --settings {params.settings:q} --store {params.store:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} --model {output.model:q}"
        " 2>&1 | (trap '' TERM INT; tee {log})"


rule train:
    input:
        store=lambda wc: PLAN.store_files([CONFIG.train_cohort], wc.modality),
        splits=PLAN.split_tables([CONFIG.train_cohort]),
        leaks=ancient(LEAKS),
        pretrained=lambda wc: PLAN.pretrained_model(**wc),
    output:
        model=f"{RESULTS}/models/{{arm}}/{{modality}}/fold{{fold}}/model.safetensors",
        log=f"{RESULTS}/models/{{arm}}/{{modality}}/fold{{fold}}/log.csv",
        provenance=f"{RESULTS}/models/{{arm}}/{{modality}}/fold{{fold}}/provenance.json",
    log:
        f"{RESULTS}/logs/train/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    priority: 5
    conda:
        "../envs/train.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=lambda wc, attempt: int(60 * METHODS[wc.arm].gpu_hours * attempt),
    params:
        settings=lambda wc: settings_file(
            "train",
            f"{wc.arm}-{wc.modality}",
            **arm_settings(CONFIG, wc.arm),
            method_version=METHODS[wc.arm].RECIPE_VERSION,
            modality=wc.modality,
            spacing_mm=PLAN.store_spacing_mm(),
            seed=CONFIG.seed,
        ),
        store=lambda wc: f"{RESULTS}/store/{CONFIG.train_cohort}_{wc.modality}",
        start_from=lambda wc, input: (
            f"--start-from {shlex.quote(str(input.pretrained))}"
            if input.pretrained
            else ""
        ),
    shell:
        "trap : TERM INT; python workflow_scripts/train.py --settings {params.settings:q} --store {params.store:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} --model {output.model:q}"
        " {params.start_from} 2>&1 | (trap '' TERM INT; tee {log})"
