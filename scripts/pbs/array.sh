#!/bin/bash
# Twenty workers, each on one node with 16 processors. They share the queue; each ends when
# it is empty. Copy this, edit it, and submit it with `qsub array.sh`.
#PBS -N ddmq
#PBS -A CHANGE-ME
#PBS -J 1-20
#PBS -l select=1:ncpus=16
#PBS -l walltime=02:00:00
#PBS -r y

# PBS starts jobs in the home directory, without your environment (`#PBS -V` would hand it on),
# with a umask that locks out the group.
cd "$PBS_O_WORKDIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# PBS does not tell a job when it ends: --time must be the walltime.
exec ddmq-worker --time 02:00:00 --log-dir logs /scratch/mq jobs -- ./process.sh {}
