#!/bin/bash
#SBATCH --signal=B:USR1@@@warning
@directives

cd "$SLURM_SUBMIT_DIR" || exit 1
umask @umask
@{chain}exec @command
