#!/bin/bash
# One job of four nodes: pbsdsh starts one worker on each, which knows nothing of this
# environment, hence the shell that makes it anew.
#PBS -N ddmq-nodes
#PBS -A CHANGE-ME
#PBS -l select=4:ncpus=16
#PBS -l walltime=02:00:00

cd "$PBS_O_WORKDIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

exec pbsdsh -- /bin/bash -c "cd '$PBS_O_WORKDIR' && umask 0022 && \
    export PATH='$PATH' && exec ddmq-worker -j 16 --time 01:55:00 --log-dir logs /scratch/mq jobs -- ./process.sh {}"
