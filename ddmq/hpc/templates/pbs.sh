#!/bin/bash
#PBS -r y
@directives

cd "$PBS_O_WORKDIR" || exit 1
umask @umask
@{chain}exec @command
