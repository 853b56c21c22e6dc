#!/bin/sh
# Cancels the jobs whose ids are its arguments, when Snakemake is interrupted.
ids=$(IFS=,; echo "$*")
# Snakemake kills this script after two seconds, and a Ctrl-C is for all in the terminal. What
# runs in the background survives both.
ddmq cancel /scratch/mq snakemake "$ids" &
wait $!
