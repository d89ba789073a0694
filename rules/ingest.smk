# Raw data: generated phantoms, healthy scans with planted strokes, what the data sets' servers give, or what the user has
# placed; then cohort tables and splits.


rule phantom:
    output:
        table=f"{RESULTS}/acquired/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/phantom/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/phantom/{{cohort}}.tsv"
    wildcard_constraints:
        cohort="|".join(PLAN.phantoms) or "none",
    priority: 20
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        adapter=lambda wc: COHORTS[wc.cohort].adapter,
        subjects=lambda wc: COHORTS[wc.cohort].subjects,
        seed=CONFIG.phantom.seed,
        voxel_mm=CONFIG.phantom.voxel_mm,
        folder=lambda wc: PLAN.raw_folder(wc.cohort),
        version=versions_of("phantoms"),
    shell:
        "(python workflow_scripts/make_phantoms.py --cohort {params.adapter:q} --folder {params.folder:q}"
        " --subjects {params.subjects:q} --seed {params.seed:q} --voxel-mm {params.voxel_mm:q} &&"
        " python workflow_scripts/download_cohort.py --cohort {wildcards.cohort} --adapter {params.adapter:q}"
        " --folder {params.folder:q} --table {output.table:q}) 2>&1 | tee {log}"


rule plant:
    input:
        cohort=f"{RESULTS}/cohorts/{CONFIG.planted.of}.tsv",
        splits=f"{RESULTS}/splits/{CONFIG.planted.of}.tsv",
        masks=f"{RESULTS}/acquired/stroke-masks.done",
    output:
        table=f"{RESULTS}/acquired/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/plant/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plant/{{cohort}}.tsv"
    wildcard_constraints:
        cohort="|".join(PLAN.planted) or "none",
    priority: 20
    conda:
        "../envs/preprocess.yaml"
    threads: CONFIG.execution.preprocess_threads
    resources:
        mem_mb=lambda wc, threads, attempt: (2000 + 1000 * threads) * attempt,
        runtime=growing(120),
    params:
        settings=lambda wc: settings_file(
            "planted", wc.cohort, **planted_settings(CONFIG, wc.cohort)
        ),
        masks=stroke_masks_folder(CONFIG),
        token=masks_token,
        folder=lambda wc: PLAN.raw_folder(wc.cohort),
    shell:
        "python workflow_scripts/plant.py --settings {params.settings:q} --cohort {input.cohort:q}"
        " --splits {input.splits:q} --masks {params.masks:q} --token {params.token:q} --folder {params.folder:q}"
        " --workers {threads} --table {output.table:q} 2>&1 | tee {log}"


rule download:
    output:
        table=f"{RESULTS}/acquired/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/download/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{cohort}}.tsv"
    wildcard_constraints:
        cohort="|".join(PLAN.archives) or "none",
    # what needs the user is known at once, and downloads do not wait for preprocessing
    priority: 30
    retries: 0  # downloads ask again themselves, as long as that can help
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    params:
        adapter=lambda wc: COHORTS[wc.cohort].adapter,
        folder=lambda wc: PLAN.raw_folder(wc.cohort),
        modalities=lambda wc: COHORTS[wc.cohort].modalities,
        sources=SOURCES_FILE,
        raw=raw_token,
    shell:
        "python workflow_scripts/download_cohort.py --cohort {wildcards.cohort} --adapter {params.adapter:q}"
        " --folder {params.folder:q} --modalities {params.modalities:q} --sources {params.sources:q}"
        " --table {output.table:q} 2>&1 | tee {log}"


rule ingest:
    input:
        acquired=f"{RESULTS}/acquired/{{cohort}}.tsv",
    output:
        table=f"{RESULTS}/cohorts/{{cohort}}.tsv",
        report=f"{RESULTS}/cohorts/{{cohort}}.md",
    log:
        f"{RESULTS}/logs/ingest/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ingest/{{cohort}}.tsv"
    priority: 20
    conda:
        "../envs/preprocess.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        settings=lambda wc: settings_file(
            "ingest", wc.cohort, **ingest_settings(CONFIG, wc.cohort)
        ),
        folder=lambda wc: PLAN.raw_folder(wc.cohort),
        unpacked=lambda wc: PLAN.unpacked_folder(wc.cohort),
        token=lambda wc: (
            ["--token", raw_token(wc)] if wc.cohort in PLAN.archives else []
        ),
    shell:
        "python workflow_scripts/ingest.py --settings {params.settings:q} --raw {params.folder:q}"
        " --unpacked {params.unpacked:q} --table {output.table:q} --report {output.report:q}"
        " {params.token:q} 2>&1 | tee {log}"


rule splits:
    input:
        cohort=f"{RESULTS}/cohorts/{{cohort}}.tsv",
        authors=(
            rules.authors_splits.output if CONFIG.splits.source == "authors" else []
        ),
    output:
        table=f"{RESULTS}/splits/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/splits/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/splits/{{cohort}}.tsv"
    priority: 20
    conda:
        "../envs/preprocess.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=lambda wc: settings_file(
            "splits", wc.cohort, **split_settings(CONFIG, wc.cohort)
        ),
    shell:
        "python workflow_scripts/split.py --settings {params.settings:q} --cohort {input.cohort:q}"
        " --table {output.table:q} 2>&1 | tee {log}"
