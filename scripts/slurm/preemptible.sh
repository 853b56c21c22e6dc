#!/bin/bash
# Workers in a partition whose jobs may be pushed out at any time. Slurm requeues them, they
# go on where they were, and what they held counts as nothing.
#SBATCH --job-name=ddmq-preemptible
#SBATCH --account=CHANGE-ME
#SBATCH --partition=CHANGE-ME
#SBATCH --array=1-20
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# A batch shell hears of a preemption only when its grace ends, unless the cluster has
# PreemptParameters=send_user_signal: then this is the signal.
#SBATCH --signal=B:USR1@60

cd "$SLURM_SUBMIT_DIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# A short grace: the sooner a message is given back, the sooner another worker has it.
exec ddmq-worker --grace 5 --log-dir logs /scratch/mq jobs -- ./process.sh {}
