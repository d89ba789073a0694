# What all runs of a data folder share: weights, the atlas, the authors' split files; and the plan, which says what is there.
# Downloads are local rules: they run where Snakemake runs, not on a compute node.  They wait and ask again themselves, as
# long as that can help, so Snakemake does not repeat them (`retries: 0`).


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    params:
        sources=SOURCES_FILE,
        settings=lambda wc: settings_file("plan", CONFIG.run, config=config),
        results=lambda wc: RESULTS,
    shell:
        "(python workflow_scripts/plan.py --sources {params.sources:q} &&"
        " python workflow_scripts/estimate.py --settings {params.settings:q} --results {params.results:q})"
        " 2>&1 | tee {log}"


# What follows belongs to all runs of a data folder.  The run's list of sources is a resource and no parameter: another run
# has another list, and need not fetch everything again.


rule hd_bet:
    output:
        expand(
            f"{hd_bet_folder(CONFIG)}/{{name}}", name=read_sources()["hd-bet"].members
        ),
    log:
        f"{RESULTS}/logs/hd_bet.log",
    benchmark:
        f"{RESULTS}/benchmarks/hd_bet.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    resources:
        sources=SOURCES_FILE,
    shell:
        "python workflow_scripts/download_item.py --item hd-bet --files {output:q}"
        " --sources {resources.sources:q} 2>&1 | tee {log}"


rule medicalnet:
    output:
        medicalnet_file(CONFIG),
    log:
        f"{RESULTS}/logs/medicalnet.log",
    benchmark:
        f"{RESULTS}/benchmarks/medicalnet.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    resources:
        sources=SOURCES_FILE,
    shell:
        "python workflow_scripts/download_item.py --item medicalnet --files {output:q}"
        " --sources {resources.sources:q} 2>&1 | tee {log}"


# The masks may be others than the item's, placed by the user; so the file that says that they are there lies elsewhere.


rule stroke_masks:
    output:
        touch(f"{RESULTS}/acquired/stroke-masks.done"),
    log:
        f"{RESULTS}/logs/stroke_masks.log",
    benchmark:
        f"{RESULTS}/benchmarks/stroke_masks.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    resources:
        sources=SOURCES_FILE,
    params:
        folder=stroke_masks_folder(CONFIG),
    shell:
        "python workflow_scripts/download_item.py --item stroke-masks --folder {params.folder:q}"
        " --sources {resources.sources:q} 2>&1 | tee {log}"


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
    retries: 0
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    resources:
        sources=SOURCES_FILE,
    shell:
        "python workflow_scripts/download_item.py --item authors-splits --files {output:q}"
        " --sources {resources.sources:q} 2>&1 | tee {log}"


rule sri24:
    output:
        f"{CONFIG.data_dir}/sri24/spgr.nii",
    log:
        f"{RESULTS}/logs/sri24.log",
    benchmark:
        f"{RESULTS}/benchmarks/sri24.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/preprocess.yaml"
    resources:
        sources=SOURCES_FILE,
    shell:
        "python workflow_scripts/download_item.py --item sri24 --files {output:q}"
        " --sources {resources.sources:q} 2>&1 | tee {log}"
