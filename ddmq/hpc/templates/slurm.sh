#!/bin/bash
@directives
#SBATCH --signal=B:USR1@@@warning

cd "$SLURM_SUBMIT_DIR" || exit 1
umask @umask
@chain
exec @command
