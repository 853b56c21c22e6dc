#!/bin/bash
# Twenty workers, each on one node with 16 processors (of the parallel environment that your
# site calls so). They share the queue; each ends when it is empty. Submit: `qsub array.sh`.
#$ -N ddmq
#$ -S /bin/bash
#$ -cwd
#$ -t 1-20
#$ -pe smp 16
#$ -l h_rt=02:00:00
# Without -notify a job is killed at once when its time is over or it is deleted.
#$ -notify
#$ -r y

# SGE leaves your environment behind; `#$ -V` would hand it on.
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

# SGE does not tell a job when it ends: --time must be h_rt.
exec ddmq-worker --time 02:00:00 --log-dir logs /scratch/mq jobs -- ./process.sh {}
