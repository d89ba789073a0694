# Training: one job per (arm, modality, fold).  Checkpoints sit beside the declared model, so a killed job resumes.
# Slurm's SIGTERM and a terminal's Ctrl-C reach every process of a job.  Python alone acts on them: `trap` keeps the shell
# and tee until the checkpoint is written.


rule pretrain:
    input:
        store=lambda wc: store_files(CONFIG.train_cohort, wc.modality),
        splits=f"{DATA}/splits/{CONFIG.train_cohort}.tsv",
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
            spacing_mm=store_spacing_mm(),
            seed=CONFIG.seed,
        ),
        store=lambda wc: f"{RESULTS}/store/{CONFIG.train_cohort}_{wc.modality}",
    shell:
        "trap : TERM INT; python workflow_scripts/train.py --settings {params.settings:q} --store {params.store:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} --model {output.model:q}"
        " 2>&1 | (trap '' TERM INT; tee {log})"


rule train:
    input:
        store=lambda wc: store_files(CONFIG.train_cohort, wc.modality),
        splits=f"{DATA}/splits/{CONFIG.train_cohort}.tsv",
        leaks=ancient(LEAKS),
        pretrained=pretrained_model,
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
            spacing_mm=store_spacing_mm(),
            seed=CONFIG.seed,
        ),
        store=lambda wc: f"{RESULTS}/store/{CONFIG.train_cohort}_{wc.modality}",
        start_from=lambda wc, input: (
            f"--start-from {input.pretrained}" if input.pretrained else ""
        ),
    shell:
        "trap : TERM INT; python workflow_scripts/train.py --settings {params.settings:q} --store {params.store:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --threads {threads} --model {output.model:q}"
        " {params.start_from} 2>&1 | (trap '' TERM INT; tee {log})"
