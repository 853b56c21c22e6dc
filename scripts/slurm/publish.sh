#!/bin/bash
# One message for each line of files.txt. Workers can start before, at the same time or
# later: `sbatch --dependency=afterok:JOBID array.sh` starts them when this is done.
#SBATCH --job-name=ddmq-publish
#SBATCH --account=CHANGE-ME
#SBATCH --ntasks=1
#SBATCH --time=00:10:00

cd "$SLURM_SUBMIT_DIR" || exit 1
umask 0022
# Where ddmq is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

exec ddmq publish -f /scratch/mq jobs --from-file files.txt
