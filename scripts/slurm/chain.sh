#!/bin/bash
# A job that submits itself again when its time is over and messages are left: ten times at
# most. Submit it from the directory in which it is, with `sbatch chain.sh`.
#SBATCH --job-name=ddmq-chain
#SBATCH --account=CHANGE-ME
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@120

cd "$SLURM_SUBMIT_DIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# The worker reads these when it stops. (Slurm runs a copy of this script, hence the path.)
export DDMQ_CHAIN_LEFT="${DDMQ_CHAIN_LEFT:-10}"
export DDMQ_CHAIN_SCRIPT="$SLURM_SUBMIT_DIR/chain.sh" DDMQ_CHAIN_SCHEDULER=slurm
exec ddmq-worker --log-dir logs /scratch/mq jobs -- ./process.sh {}
