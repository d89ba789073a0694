# Scoring on CPU: post-processing, thresholds, metrics per volume (docs/paper.md#threshold, docs/paper.md#metrics).
import shlex


rule backbone:
    output:
        f"{RESULTS}/backbone/tissue.safetensors",
    log:
        f"{RESULTS}/logs/backbone/tissue.log",
    benchmark:
        f"{RESULTS}/benchmarks/backbone/tissue.tsv"
    conda:
        "../envs/train.yaml"
    threads: CONFIG.execution.train_threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=lambda wc: settings_file(
            "backbone",
            "tissue",
            perceptual=section("perceptual"),
            phantom=section("phantom"),
            pack=section("pack"),
            spacing_mm=CONFIG.preprocess.spacing_mm,
            seed=CONFIG.seed,
        ),
    shell:
        "python workflow_scripts/train_backbone.py --settings {params.settings:q} --threads {threads}"
        " --output {output:q} 2>&1 | tee {log}"


rule score:
    input:
        arrays=f"{RESULTS}/reconstructions/{{arm}}/{{modality}}/fold{{fold}}/arrays.tsv",
        stores=stores_of,
        splits=splits_of,
        leaks=ancient(LEAKS),
        backbone=PLAN.backbone_file(),
    output:
        metrics=f"{RESULTS}/metrics/{{arm}}/{{modality}}/fold{{fold}}.parquet",
        tallies=f"{RESULTS}/tallies/{{arm}}/{{modality}}/fold{{fold}}.parquet",
        lesions=f"{RESULTS}/lesions/{{arm}}/{{modality}}/fold{{fold}}.parquet",
        examples=f"{RESULTS}/examples/{{arm}}/{{modality}}/fold{{fold}}.npz",
        # so that the report needs no reconstructions
        viewer=f"{RESULTS}/viewer/{{arm}}/{{modality}}/fold{{fold}}.npz",
    log:
        f"{RESULTS}/logs/score/{{arm}}-{{modality}}-fold{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{arm}}-{{modality}}-fold{{fold}}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: CONFIG.execution.score_threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=lambda wc: settings_file(
            "score",
            f"{wc.arm}-{wc.modality}",
            **scoring_settings(wc.arm, wc.modality),
            perceptual=section("perceptual"),
            seed=CONFIG.seed,
            ablation=CONFIG.tables.ablation and not METHODS[wc.arm].control,
            # a few are kept in any case: their number makes no score again
            **({"viewer_scans": "all"} if CONFIG.report.viewer_scans == "all" else {}),
        ),
        backbone=lambda wc, input: (
            f"--backbone {shlex.quote(input.backbone)}" if input.backbone else ""
        ),
    shell:
        "python workflow_scripts/score.py --settings {params.settings:q} --stores {input.stores:q}"
        " --splits {input.splits:q} --fold {wildcards.fold} --arrays {input.arrays:q} {params.backbone} --threads {threads}"
        " --metrics {output.metrics:q} --tallies {output.tallies:q} --lesions {output.lesions:q} --examples {output.examples:q} --viewer {output.viewer:q} 2>&1 | tee {log}"
