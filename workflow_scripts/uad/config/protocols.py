"""The three protocols: whole columns of docs/protocols.md, where the paper's text and code disagree.

`paper` follows the text, `authors` the released code, `clean` our recommendation.  Each choice is one row:
its D-number, the key it sets and the value per protocol.  A key named in the configuration wins over the row.
A row under `cohorts.<adapter>` is meant for every cohort with that adapter.  `FIXED` says what was done where there
is nothing to choose.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Choice(NamedTuple):
    id: str
    key: str
    paper: Any
    authors: Any
    clean: Any
    about: str


CHOICES = (
    Choice("D1", "train.learning_rate", 1e-5, 1e-4, 1e-4, "learning rate of Adam"),
    Choice("D1", "train_by_method.fanogan.learning_rate", 1e-4, None, None, "the text's exception"),
    Choice("D2", "train.max_steps", 17600, 19200, 17600, "1600 epochs: of 11 steps (text), of 12 (CSV rows)"),
    Choice("D2", "train_by_method.cddpm.max_steps", None, 14400, 13200, "the code trains cDDPM for 1200 epochs"),
    Choice("D2", "train_by_method.spark.max_steps", None, 14400, 13200, "and SparK"),
    Choice("D3", "train.precision", "32-true", "32-true", "bf16-mixed", "one precision for all arms in `clean`"),
    Choice("D3", "train_by_method.cddpm.precision", None, "16-mixed", None, "AMP fp16 in the code"),
    Choice("D3", "train_by_method.spark.precision", None, "16-mixed", None, "AMP fp16 in the code"),
    Choice("D4, D5, D20", "splits.source", "clean", "authors", "clean", "authors' CSVs leak 7 to 9 test subjects"),
    Choice("D6", "diffusion.condition.dim", 128, 512, 512, "width of the condition"),
    Choice("D6", "diffusion.condition.mlp", False, True, True, "extra MLP on the condition"),
    Choice("D7", "postprocess.order", ["median", "erode"], ["erode", "median"], ["erode", "median"], "order"),
    Choice("D8", "postprocess.component_max_size", 6, 7, 7, "`< 7` in the text, `<= 7` in the code"),
    Choice(
        "D9",
        "pack.order",
        "pad_resize_cut",
        "crop_percentile_resize",
        "crop_percentile_resize",
        "field of view",
    ),
    Choice("D10", "pack.curvature_flow.iterations", 0, 3, 3, "smoothing at loading, absent from the text"),
    Choice(
        "D11",
        "preprocess.registration.label_interpolation",
        "nearestNeighbor",
        "linear",
        "nearestNeighbor",
        "linear interpolation with `> 0` dilates the ground truth",
    ),
    Choice("D11", "preprocess.crop.last_plane", "keep", "drop", "keep", "the authors' crop loses the last plane"),
    Choice("D11", "preprocess.register_stripped_registered", True, True, False, "BraTS is in SRI24 space already"),
    Choice("D12", "preprocess.stripped_mask", "hd_bet", "get_mask", "nonzero", "brain mask of BraTS"),
    Choice("D12", "preprocess.n4.mask_stripped", True, False, True, "BraTS gets N4 without a weight mask in the code"),
    Choice("D13", "pack.percentiles", [1, 99], [1, 99], [1, 99], "intensity window inside the brain"),
    Choice("D14", "train.validation", "fixed", "random", "fixed", "random validation makes the choice noisy"),
    Choice("D14", "train_by_method.spark.augment", False, False, False, "no augmentation in SparK"),
    Choice("D16", "diffusion.objective", "residual", "x0", "x0", "x0 = x_t - output in the text"),
    Choice("D17", "diffusion.noise.shared", False, True, False, "one noise field per batch in the code"),
    Choice("D17", "diffusion.noise.offset", False, False, True, "the lattice origin leaves pixel (0, 0) free"),
    Choice("D17", "diffusion.noise.half", False, True, False, "the code rounds noise to float16"),
    Choice("D21", "tables.test_unit", "folds", "volumes", "volumes", "the paper names no unit of its test"),
    Choice(
        "D26",
        "threshold.search",
        "greedy",
        "greedy",
        "exact",
        "threshold search, before the component filter",
    ),
    Choice("D28", "diffusion.spark_optimizer", "adam", "adamw", "adamw", "SparK's optimiser: Adam in the text"),
    Choice("D29", "postprocess.mask_without_erosion", True, False, True, "Table 4, row without erosion"),
    Choice("D30", "train.validate_every", 100, 12, 100, "the code validates after each epoch of 12 steps"),
    Choice("D32", "tables.dice_without_lesion", "left_out", "zero", "left_out", "test volumes without a lesion"),
    Choice("D34", "cohorts.wmh.exclude_label", 2, None, 2, "the code counts every label above 0 as lesion"),
    Choice("D35", "preprocess.n4.mask", "get_mask", "get_mask", "brain", "antspyx 0.3 masks N4 by itself (code)"),
    Choice("D36", "preprocess.registration.histogram_matching", True, True, False, "antspyx 0.3 always matched (code)"),
    Choice("D37", "preprocess.n4.levels", 4, 4, 2, "further levels take large lesions for a field"),
    Choice("D37", "preprocess.n4.tolerance", 5e-4, 5e-4, 1e-4, "with 5e-4 two levels end too early"),
    Choice("D38", "pack.background", "keep", "keep", "zero", "the code sets no background to 0"),
)

FIXED = {
    "D15": "t_test counts from 1: t_test 500 is index 499 of the schedule (code).",
    "D18": "cosine schedule (code); the text is silent.",
    "D19": "pDDPM is read as an ensemble like the other diffusion arms: mean of the stitched reconstructions.",
    "D21": "SSIM, PSNR, LPIPS, KLD and the permutation test have no released code; choices are in docs/protocols.md.",
    "D22": "both readings of KLD are reported: kl(input || reconstruction) and the printed entropy difference.",
    "D23": "contrast exponents are the union of both lists: 0.3, 0.5, 0.7, 1, 1.5, 2.",
    "D24": "SparK masks 6 of 9 cells (code).",
    "D25": "thresholds come from the unhealthy validation set; healthy false-positive thresholds are extra columns.",
    "D27": "a current PyTorch; parameter counts and schedule values are tested against the paper's.",
    "D31": "maps and reconstructions are read in float32; the code also tests cDDPM in float16 (AMP).",
    "D33": "subjects listed twice in the authors' CSVs are used once.",
}


def protocol_values(protocol: str) -> dict[str, Any]:
    """The protocol's column as a nested dict of configuration keys; `None` leaves a key alone."""
    values: dict[str, Any] = {}
    for choice in CHOICES:
        if getattr(choice, protocol) is None:
            continue
        *sections, key = choice.key.split(".")
        block = values
        for section in sections:
            block = block.setdefault(section, {})
        block[key] = getattr(choice, protocol)
    return values
