"""The smallest form of arms that the tests train: parameters by method."""

TINY = {
    "ae": {"z_dim": 4},
    "cddpm": {
        "unet": {"base": 8, "multipliers": [1], "blocks": 1, "attention_heads": 1, "head_channels": 8},
        "encoder": {"depth": 10, "width": 8, "drop_path": 0.2},
        "condition": {"dim": 8},
        "noise": {"octaves": 2, "wavelength": 8},
    },
    "fanogan": {"width": 4, "blocks": 2, "z_dim": 4, "n_critic": 2, "gan_share": 0.5},
}
