#!/bin/bash
# Workers in a queue whose jobs may be pushed out. With requeueing they get a SIGTERM and
# some ten seconds; suspended ones keep their leases only as long as message_timeout.
#PBS -N ddmq-preemptible
#PBS -A CHANGE-ME
#PBS -q CHANGE-ME
#PBS -J 1-20
#PBS -l select=1:ncpus=16
#PBS -l walltime=02:00:00
#PBS -r y

cd "$PBS_O_WORKDIR" || exit 1
umask 0022
# Where ddmq-worker is, and all that your command calls: a job may start without your PATH.
export PATH="/CHANGE-ME/bin:$PATH"

exec ddmq-worker --time 02:00:00 --grace 5 --log-dir logs /scratch/mq jobs -- ./process.sh {}
