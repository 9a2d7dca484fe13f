#!/usr/bin/env bash
# Trains with several processes under Slurm, one for each GPU (JAX finds its peers by itself):
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --time=4:00:00 scripts/launch/slurm.sh \
#       --config kt:cub,resnet50 --data.source cub:/data/CUB_200_2011 --workdir /shared/runs/kt
#
# Run it where the package is installed, or name a Python that has it: PYTHON=.venv/bin/python.
# A job that is preempted, or whose time is nearly up, saves, ends with 143 and waits in the queue
# again; whatever else ends it, the same sbatch continues. A job that is cancelled stays cancelled.
#
# A study is an array of such jobs without the processes, which share its runs:
#   sbatch --array=1-8 --wrap "python scripts/study.py scripts/studies/kt.py --workdir /shared/kt"
#
# Tried: Slurm 22.05 (Debian), one machine without GPUs, 2 and 4 processes: preempted by a partition
# of higher priority with GraceTime, a process killed, cancelled; all ended bit for bit as undisturbed.
# Not tried: several machines, GPUs, a time limit.
#SBATCH --job-name=fgvc_jax
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
trap 'exit 143' TERM # scancel: end here, once srun has ended

# All processes end when one does, after what they save: Slurm need not kill them for it.
srun --kill-on-bad-exit=0 "${PYTHON:-python}" -m fgvc_jax.train --distributed True "$@"
code=$?
[ "$code" -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
