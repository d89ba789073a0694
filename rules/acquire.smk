# Raw data: generated phantoms, what the data sets' servers give, or what the user has placed.  Weights and the authors'
# split files come the same way.  Downloads are local rules: they run where Snakemake runs, not on a compute node.
import sys

from uad.acquisition.needs import write_sources

try:
    SOURCES_FILE = write_sources(CONFIG, RESULTS, raw_folder)
except InputError as error:
    raise WorkflowError(str(error)) from None


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    params:
        sources=SOURCES_FILE,
        settings=lambda wc: settings_file("plan", CONFIG.run, config=config),
        snakemake=f"{sys.executable} -m snakemake",
        results=lambda wc: RESULTS,
    shell:
        "(python workflow_scripts/plan.py --sources {params.sources} &&"
        " python workflow_scripts/estimate.py --settings {params.settings} --results {params.results}"
        " --snakemake '{params.snakemake}') 2>&1 | tee {log}"


# What follows belongs to all runs of a data folder: the run's own settings are found beside its log, not through params,
# which would have another run fetch everything again.


rule hd_bet:
    output:
        expand(
            f"{hd_bet_folder(CONFIG)}/{{name}}", name=read_sources()["hd-bet"].members
        ),
    log:
        f"{RESULTS}/logs/hd_bet.log",
    benchmark:
        f"{RESULTS}/benchmarks/hd_bet.tsv"
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    shell:
        "python workflow_scripts/fetch.py --item hd-bet --files {output}"
        " --sources $(dirname {log})/../settings/sources.json 2>&1 | tee {log}"


rule medicalnet:
    output:
        medicalnet_file(CONFIG),
    log:
        f"{RESULTS}/logs/medicalnet.log",
    benchmark:
        f"{RESULTS}/benchmarks/medicalnet.tsv"
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    shell:
        "python workflow_scripts/fetch.py --item medicalnet --files {output}"
        " --sources $(dirname {log})/../settings/sources.json 2>&1 | tee {log}"


rule authors_splits:
    output:
        expand(
            f"{CONFIG.splits.authors_csv}/{{name}}",
            name=[file.name for file in read_sources()["authors-splits"].files],
        ),
    log:
        f"{RESULTS}/logs/authors_splits.log",
    benchmark:
        f"{RESULTS}/benchmarks/authors_splits.tsv"
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    shell:
        "python workflow_scripts/fetch.py --item authors-splits --files {output}"
        " --sources $(dirname {log})/../settings/sources.json 2>&1 | tee {log}"


rule phantom:
    output:
        table=f"{RESULTS}/acquired/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/phantom/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/phantom/{{cohort}}.tsv"
    wildcard_constraints:
        cohort="|".join(PHANTOMS) or "none",
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
        folder=lambda wc: raw_folder(wc.cohort),
        version=module_version("cohorts/phantom/__init__.py"),
    shell:
        "(python workflow_scripts/make_phantoms.py --cohort {params.adapter} --folder {params.folder}"
        " --subjects {params.subjects} --seed {params.seed} --voxel-mm {params.voxel_mm} &&"
        " python workflow_scripts/acquire.py --cohort {wildcards.cohort} --adapter {params.adapter}"
        " --folder {params.folder} --table {output.table}) 2>&1 | tee {log}"


rule acquire:
    output:
        table=f"{RESULTS}/acquired/{{cohort}}.tsv",
    log:
        f"{RESULTS}/logs/acquire/{{cohort}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/acquire/{{cohort}}.tsv"
    wildcard_constraints:
        cohort="|".join(ARCHIVES) or "none",
    # what needs the user is known at once, and downloads do not wait for preprocessing
    priority: 30
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    params:
        adapter=lambda wc: COHORTS[wc.cohort].adapter,
        folder=lambda wc: raw_folder(wc.cohort),
        modalities=lambda wc: COHORTS[wc.cohort].modalities,
        sources=SOURCES_FILE,
    shell:
        "python workflow_scripts/acquire.py --cohort {wildcards.cohort} --adapter {params.adapter}"
        " --folder {params.folder} --modalities {params.modalities} --sources {params.sources}"
        " --table {output.table} 2>&1 | tee {log}"


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
            "ingest", wc.cohort, cohort=cohort_settings(wc.cohort)
        ),
        folder=lambda wc: raw_folder(wc.cohort),
        unpacked=lambda wc: unpacked_folder(wc.cohort),
    shell:
        "python workflow_scripts/ingest.py --settings {params.settings} --raw {params.folder}"
        " --unpacked {params.unpacked} --table {output.table} --report {output.report} 2>&1 | tee {log}"


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
            "splits",
            wc.cohort,
            name=wc.cohort,
            cohort=cohort_settings(wc.cohort),
            splits=section("splits"),
            folds=CONFIG.folds,
            seed=CONFIG.seed,
        ),
    shell:
        "python workflow_scripts/split.py --settings {params.settings} --cohort {input.cohort}"
        " --table {output.table} 2>&1 | tee {log}"
