#!/bin/bash
# One job of four nodes: srun starts one worker on each. The time limit is for all of them.
#SBATCH --job-name=ddmq-nodes
#SBATCH --account=CHANGE-ME
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
# Without B: the signal goes to the steps, that is to each worker.
#SBATCH --signal=USR1@120

cd "$SLURM_SUBMIT_DIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# srun hands on what the job has, but not --cpus-per-task, and with `sbatch --export=NONE` nothing
# unless it is told to.
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
exec srun --export=ALL --kill-on-bad-exit=0 ddmq-worker --log-dir logs /scratch/mq jobs -- ./process.sh {}
