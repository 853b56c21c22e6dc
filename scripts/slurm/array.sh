#!/bin/bash
# Twenty workers, each on one node with 16 processors. They share the queue; each ends when
# it is empty. Copy this, edit it, and submit it with `sbatch array.sh`.
#SBATCH --job-name=ddmq
#SBATCH --account=CHANGE-ME
#SBATCH --array=1-20
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
# Two minutes before the end, the worker gives back what would not finish.
#SBATCH --signal=B:USR1@120

cd "$SLURM_SUBMIT_DIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# exec: so that Slurm's signals reach the worker, and not a shell in front of it.
exec ddmq-worker --log-dir logs /scratch/mq jobs -- ./process.sh {}
