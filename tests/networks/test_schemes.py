"""What names and shapes in a file of weights tell."""

import pytest

from fgvc_jax.networks import schemes

BOTTLENECK = {
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    **{f"layer{stage}.{n}.conv1.weight": (1,) for stage in (2, 3, 4) for n in range(5)},
}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (BOTTLENECK, "resnet50: choose network.name accordingly"),
        (
            BOTTLENECK
            | {
                "layer1.0.conv1.weight": (128, 64, 1, 1),
                "layer1.0.conv2.weight": (128, 128, 3, 3),
            },
            "wide_resnet50_2: this program has no such network",
        ),
        (
            BOTTLENECK
            | {"layer1.0.conv1.weight": (128, 64, 1, 1), "layer1.0.conv2.weight": (128, 4, 3, 3)},
            "resnext50_32x4d: this program has no such network",
        ),
        (BOTTLENECK | {"conv1.0.weight": (32, 3, 3, 3)}, "resnet50d: this program has no such"),
        (BOTTLENECK | {"layer1.0.se.fc1.weight": (1,)}, "squeeze-and-excitation ResNet of 50"),
        (
            {"patch_embed.proj.weight": (1024, 3, 14, 14), "norm_pre.weight": (1024,)},
            "the vision tower of a CLIP of width 1024 and patches of 14 px: choose network.name",
        ),
        (
            {
                "patch_embed.proj.weight": (768, 3, 14, 14),
                "reg_token": (1, 4, 768),
                "blocks.0.ls1.gamma": (768,),
            },
            "DINOv2 with 4 registers, of width 768 and patches of 14 px: choose network.name",
        ),
        ({"embeddings.cls_token": (1,)}, "names are those of transformers: take"),
        ({"vit.embeddings.cls_token": (1,)}, "names are those of transformers: take"),
        ({"resnet.embedder.embedder.convolution.weight": (1,)}, "those of transformers: take"),
        ({"features.1.0.block.0.weight": (1,)}, "names are those of torchvision's ConvNeXt"),
        ({"downsample_layers.0.0.weight": (1,)}, "names are those of ConvNeXt's authors"),
        ({"encoder.layers.encoder_layer_0.ln_1.bias": (1,)}, "torchvision's vision transformers"),
        ({"visual.transformer.resblocks.0.ln_1.bias": (1,)}, "names are those of CLIP"),
    ],
)
def test_neighbours_and_foreign_names_are_told(shapes, words):
    """By one clue wide_resnet50_2 was told to be resnet50."""
    assert words in schemes.hint(shapes)


def test_a_prefix_is_what_all_names_of_a_backbone_have_and_none_that_fits():
    expected = {"features.0.weight", "features.1.weight"}
    assert schemes.prefix(expected, expected) == ""  # which have one in common themselves
    assert schemes.prefix({f"module.{name}" for name in expected}, expected) == "module."
    assert schemes.prefix({"a.b.features.0.weight", "fc.bias"}, expected) == "a.b."
    assert schemes.prefix({"x.0.weight", "y.0.weight"}, expected) == ""
    assert schemes.prefix({"fc.weight", "fc.bias"}, expected) == ""
