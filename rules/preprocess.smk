# Preprocessing per shard of a cohort (docs/paper.md#preprocessing): skull strip, register, bias field, crop; then pack.


rule skull_strip:
    input:
        cohort=f"{RESULTS}/cohorts/{{cohort}}.tsv",
        hd_bet=hd_bet_files,
    output:
        table=f"{RESULTS}/skull_stripped/{{cohort}}/shard-{{shard}}.tsv",
    log:
        f"{RESULTS}/logs/skull_strip/{{cohort}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/skull_strip/{{cohort}}-{{shard}}.tsv"
    priority: 10
    conda:
        "../envs/preprocess.yaml"
    threads: CONFIG.execution.preprocess_threads
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(60),
    params:
        settings=lambda wc: settings_file(
            "skull_strip", wc.cohort, **skull_strip_settings(CONFIG, wc.cohort)
        ),
        shards=lambda wc: len(CONFIG.shards(wc.cohort)),
    shell:
        "python workflow_scripts/skull_strip.py --settings {params.settings:q} --cohort {input.cohort:q}"
        " --shard {wildcards.shard} --shards {params.shards:q} --threads {threads} --table {output.table:q}"
        " 2>&1 | tee {log}"


rule register:
    input:
        stripped=f"{RESULTS}/skull_stripped/{{cohort}}/shard-{{shard}}.tsv",
        cohort=f"{RESULTS}/cohorts/{{cohort}}.tsv",
        atlas=PLAN.atlas_files(),
    output:
        table=f"{RESULTS}/preprocessed/{{cohort}}/shard-{{shard}}.tsv",
    log:
        f"{RESULTS}/logs/register/{{cohort}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/register/{{cohort}}-{{shard}}.tsv"
    priority: 10
    conda:
        "../envs/preprocess.yaml"
    threads: CONFIG.execution.preprocess_threads
    resources:
        mem_mb=lambda wc, threads, attempt: (2000 + 1000 * threads) * attempt,
        runtime=growing(120),
    params:
        settings=lambda wc: settings_file(
            "register", wc.cohort, **register_settings(CONFIG, wc.cohort)
        ),
    shell:
        "python workflow_scripts/register.py --settings {params.settings:q} --stripped {input.stripped:q}"
        " --cohort {input.cohort:q} --workers {threads} --table {output.table:q} 2>&1 | tee {log}"


rule flag_outliers:
    input:
        shards=lambda wc: PLAN.shard_tables(wc.cohort),
    output:
        table=f"{RESULTS}/preprocessed/{{cohort}}/quality.tsv",
    log:
        f"{RESULTS}/logs/flag_outliers/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/flag_outliers/{{cohort}}.tsv"
    priority: 10
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        versions=versions_of("quality"),
        sheets=lambda wc: f"{RESULTS}/preprocessed/{wc.cohort}/sheets",
    shell:
        "python workflow_scripts/flag_outliers.py --shards {input.shards:q} --table {output.table:q}"
        " --sheets {params.sheets:q} 2>&1 | tee {log}"


rule pack:
    input:
        shards=lambda wc: PLAN.shard_tables(wc.cohort),
        cohort=f"{RESULTS}/cohorts/{{cohort}}.tsv",
    output:
        multiext(f"{RESULTS}/store/{{cohort}}_{{modality}}", *STORE_FILES),
    log:
        f"{RESULTS}/logs/pack/{{cohort}}_{{modality}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pack/{{cohort}}_{{modality}}.tsv"
    priority: 10
    conda:
        "../envs/preprocess.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        settings=lambda wc: settings_file(
            "pack",
            f"{wc.cohort}-{wc.modality}",
            **pack_settings(CONFIG, wc.cohort, wc.modality),
        ),
        store=lambda wc: f"{RESULTS}/store/{wc.cohort}_{wc.modality}",
    shell:
        "python workflow_scripts/pack.py --settings {params.settings:q} --cohort {input.cohort:q}"
        " --store {params.store:q} --shards {input.shards:q} 2>&1 | tee {log}"
