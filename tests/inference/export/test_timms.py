"""What timm is told of our networks. What it answers: test_hub.py."""

from fgvc_jax import networks
from fgvc_jax.inference.export.timms import NETWORKS


def test_every_network_that_timm_is_told_of_is_ours_and_pooled_as_its_authors_pool():
    assert NETWORKS.keys() <= set(networks.NAMES)
    for name, (theirs, family, arguments) in NETWORKS.items():
        assert networks.pooling(name) in family.pools, name
        assert theirs and set(arguments) | set(family.arguments) <= {
            "patch_size", "embed_dim", "depth", "num_heads", "depths", "dims", "window_size",
            "fc_norm", "act_layer",
        }, name  # fmt: skip


def test_what_has_learned_positions_is_told_the_size_of_images():
    sized = {name.partition("_")[0] for name, (_, family, _) in NETWORKS.items() if family.sized}
    assert sized == {"vit", "dinov2", "dinov3", "bioclip2", "siglip2", "swin"}
