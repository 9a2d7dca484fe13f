"""Which publication's protocol a config's arguments choose."""

import pytest

from fgvc_jax import recipes
from fgvc_jax.recipes import BENCHMARKS, Row
from fgvc_jax.utils.errors import UserError


def of(*arguments):
    return recipes.protocol("ce", {",".join(arguments): Row("-", 1.0)}, arguments)


def test_a_benchmark_and_a_network_choose_the_protocol():
    assert of("cub", "vgg16").network.name == "vgg16_bn"
    assert of("cars", "resnet50").batch_size == recipes.kt("cars", "resnet50").batch_size == 32
    assert of("soylocal", "resnet50").epochs == recipes.maskcov("soylocal").epochs == 160
    assert of("soylocal", "vit_b16").optimizer == recipes.transfg("soylocal").optimizer
    assert of("cub", "swin_base").optimizer.name == "adamw"
    assert of("sketchbirds").data.source == "sketchbirds"


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_whole_leaves_are_shown_at_test_and_the_middle_of_photographs(benchmark):
    leaves = BENCHMARKS[benchmark].leaves
    assert leaves == BENCHMARKS[benchmark].source.startswith("ultra:")
    data = of(benchmark, "convnext_base").data
    assert (data.resize, data.test_view) == ((512, "whole") if leaves else (600, "center"))


def test_every_protocol_is_one_network_with_plain_cross_entropy_in_a_folder_of_its_own():
    for arguments in (("cub", "resnet50"), ("soygene", "resnet50"), ("aircraft", "vit_b16")):
        found = of(*arguments)
        assert (found.members, found.objective, found.transfer.name) == (1, "ce", "none")
        assert found.workdir == f"runs/ce_{'_'.join(arguments)}"


def test_warm_up_is_counted_in_steps_of_the_official_training_set():
    assert of("cub", "swin_base").optimizer.warmup_steps == 5 * (5994 // 16)
    assert of("cub", "convnext_base").optimizer.warmup_steps == 0
    assert of("cub", "vit_b16").epochs == round(10_000 / (5994 // 16))


def test_arguments_that_are_in_no_table_list_those_that_are():
    with pytest.raises(UserError, match=r"choose one of kt:cub \| kt:cars"):
        recipes.protocol("kt", {"cub": Row("-", 1.0), "cars": Row("-", 1.0)}, ["pets"])


def test_arguments_that_are_misspelt_are_told():
    table = dict.fromkeys(("cub,resnet50", "cars,resnet50", "sketchbirds"), Row("-", 1.0))
    for wrong, meant in (("sketchbrids", "sketchbirds"), ("cub,resnet5", "cub,resnet50")):
        with pytest.raises(
            UserError, match=f"^did you mean kt:{meant}\\? Else choose one of kt:cub"
        ):
            recipes.protocol("kt", table, wrong.split(","))
