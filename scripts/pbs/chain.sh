#!/bin/bash
# A job that submits itself again when its time is over and messages are left: ten times at
# most. Submit it from the directory in which it is, with `qsub chain.sh`.
#PBS -N ddmq-chain
#PBS -A CHANGE-ME
#PBS -l select=1:ncpus=16
#PBS -l walltime=08:00:00

cd "$PBS_O_WORKDIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# The worker reads these when it stops.
export DDMQ_CHAIN_LEFT="${DDMQ_CHAIN_LEFT:-10}"
export DDMQ_CHAIN_SCRIPT="$PBS_O_WORKDIR/chain.sh" DDMQ_CHAIN_SCHEDULER=pbs
# A job may have no qsub on its PATH, but is told the PATH from which it was submitted.
DDMQ_CHAIN_COMMAND=$(PATH="$PATH:$PBS_O_PATH" command -v qsub)
export DDMQ_CHAIN_COMMAND
exec ddmq-worker --time 08:00:00 --log-dir logs /scratch/mq jobs -- ./process.sh {}
