#!/bin/bash
# One message for each line of files.txt. Workers can start before, at the same time or
# later: `qsub -W depend=afterok:JOBID array.sh` starts them when this is done.
#PBS -N ddmq-publish
#PBS -A CHANGE-ME
#PBS -l select=1:ncpus=1
#PBS -l walltime=00:10:00

cd "$PBS_O_WORKDIR" || exit 1
umask 0022
# Where ddmq is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

exec ddmq publish -f /scratch/mq jobs --from-file files.txt
