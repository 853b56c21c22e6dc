#!/bin/bash
@directives
#PBS -r y

cd "$PBS_O_WORKDIR" || exit 1
umask @umask
@chain
exec @command
