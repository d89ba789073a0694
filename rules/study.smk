# A study: one question beyond the paper, answered from the scores of the arms that it names (docs/studies.md).


# What a study wants to know of voxels; only studies that measure ask for it.
rule measure:
    input:
        scores=f"{RESULTS}/metrics/{{arm}}/{{modality}}/fold{{fold}}.parquet",
        arrays=f"{RESULTS}/reconstructions/{{arm}}/{{modality}}/fold{{fold}}/arrays.tsv",
        stores=stores_of,
        splits=splits_of,
        planted=lambda wc: PLAN.study_planted(wc.modality),
        benchmark=lambda wc: PLAN.study_benchmark(**wc),
    output:
        f"{PLAN.study_folder()}/rows/{{arm}}/{{modality}}/fold{{fold}}.parquet",
    log:
        f"{RESULTS}/logs/measure/{CONFIG.study.question}-{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{CONFIG.study.question}-{{arm}}-{{modality}}-fold{{fold}}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: CONFIG.execution.score_threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        settings=lambda wc: settings_file(
            "measure",
            f"{CONFIG.study.question}-{wc.arm}-{wc.modality}",
            **scoring_settings(wc.arm, wc.modality),
            study=PLAN.study_keys(),
        ),
    shell:
        "python workflow_scripts/measure_study.py --settings {params.settings:q} --scores {input.scores:q}"
        " --arrays {input.arrays:q} --stores {input.stores:q} --splits {input.splits:q} --planted {input.planted:q}"
        " --benchmark {input.benchmark:q} --fold {wildcards.fold} --output {output:q} 2>&1 | tee {log}"


rule study:
    input:
        scores=PLAN.study_files("metrics/{arm}/{modality}/fold{fold}.parquet"),
        lesions=PLAN.study_files("lesions/{arm}/{modality}/fold{fold}.parquet"),
        measured=PLAN.study_measured(),
        experiments=PLAN.study_experiments(),
        stores=PLAN.store_tables(),
    output:
        PLAN.study_answer(),
    log:
        f"{RESULTS}/logs/study/{CONFIG.study.question}.log",
    benchmark:
        f"{RESULTS}/benchmarks/study/{CONFIG.study.question}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=settings_file("study", CONFIG.study.question, **PLAN.study_settings()),
        folder=lambda wc: PLAN.study_folder(),
    shell:
        "python workflow_scripts/answer_study.py --settings {params.settings:q} --scores {input.scores:q}"
        " --lesions {input.lesions:q} --measured {input.measured:q} --experiments {input.experiments:q}"
        " --stores {input.stores:q} --folder {params.folder:q} 2>&1 | tee {log}"
