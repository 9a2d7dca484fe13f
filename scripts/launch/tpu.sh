#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU VM slice (JAX finds its peers by itself):
#
#   scripts/launch/tpu.sh NAME ZONE --config kt:cub,resnet50 --data.source cub:/mnt/CUB_200_2011 \
#       --workdir /mnt/runs/kt
#
# The package is installed on every host, with jax[tpu]; the workdir and the data are in a folder that
# all hosts mount. Whatever ends it, the same line continues.
#
# Not tried: no TPU was at hand. What it starts was tried with processes on one machine (slurm.sh).
set -euo pipefail
name=${1:?NAME of the TPU VM} zone=${2:?its ZONE}
shift 2
command=$(printf '%q ' python3 -m fgvc_jax.train --distributed True "$@")
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
